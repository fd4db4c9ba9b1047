"""Trainings on two processes; `python -m tests.integrations.lightning_ranks FOLDER`, called once for all tests."""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from switch_ema import LAWA, Averager, SwitchEMA
from switch_ema.integrations.lightning import WeightAveraging
from switch_ema.integrations.whole import whole
from tests.integrations.lightning_modules import Module, trainer
from tests.integrations.modules import Loader, assert_same, batches

SWITCH = partial(SwitchEMA, decay=0.9, switch_every="0.4 epoch")


class Plain(Module):
    """Without batch normalization, whose statistics differ by process."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(*(layer for layer in self.net if not isinstance(layer, nn.BatchNorm1d)))


class Sharded(Plain):
    """Each process has its shards."""

    def configure_model(self) -> None:
        if not isinstance(self.net[0].weight, torch.distributed.tensor.DTensor):
            sharded = fully_shard(self.net, mesh=cast(Any, self.device_mesh)["data_parallel"])
            sharded.set_force_sum_reduction_for_comms(True)  # gloo of torch 2.8 has no mean


def train(folder: Path, strategy: Any, module: Module, method: Any, epochs: int, **given: Any) -> tuple[Trainer, Any]:
    callback = WeightAveraging(method)
    trains = trainer(folder, callback, strategy=strategy, devices=2, use_distributed_sampler=False, max_epochs=epochs)
    trains.fit(module, Loader(batches(seed=1 + trains.global_rank)), Loader(batches(1)), **given)
    return trains, callback


def assert_ranks_equal(state: dict[str, Tensor]) -> None:
    for name, value in state.items():
        theirs = value.detach().clone()
        dist.broadcast(theirs, 0)
        assert torch.equal(theirs, value), name


def ddp(folder: Path) -> None:
    def strategy() -> Any:
        return DDPStrategy(process_group_backend="gloo")

    expected = Plain()
    _, whole_run = train(folder, strategy(), expected, SWITCH, 2)
    assert_ranks_equal(dict(expected.state_dict()))
    assert_ranks_equal(whole_run.averager.state_dict()["averages"])
    assert (whole_run.averager.n_averaged, whole_run.averager.n_switches) == (10, 5)
    trains, _ = train(folder, strategy(), Plain(), SWITCH, 1)
    trains.save_checkpoint(folder / "ddp.ckpt")
    module = Plain()
    _, callback = train(folder, strategy(), module, SWITCH, 2, ckpt_path=folder / "ddp.ckpt")
    assert_same(module.state_dict(), expected.state_dict())
    assert_same(callback.averager.state_dict(), whole_run.averager.state_dict())


def sharded(folder: Path, *, distributed: bool, method: Any) -> None:
    def strategy() -> Any:
        return ModelParallelStrategy(2, 1, save_distributed_checkpoint=distributed, process_group_backend="gloo")

    path = folder / f"sharded-{distributed}.ckpt"
    expected = Sharded()
    _, whole_run = train(folder, strategy(), expected, method, 2)
    assert isinstance(whole_run.averager, Averager)
    trains, first = train(folder, strategy(), Sharded(), method, 1)
    average = whole(first.averager.averaged_state_dict())
    trains.save_checkpoint(path)
    module = Sharded()
    _, callback = train(folder, strategy(), module, method, 2, ckpt_path=path)
    assert_same(whole(dict(module.state_dict())), whole(dict(expected.state_dict())))
    assert_same(whole(callback.averager.state_dict()), whole(whole_run.averager.state_dict()))
    if not distributed:
        plain = Plain.load_from_checkpoint(path, weights_only=True)
        assert_same(dict(plain.state_dict()), average)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    ddp(place)
    sharded(place, distributed=True, method=partial(LAWA, window=2))
    sharded(place, distributed=False, method=SWITCH)
    (place / f"passed{dist.get_rank()}").touch()
