"""Weights & Biases: a run for each of ours, offline unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when wandb is imported

import wandb

from switch_ema.bench.loggers.logger import LoggedRun, by_epoch
from switch_ema.bench.results import Row

_PROJECT = "switch-ema"


class WeightsAndBiases:
    """Writes below ``wandb/``; what is written offline is sent by ``wandb sync FOLDER/wandb/offline-run-*``.

    A run is written when it is finished: offline, one that is continued would lie in two folders.

    Args:
        home: The folder that is looked at.
    """

    whole = True

    def __init__(self, home: Path) -> None:
        self._home = home

    def log(self, run: LoggedRun, rows: Iterable[Row], finished: bool) -> None:
        """Write a whole run."""
        self._home.mkdir(parents=True, exist_ok=True)
        mode: Any = os.environ.get("WANDB_MODE") or "offline"
        made = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            group=run.group,
            id=run.identity,
            name=run.key,
            config=run.settings,
            dir=str(self._home),
            mode=mode,
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        for first, metrics in by_epoch(rows):
            made.log(metrics, step=first.epoch)
        made.finish()

    def close(self) -> None:
        """Nothing is open between runs."""
