"""Trackers hold every measurement once, whatever happened on the way; and a lost tracker loses no run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from switch_ema.bench.compare import compare as run_comparison
from switch_ema.bench.loggers import logs as logs_module
from switch_ema.bench.loggers.logger import LoggedRun
from switch_ema.bench.loggers.logs import LoggedProgress, Logs
from switch_ema.bench.loggers.names import parse_loggers
from switch_ema.bench.plan import Trajectory
from switch_ema.bench.progress import Silent
from switch_ema.bench.request import request
from switch_ema.bench.results import Row, read_run
from switch_ema.errors import InputError
from tests.bench.loggers.readback import Held, expected, read_tensorboard
from tests.bench.sample import make_run, save_run
from tests.conftest import Sema

SMALL = ("--model", "mlp", "--train-size", "96", "--batch-size", "32", "--epochs", "3", "--seeds", "1")
COMMAND = ("compare", "classification", *SMALL, "--methods", "ema:decay=0.8,sema:decay=0.8")


class Recorder:
    """A tracker in memory."""

    made: list[Recorder] = []  # noqa: RUF012
    fails_after = 10**9

    def __init__(self, home: Path, whole: bool = False) -> None:
        self.whole = whole
        self.calls: list[tuple[str, list[int], bool]] = []
        self.rows: list[Row] = []
        Recorder.made.append(self)

    def log(self, run: LoggedRun, rows: Sequence[Row], finished: bool) -> None:
        if len(self.calls) >= Recorder.fails_after:
            raise OSError(28, "No space left\non device")
        self.calls.append((run.key, sorted({row.epoch for row in rows}), finished))
        self.rows += rows

    def close(self) -> None:
        pass


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    Recorder.made = []
    monkeypatch.setattr(Recorder, "fails_after", 10**9)
    monkeypatch.setattr(logs_module, "import_module", lambda _: sys.modules[__name__])
    monkeypatch.setattr(logs_module, "_CLASSES", {"tensorboard": "Recorder", "wandb": "Whole"})
    return Recorder


def Whole(home: Path) -> Recorder:  # noqa: N802
    return Recorder(home, whole=True)


class StopError(Exception):
    pass


class Stopping(Silent):
    """Stops training after so many epochs."""

    def __init__(self, left: int) -> None:
        self.left = left

    def epoch(self, trajectory: Trajectory, epoch: int, rows: Sequence[Row]) -> None:
        self.left -= 1
        if self.left < 0:
            raise StopError


def train(folder: Path, log: str, *, stop_after: int = 10**9, told: list[str] | None = None) -> None:
    given = {"model": "mlp", "batch_size": "32", "epochs": "3", "seeds": "1", "methods": "ema:decay=0.8,sema:decay=0.8"}
    settings = request("classification", given, {"train_size": "96"})
    with Logs(parse_loggers(log), folder, (told if told is not None else []).append) as logs:
        run_comparison(settings, folder, "sema compare", LoggedProgress(Stopping(stop_after), logs, folder))


def held(recorders: Sequence[Recorder]) -> Held:
    return expected([vars(row) for recorder in recorders for row in recorder.rows])


def test_every_measurement_is_logged_as_it_comes(recorder: type[Recorder], tmp_path: Path) -> None:
    train(tmp_path / "x", "tensorboard")
    assert held(recorder.made) == expected(read_run(tmp_path / "x")[1])
    [only] = recorder.made
    epochs = [(key, epochs, finished) for key, epochs, finished in only.calls if key.startswith("ema")]
    assert epochs == [("ema:decay=0.8 lr=0.05 seed=0", [n], n == 3) for n in (1, 2, 3)]


def test_a_tracker_of_whole_runs_gets_them_whole(recorder: type[Recorder], tmp_path: Path) -> None:
    train(tmp_path / "x", "wandb")
    [only] = recorder.made
    assert [(epochs, finished) for _, epochs, finished in only.calls] == [([1, 2, 3], True)] * 3
    assert held(recorder.made) == expected(read_run(tmp_path / "x")[1])


@pytest.mark.parametrize(
    ("log", "stop_after"), [("tensorboard", n) for n in (0, 2, 3, 4)] + [("wandb", n) for n in (1, 4)]
)
def test_what_is_broken_off_and_continued_is_logged_once(
    recorder: type[Recorder], tmp_path: Path, log: str, stop_after: int
) -> None:
    with pytest.raises(StopError):
        train(tmp_path / "x", log, stop_after=stop_after)
    train(tmp_path / "x", log)
    assert held(recorder.made) == expected(read_run(tmp_path / "x")[1])


@pytest.mark.parametrize("stop_after", [4])
def test_a_tracker_that_comes_later_gets_what_was_measured_before(
    recorder: type[Recorder], tmp_path: Path, stop_after: int
) -> None:
    with pytest.raises(StopError):
        train(tmp_path / "x", "", stop_after=stop_after)
    assert not recorder.made
    train(tmp_path / "x", "tensorboard,wandb")
    rows = read_run(tmp_path / "x")[1]
    for made in recorder.made:
        assert held([made]) == expected(rows)


@pytest.mark.parametrize("log", ["tensorboard", "wandb"])
@pytest.mark.parametrize("begun", [0, 2])
def test_runs_whose_rows_come_to_the_folder_when_they_have_ended(
    recorder: type[Recorder], tmp_path: Path, log: str, begun: int
) -> None:
    """A cluster tells of every epoch, and the rows of a run lie in a part of the folder until the run has ended.

    `begun` epochs were trained by a command that did not log.
    """
    run, made = make_run(seeds=1, epochs=4)
    folder = save_run(tmp_path / "x", run, [])
    trajectory = Trajectory(0, 0.05, 1.0, None, None, ())
    rows = [Row(**row) for row in made]
    told: list[str] = []
    with Logs(parse_loggers(log), folder, told.append) as logs:
        progress = LoggedProgress(Silent(), logs, folder)
        progress.begin([trajectory], 0, 4)
        for epoch in range(begun + 1, 5):
            progress.epoch(trajectory, epoch, [row for row in rows if row.epoch == epoch])
        save_run(folder, run, made)
    assert not told
    assert held(recorder.made) == expected(made)


@pytest.mark.parametrize("calls", [0, 4])
def test_a_tracker_that_fails_is_one_line_and_loses_nothing(
    recorder: type[Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    monkeypatch.setattr(recorder, "fails_after", calls)
    told: list[str] = []
    train(tmp_path / "x", "tensorboard", told=told)
    [line] = told
    assert line.startswith("--log tensorboard failed: [Errno 28] No space left on device; the run goes on")
    assert len(read_run(tmp_path / "x")[1]) == 45
    monkeypatch.setattr(recorder, "fails_after", 10**9)
    with Logs(["tensorboard"], tmp_path / "x", told.append) as logs:
        logs.catch_up(tmp_path / "x")
    assert held(recorder.made) == expected(read_run(tmp_path / "x")[1])
    assert len(told) == 1


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_of_several_processes_the_first_logs(
    recorder: type[Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    folder = save_run(tmp_path / "x", *make_run(seeds=1, epochs=2))
    monkeypatch.setenv(rank, "1")
    with Logs(["tensorboard"], folder, list[str]().append) as logs:
        logs.catch_up(folder)
    assert not recorder.made
    monkeypatch.setenv(rank, "0")
    with Logs(["tensorboard"], folder, list[str]().append) as logs:
        logs.catch_up(folder)
    assert held(recorder.made) == expected(make_run(seeds=1, epochs=2)[1])


def test_runs_of_equal_names_in_other_comparisons_are_other_runs() -> None:
    record, _ = make_run()
    one = LoggedRun("x", "ema", 0.1, 0, record)
    assert one.identity == LoggedRun("x", "ema", 0.1, 0, dict(record)).identity
    later = {**record, "started": "2025-01-02T03:04:06+00:00"}
    others = [LoggedRun("y", "ema", 0.1, 0, record), LoggedRun("x", "ema", 0.1, 0, later)]
    others += [LoggedRun("x", "ema", 0.2, 0, record), LoggedRun("x", "ema", 0.1, 1, record)]
    assert len({run.identity for run in [one, *others]}) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tensorbord", "log 'tensorbord' is no tracker; did you mean 'tensorboard'?"),
        ("tensorboard,", "log '' is no tracker (known: tensorboard, mlflow, wandb)"),
        ("wandb,wandb", "log names wandb twice; leave one out"),
    ],
)
def test_wrong_names_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_loggers(text)
    assert str(caught.value).startswith(words)


def test_a_tracker_that_is_not_installed_is_refused_before_training(
    sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    answer = sema(*COMMAND, "--log", "mlflow", "--out", tmp_path / "x")
    assert answer.code == 2
    assert answer.err == (
        'sema: --log mlflow needs mlflow>=2.16, which is not installed; run: pip install --upgrade "switch-ema[log]"\n'
    )
    assert not (tmp_path / "x").exists()


def test_logging_is_no_part_of_what_is_asked(sema: Sema, tmp_path: Path) -> None:
    assert sema(*COMMAND, "--out", tmp_path / "x").code == 0
    answer = sema(*COMMAND, "--out", tmp_path / "x", "--log", "tensorboard")
    assert answer.code == 0
    assert "nothing to do" in answer.err
    rows = read_run(tmp_path / "x")[1]
    assert read_tensorboard(tmp_path / "x" / "tensorboard") == expected(rows)
    assert sema(*COMMAND, "--out", tmp_path / "x", "--log", "tensorboard").code == 0
    assert read_tensorboard(tmp_path / "x" / "tensorboard") == expected(rows)


def test_a_study_logs_its_comparisons(sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from switch_ema.bench.studies import run as studies
    from switch_ema.bench.studies.study import Findings

    def made_up(name: str, base: Any, arms: Any, out: Path, *rest: object) -> tuple[Findings, Path]:
        for arm in arms:
            save_run(out / "arms" / arm.name, *make_run(seeds=1, epochs=2))
        return Findings(["done"], []), out / "report.html"

    monkeypatch.setattr(studies, "run_study", made_up)
    answer = sema("study", "convergence", "--out", tmp_path / "s", "--log", "tensorboard")
    assert answer.code == 0, answer.err
    arms = sorted(path.name for path in (tmp_path / "s" / "arms").iterdir())
    assert sorted(path.name for path in (tmp_path / "s" / "tensorboard").iterdir()) == arms
    assert read_tensorboard(tmp_path / "s" / "tensorboard" / arms[0]) == expected(make_run(seeds=1, epochs=2)[1])
    marks = json.loads((tmp_path / "s" / "arms" / arms[0] / logs_module.FILE).read_text())
    assert set(marks["tensorboard"].values()) == {2}
