"""Live progress on a terminal, and one line per finished trajectory in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from switch_ema.bench.plan import Trajectory, plan
from switch_ema.bench.results import Row, Store
from switch_ema.bench.settings import Settings
from switch_ema.bench.timing import Estimate


class Silent:
    """Tells nobody."""

    def begin(self, plan: Sequence[Trajectory], done: int, epochs: int) -> None:
        """Show nothing."""

    def epoch(self, trajectory: Trajectory, epoch: int, rows: Sequence[Row]) -> None:
        """Show nothing."""


class LiveProgress:
    """Shows how far a comparison is: a bar where there is a terminal, otherwise a line per trajectory.

    Args:
        console: Where to write.
        clock: Tells the time, in seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._estimate = Estimate(0, clock)
        self._total = self._before = self._epochs = 0
        self._reached: dict[str, int] = {}  # epoch of each trajectory: on a cluster they run side by side

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, plan: Sequence[Trajectory], done: int, epochs: int) -> None:
        """Show the plan."""
        self._total, self._before, self._epochs = len(plan), done, epochs
        self._estimate = Estimate((len(plan) - done) * epochs, self._clock)
        self._task = self._bar.add_task("training", total=len(plan) * epochs, completed=done * epochs, left="")
        before = f", {done} of them finished before" if done else ""
        runs = f"{len(plan)} training {'run' if len(plan) == 1 else 'runs'}"
        self._console.print(f"{runs} of {epochs} {'epoch' if epochs == 1 else 'epochs'}{before}", highlight=False)

    def epoch(self, trajectory: Trajectory, epoch: int, rows: Sequence[Row]) -> None:
        """Show an epoch."""
        if trajectory.name not in self._reached:  # what was trained before it was broken off tells nothing of the time
            self._estimate.leave_out(epoch - 1)
        self._estimate.count(epoch - self._reached.get(trajectory.name, epoch - 1))
        self._reached[trajectory.name] = epoch
        completed = self._before * self._epochs + sum(self._reached.values())
        self._bar.update(self._task, completed=completed, description=trajectory.name, left=self._estimate.left())
        if epoch == self._epochs:
            finished = self._before + sum(reached == self._epochs for reached in self._reached.values())
            last = ", ".join(f"{row.method} {row.value:.4g}" for row in _headline(rows))
            live = self._console.is_terminal  # the bar tells the time left
            times = f"{self._estimate.elapsed:.0f} s" if live else self._estimate.times()
            line = f"[{finished}/{self._total}] {trajectory.name} ({times}): {last or 'diverged'}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _headline(rows: Sequence[Row]) -> list[Row]:
    """Return each method's first test metric."""
    first: dict[str, Row] = {}
    for row in rows:
        if row.split == "test" and row.value is not None:
            first.setdefault(row.method, row)
    return list(first.values())


def epochs_left(settings: Settings, store: Store) -> int:
    """Return how many epochs of a comparison are in training runs that have not ended.

    Args:
        settings: What is asked.
        store: Its run folder. Learning-rate controls count once it has begun.

    Raises:
        InputError: Its files are damaged.
    """
    if store.run_path.exists():
        planned = len(store.record()["trajectories"])
    else:
        planned = len(plan(settings.parsed_methods(), settings.lr, range(settings.seeds)))
    return (planned - len(store.done())) * settings.epochs
