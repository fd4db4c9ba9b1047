"""What is told of a comparison while it goes on, with the time that is left; the clock is a number."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from switch_ema.bench.integrity import NOTHING
from switch_ema.bench.methods import parse_methods
from switch_ema.bench.plan import Trajectory, plan
from switch_ema.bench.progress import LiveProgress, epochs_left
from switch_ema.bench.request import request
from switch_ema.bench.results import Row, Store

PLAN = plan(parse_methods("baseline,ema"), [0.1], range(4))
EPOCHS = 3


class Told:
    """A progress on paper: an epoch takes ten seconds."""

    def __init__(self, done: int = 0, *, terminal: bool = False) -> None:
        self._paper = io.StringIO()
        self._now = 1000.0
        self._progress = LiveProgress(Console(file=self._paper, force_terminal=terminal, width=120), lambda: self._now)
        with self._progress:
            self._progress.begin(PLAN, done, EPOCHS)

    def train(self, trajectory: Trajectory, epochs: Sequence[int] = (1, 2, 3), seconds: float = 10.0) -> None:
        for epoch in epochs:
            self._now += seconds
            self._progress.epoch(trajectory, epoch, [_row(epoch)])

    @property
    def lines(self) -> list[str]:
        return self._paper.getvalue().splitlines()


def _row(epoch: int) -> Row:
    return Row("t", "d", "m", "ema", 0.1, 0, epoch, epoch, "test", "accuracy", 0.5, True, 1.0)


def test_every_line_tells_the_time_left() -> None:
    told = Told()
    for trajectory in PLAN:
        told.train(trajectory)
    names = [trajectory.name for trajectory in PLAN]
    assert told.lines == [
        "4 training runs of 3 epochs",
        f"[1/4] {names[0]} (30 s, about 2 min left): ema 0.5",
        f"[2/4] {names[1]} (60 s, about 60 s left): ema 0.5",
        f"[3/4] {names[2]} (90 s, about 30 s left): ema 0.5",
        f"[4/4] {names[3]} (120 s): ema 0.5",
    ]


def test_what_was_trained_before_takes_no_time_and_is_not_left() -> None:
    told = Told(done=1)
    told.train(PLAN[1], [3])  # two of its epochs were trained before it was broken off
    told.train(PLAN[2])
    first, second = told.lines[1:]
    assert "(10 s, about 60 s left)" in first
    assert "(40 s, about 30 s left)" in second


def test_runs_side_by_side_share_the_time() -> None:
    told = Told()
    for epoch in (1, 2, 3):
        told.train(PLAN[0], [epoch], seconds=20)
        told.train(PLAN[1], [epoch], seconds=0)
    assert "(60 s, about 60 s left)" in told.lines[-1]


def test_a_run_that_starts_anew_leaves_no_nonsense() -> None:
    told = Told()
    told.train(PLAN[0], [2, 1, 2, 3])
    assert "left" in told.lines[-1]
    told = Told()
    told.train(PLAN[0], [3, 1])
    told.train(PLAN[1], [3])
    assert "about -" not in "".join(told.lines)


def test_a_terminal_shows_it_in_the_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    told = Told(terminal=True)
    bar = told._progress._bar
    update = bar.update

    def watch(task: object, **fields: object) -> None:
        shown.append(str(fields["left"]))
        update(task, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(bar, "update", watch)
    told.train(PLAN[0])
    assert shown == ["about 2 min left"] * 3
    assert bar.get_renderable() is not None
    assert any("(30 s): ema 0.5" in line for line in told.lines)


def test_epochs_left_of_a_comparison(tmp_path: Path) -> None:
    given = {"methods": "baseline,ema,sema", "seeds": "2", "epochs": "5", "lr": "0.1,0.2"}
    settings, store = request("classification", given, {}), Store(tmp_path / "x")
    assert epochs_left(settings, store) == 2 * 2 * 2 * 5
    store.folder.mkdir()
    store.begin({"asked": {}, "trajectories": [{"name": name} for name in "abcde"]})  # controls are among them
    store.finish("a", NOTHING)
    assert epochs_left(settings, store) == 4 * 5
