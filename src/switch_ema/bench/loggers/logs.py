"""What has been logged and what has not: trackers follow the rows of a comparison, and a lost tracker loses no run.

``logged.json`` keeps for every tracker the last epoch of every run that it holds, so nothing is logged twice when a
broken-off comparison goes on, and a tracker that comes later gets what was measured before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from switch_ema.bench.compare import Progress
from switch_ema.bench.files import write_json
from switch_ema.bench.loggers.logger import LoggedRun, Logger
from switch_ema.bench.plan import Trajectory
from switch_ema.bench.results import Row, read_run
from switch_ema.errors import InputError

FILE = "logged.json"
_CLASSES = {"tensorboard": "TensorBoard", "mlflow": "MLflow", "wandb": "WeightsAndBiases"}
Measurement = tuple[str, float, int, int]
"""Method, learning rate, seed and epoch of rows."""

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


class Logs:
    """The trackers of a comparison or study.

    Args:
        names: Their names, checked by `switch_ema.bench.loggers.names.parse_loggers`.
        home: The folder that their files go to.
        tell: Is told when one of them fails, in one line.
    """

    def __init__(self, names: Sequence[str], home: Path, tell: Callable[[str], None]) -> None:
        first = all(os.environ.get(rank, "0") == "0" for rank in _RANKS)  # of several processes one logs
        self._names = list(names) if first else []
        self._home = home
        self._tell = tell
        self._open: dict[str, Logger] = {}
        self._records: dict[Path, Mapping[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for folder in list(self._records):
            self.catch_up(folder)
        for name, logger in list(self._open.items()):
            self._guarded(name, logger.close)

    def catch_up(self, folder: Path) -> set[Measurement]:
        """Log all measurements of a comparison that have not been logged.

        Args:
            folder: Its run folder; nothing is done where nothing has been measured.

        Returns:
            What the folder holds.
        """
        if not self._names:
            return set()
        try:
            self._records[folder], found = read_run(folder)
        except InputError:  # a damaged folder is the business of those who need it
            return set()
        rows = [Row(**row) for row in found]
        self.log(folder, rows)
        return set(map(_measurement, rows))

    def log(self, folder: Path, rows: Iterable[Row]) -> None:
        """Log those of some measurements that have not been logged.

        Args:
            folder: The run folder, which has been caught up.
            rows: The measurements; those of one run in rising order.
        """
        record = self._records.get(folder)
        if not self._names or record is None:
            return
        by_run: dict[tuple[str, float, int], list[Row]] = {}
        for row in rows:
            by_run.setdefault((row.method, row.lr, row.seed), []).append(row)
        for key, own in by_run.items():
            run = LoggedRun(folder.resolve().name, *key, record)
            for name in list(self._names):
                self._guarded(name, partial(self._log_run, name, folder, run, own))

    def _log_run(self, name: str, folder: Path, run: LoggedRun, rows: Sequence[Row]) -> None:
        held = _read_held(folder)
        last = held.setdefault(name, {}).get(run.key, 0)
        new = [row for row in rows if row.epoch > last]
        finished = rows[-1].epoch == run.record["asked"]["epochs"]
        logger = self._opened(name)
        if new and (finished or not logger.whole):
            logger.log(run, new, finished)
            held[name][run.key] = rows[-1].epoch
            write_json(folder / FILE, held)

    def _opened(self, name: str) -> Logger:
        if name not in self._open:
            module = import_module(f"switch_ema.bench.loggers.{name}")
            self._open[name] = getattr(module, _CLASSES[name])(self._home)
        return self._open[name]

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        """Call a tracker; one that fails is told of and left out from then on: what is measured stands in the rows."""
        try:
            call()
        except Exception as error:
            self._names = [each for each in self._names if each != name]
            self._open.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            self._tell(f"--log {name} failed: {reason}; the run goes on, and the same command logs what is left out")


def _measurement(row: Row) -> Measurement:
    return row.method, row.lr, row.seed, row.epoch


def _read_held(folder: Path) -> dict[str, dict[str, int]]:
    """Return the last epoch of every run that each tracker holds."""
    path = folder / FILE
    held: dict[str, dict[str, int]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return held


class LoggedProgress:
    """Tells trackers what a progress is told.

    Args:
        inner: The progress.
        logs: The trackers.
        folder: The run folder.
    """

    def __init__(self, inner: Progress, logs: Logs, folder: Path) -> None:
        self._inner = inner
        self._logs = logs
        self._folder = folder
        self._followed: set[str] = set()
        self._epochs = 0

    def begin(self, plan: Sequence[Trajectory], done: int, epochs: int) -> None:
        """Pass the plan on."""
        self._inner.begin(plan, done, epochs)
        self._epochs = epochs

    def epoch(self, trajectory: Trajectory, epoch: int, rows: Sequence[Row]) -> None:
        """Log an epoch, and at the first and last that this process trains of a run all that is not logged yet.

        A run in a part of its own (on a cluster) is followed from its first epoch on, or logged when that has joined.
        """
        self._inner.epoch(trajectory, epoch, rows)
        if epoch == self._epochs or trajectory.name not in self._followed:
            held = self._logs.catch_up(self._folder)
            if epoch > 1 and not held.issuperset(map(_measurement, rows)):
                return
            self._followed.add(trajectory.name)
        if epoch < self._epochs:
            self._logs.log(self._folder, rows)
