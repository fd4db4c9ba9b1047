"""Our side of a benchmark of training: what `sema compare` trains for its first method, without averages."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from switch_ema.bench.methods import parse_methods
from switch_ema.bench.plan import plan
from switch_ema.bench.request import request
from switch_ema.tasks.catalog import create

if TYPE_CHECKING:
    from switch_ema.bench.settings import Settings
    from switch_ema.bench.train import Run

_ENDLESS = {"epochs": 100_000, "schedule": "constant", "warmup_epochs": 0}


def baseline_settings(task: str, given: Mapping[str, Any], options: Mapping[str, str]) -> Settings:
    """Return the settings of a plain run at a constant learning rate.

    Args:
        task: Name of the task.
        given: Settings by name; the task's own stand for the others.
        options: Options of the task.

    Raises:
        InputError: Something asked for is wrong, or the data are not there.
    """
    return request(task, {**_ENDLESS, **given}, options)


def baseline_run(settings: Settings, device: torch.device, steps: int) -> Run:
    """Return the plain training run of a comparison; call its `train_epoch`.

    Args:
        settings: What to train.
        device: Where to train.
        steps: Optimizer steps in an epoch.
    """
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    from lightning.fabric import Fabric

    from switch_ema.bench.train import Run

    fabric = Fabric(accelerator=device.type, devices=1, precision=settings.precision)
    task = create(settings.task, seed=0, data=settings.data, model=settings.model, options=settings.task_options)
    (trajectory,) = plan(parse_methods("baseline"), settings.lr, range(1))
    return Run(fabric, task, trajectory, settings, steps)
