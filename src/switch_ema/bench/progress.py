"""Live progress on a terminal, and one line per finished trajectory in a log file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from switch_ema.bench.plan import Trajectory
from switch_ema.bench.results import Row


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
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._started = time.monotonic()
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
        self._started = time.monotonic()
        self._task = self._bar.add_task("training", total=len(plan) * epochs, completed=done * epochs)
        before = f", {done} of them finished before" if done else ""
        runs = f"{len(plan)} training {'run' if len(plan) == 1 else 'runs'}"
        self._console.print(f"{runs} of {epochs} {'epoch' if epochs == 1 else 'epochs'}{before}", highlight=False)

    def epoch(self, trajectory: Trajectory, epoch: int, rows: Sequence[Row]) -> None:
        """Show an epoch."""
        self._reached[trajectory.name] = epoch
        completed = self._before * self._epochs + sum(self._reached.values())
        self._bar.update(self._task, completed=completed, description=trajectory.name)
        if epoch == self._epochs:
            finished = self._before + sum(reached == self._epochs for reached in self._reached.values())
            last = ", ".join(f"{row.method} {row.value:.4g}" for row in _headline(rows))
            elapsed = time.monotonic() - self._started
            line = f"[{finished}/{self._total}] {trajectory.name} ({elapsed:.0f} s): {last or 'diverged'}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _headline(rows: Sequence[Row]) -> list[Row]:
    """Return each method's first test metric."""
    first: dict[str, Row] = {}
    for row in rows:
        if row.split == "test" and row.value is not None:
            first.setdefault(row.method, row)
    return list(first.values())
