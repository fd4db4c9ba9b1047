"""TensorBoard: an event file for each run, with its settings for the page of hyperparameters."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # its `api` would import TensorFlow
from torch.utils.tensorboard import SummaryWriter

from switch_ema.bench.loggers.logger import LoggedRun, by_epoch
from switch_ema.bench.results import Row


class TensorBoard:
    """Writes below ``tensorboard/``; to be looked at with ``tensorboard --logdir FOLDER``.

    Args:
        home: The folder that is looked at.
    """

    whole = False

    def __init__(self, home: Path) -> None:
        self._home = home / "tensorboard"
        self._writers: dict[str, SummaryWriter] = {}

    def log(self, run: LoggedRun, rows: Iterable[Row], finished: bool) -> None:
        """Write measurements by epoch, at the time that training had taken by then."""
        writer = self._writer(run)
        for first, metrics in by_epoch(rows):
            for name, value in metrics.items():
                writer.add_scalar(name, value, first.epoch, walltime=run.started + first.seconds)
        writer.flush()
        if finished:
            self._writers.pop(run.identity).close()

    def _writer(self, run: LoggedRun) -> SummaryWriter:
        if run.identity not in self._writers:
            folder = self._home / run.group / run.path
            new = not folder.exists()
            writer = self._writers[run.identity] = SummaryWriter(str(folder))
            if new:
                cast(Any, writer.file_writer).add_summary(hparams_pb(run.settings, run.identity, run.started))
        return self._writers[run.identity]

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
