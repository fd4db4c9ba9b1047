"""A training of the Trainer in one of several processes, for test_transformers_ddp.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.integrations.test_transformers import Net, averaged, train, trainer_of


def train_together(folder: Path) -> None:
    rank, size = str(dist.get_rank()), str(dist.get_world_size())
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    options: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": 1,
        "gradient_accumulation_steps": 1,
        "ddp_backend": "gloo",
    }
    trainer = trainer_of(folder, **options)
    whole = averaged(trainer)
    train(trainer)
    assert trainer.accelerator.num_processes == 2
    assert (whole.averager.n_averaged, whole.averager.n_switches) == (9, 3)
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    both = [torch.empty_like(weights) for _ in range(2)]
    dist.all_gather(both, weights)
    assert torch.equal(*both)

    again = trainer_of(folder, Net(seed=1), **options)
    resumed = averaged(again)
    train(again, resume_from_checkpoint=str(folder / "checkpoint-4"))
    assert resumed.averager.n_averaged == 9
    for name, value in trainer.model.named_parameters():
        assert torch.equal(again.model.get_parameter(name), value)
