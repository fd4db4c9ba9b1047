"""What each of two processes does in the tests of models in parts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from switch_ema.bench import sharding, train
from switch_ema.bench.checkpoint import write_checkpoint
from switch_ema.bench.compare import compare, make_fabric, prepare
from switch_ema.bench.machine import quiet
from switch_ema.bench.plan import Trajectory, plan
from switch_ema.bench.request import make_task, request
from switch_ema.bench.results import Row
from switch_ema.bench.settings import Settings

METHODS = "ema:decay=0.9,swa,lawa,lookahead:k=2,sema:decay=0.9,posthoc,sam"
ROWS_OF = ("method", "seed", "epoch", "split", "metric", "value")


class Killed(BaseException):
    """Ends the processes at once, as far as the code can tell."""


class Silent:
    """A listener that may end the process after an epoch of a method."""

    def __init__(self, last: tuple[str, int] | None = None) -> None:
        self._last = last

    def begin(self, plan: Sequence[Trajectory], done: int, epochs: int) -> None:
        """Hear that the plan stands."""

    def epoch(self, trajectory: Trajectory, epoch: int, rows: Sequence[Row]) -> None:
        """Hear that an epoch is done."""
        if self._last == (trajectory.name, epoch):
            raise Killed


def settings(**changes: Any) -> Settings:
    given = {"model": "mlp", "batch_size": 32, "epochs": 4, "seeds": 1, "methods": METHODS, "accelerator": "cpu"}
    given |= {"momentum": 0.9, "clip_norm": 1.0}
    return request("classification", {**given, **changes}, {"train_size": "96"})


def rows(folder: Path) -> list[tuple[Any, ...]]:
    """Return all measurements but for the seconds."""
    lines = map(json.loads, (folder / "rows.jsonl").read_text().splitlines())
    return [tuple(row[name] for name in ROWS_OF) for row in lines]


def sharded(folder: Path, last: tuple[str, int] | None = None, **changes: Any) -> None:
    """Train, with a checkpoint after every epoch, as one of the processes of one machine."""
    rank, size = map(str, (dist.get_rank(), dist.get_world_size()))
    of_torchrun = {"TORCHELASTIC_RUN_ID": "", "RANK": rank, "LOCAL_RANK": rank, "GROUP_WORLD_SIZE": "1"}
    os.environ |= of_torchrun | {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "", "MASTER_PORT": "0"}
    asked = settings(strategy="fsdp2", devices=int(size), **changes)
    quiet()
    prepare(asked, folder)
    with patch.object(train, "_CHECKPOINT_SECONDS", 0.0), suppress(Killed):
        compare(asked, folder, "sema", Silent(last))


def killed_while_writing(folder: Path, when: int) -> None:
    """End the processes when each has written its part for the checkpoint of an epoch."""

    def killing(path: Path, state: Any) -> str:
        checksum = write_checkpoint(path, state)
        if path.name.startswith(f"checkpoint-{when}-"):
            raise Killed
        return checksum

    with patch.object(sharding, "write_checkpoint", killing):
        sharded(folder)


def disk_full_on_one(folder: Path, when: int) -> None:
    """Have the second process fail to write its part: all say so."""

    def failing(path: Path, state: Any) -> str:
        if path.name == f"checkpoint-{when}-1.pt":
            raise OSError(28, "No space left on device", str(path))
        return write_checkpoint(path, state)

    with patch.object(sharding, "write_checkpoint", failing), pytest.raises(OSError, match=r"No space left.*-1\.pt"):
        sharded(folder)


def refused(folder: Path, message: str) -> None:
    """See that all processes say the same in one line."""
    with pytest.raises(ValueError, match=message) as caught:
        sharded(folder)
    assert "\n" not in str(caught.value)


def other_folders(folder: Path) -> None:
    """See that processes do not go on where each has a folder of its own."""
    with patch("switch_ema.bench.processes._PATIENCE_SECONDS", 0.5):
        refused(folder / str(dist.get_rank()), r"is not the same folder on all machines \(process 1 ")


def every_process_has_a_part() -> None:
    """See that nobody holds a whole model, average or momentum, and that methods of the model can be called."""
    asked = settings(strategy="fsdp2", devices=dist.get_world_size(), methods="ema:decay=0.9")
    fabric = make_fabric(asked)
    task = make_task(asked, 0)
    trajectory = plan(asked.parsed_methods(), asked.lr, range(1))[0]
    run = train.Run(fabric, task, trajectory, asked, 3)
    run.train_epoch()
    assert all(isinstance(module, FSDPModule) for module in [run.module, *sharding.blocks(run.module)])
    assert sharding.blocks(run.module)
    held: list[torch.Tensor] = [*run.module.parameters()]
    held += [t for state in run.raw_optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    averager = next(a for a in run.averagers.values() if a is not None)
    held += averager.state_dict()["averages"].values()
    for tensor in held:
        assert isinstance(tensor, DTensor)
        assert 2 * tensor.to_local().numel() <= tensor.numel() + tensor[0].numel()
    with sharding.gathered(run.module):
        assert not any(isinstance(p, DTensor) for p in _own(run.module))
    assert all(isinstance(p, DTensor) for p in _own(run.module))


def _own(model: nn.Module) -> list[nn.Parameter]:
    inner = {id(p) for block in sharding.blocks(model) for p in block.parameters()}
    return [p for p in model.parameters() if id(p) not in inner]


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if re.match(r"\.?checkpoint", path.name))
