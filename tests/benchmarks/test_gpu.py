"""The GPU experiment on a CPU: stopped by its budget and continued it measures what it does undisturbed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from benchmarks.gpu import experiment as script
from benchmarks.gpu.experiment import LEFT, Budget, OutOfTimeError
from benchmarks.gpu.experiments import EXPERIMENTS, settings
from switch_ema.bench.plan import plan


@dataclass
class Clock:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now


def rows(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "cifar10-resnet18-main" / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


def finished(folder: Path) -> int:
    return len(json.loads((folder / "cifar10-resnet18-main" / "progress.json").read_text(encoding="utf-8"))["done"])


def test_steps_continue_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ["baseline", "ema:decay=0.9", "lookahead", "sema:decay=0.9,switch_every=5 steps", "sam"]
    main = "cifar10-resnet18-main"
    found = EXPERIMENTS[main]
    monkeypatch.setitem(EXPERIMENTS, main, replace(found, small={**found.small, "methods": few}))
    monkeypatch.delenv("OUT", raising=False)
    whole, parts, fresh = tmp_path / "whole", tmp_path / "parts", tmp_path / "fresh"
    assert script.main([main, "--smoke", "--runs", str(whole)]) == 0
    step = [main, "--smoke", "--runs", str(parts), "--out", str(fresh)]
    assert script.main([*step, "--budget", "0"]) == LEFT
    assert finished(parts) == 1
    assert len(rows(parts)) > len(rows(whole)) // 4  # the run that was broken off has left rows
    assert script.main([main, "--smoke", "--runs", str(fresh), "--budget", "0"]) == LEFT  # from what was given back
    assert finished(fresh) == 2
    assert script.main([main, "--smoke", "--runs", str(fresh)]) == 0
    assert script.main([main, "--smoke", "--runs", str(fresh)]) == 0  # nothing to do
    assert rows(fresh) == rows(whole)

    assert script.main(["collect", "--runs", str(fresh), "--to", str(tmp_path / "results")]) == 0
    page = (tmp_path / "results" / "cifar10-resnet18-main.md").read_text(encoding="utf-8")
    assert all(f"| {method} " in page for method in few)
    assert "model mlp, epochs 1" in page
    kept = {path.name for path in (tmp_path / "results" / "cifar10-resnet18-main").iterdir()}
    assert kept == {"report.html", "run.json", "rows.jsonl"}
    assert str(tmp_path) not in page


def test_nothing_to_collect_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["collect", "--runs", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"experiment: {tmp_path}: no experiment has run yet; run one first, or name another folder by --runs\n"
    )


def test_budget_stops_between_epochs_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(script, "time", clock)
    budget = Budget(35, clock.now)
    budget.begin(["a", "b"], 0, 3)
    for epoch in (1, 2):
        clock.now += 10
        budget.epoch("a", epoch, [])
    clock.now += 10  # 5 s left, and an epoch takes 10
    budget.epoch("a", 3, [])  # the last epoch of a run is never cut off
    assert budget.done == 1
    clock.now += 1
    with pytest.raises(OutOfTimeError):
        budget.epoch("b", 1, [])


def test_budget_stops_within_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(script, "time", clock)
    budget = Budget(35, clock.now)
    budget.begin(["a"], 0, 30)
    for epoch in (1, 2):
        clock.now += 10
        budget.epoch("a", epoch, [])
    clock.now += 10
    with pytest.raises(OutOfTimeError):
        budget.epoch("a", 3, [])


def test_the_plan_is_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(script.__file__).parent / "README.md").read_text(encoding="utf-8")
    for part, runs in (("main", 36), ("rates", 9)):
        asked = settings(f"cifar10-resnet18-{part}", smoke=True)  # the same methods and rates, on other data
        assert len(plan(asked.parsed_methods(), asked.lr, range(3))) == runs
        assert f"| {runs} |" in next(line for line in readme.splitlines() if f"`cifar10-resnet18-{part}`" in line)
    main = settings("cifar10-resnet18-main", smoke=True)
    kinds = [method.kind for method in main.parsed_methods() if not method.sam]
    assert [kinds.count(kind) for kind in ("baseline", "ema", "swa", "lookahead", "sema")] == [1, 5, 1, 1, 9]
    assert all(f"`{name}`" in readme for name in EXPERIMENTS)
