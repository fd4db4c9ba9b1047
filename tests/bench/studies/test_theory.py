"""What the study of the noisy quadratic says of numbers whose answer is known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from switch_ema.bench.studies import theory_numbers as numbers
from switch_ema.bench.studies.run import plan_study
from switch_ema.bench.studies.study import Findings, Reading
from switch_ema.bench.studies.theory import STUDY
from switch_ema.bench.studies.theory_records import order, percent

Sheet = dict[str, Any]
PLACES = [(name, step) for name in ("sgd", "ema", "switch", "online", "midway") for step in (0.1, 1.0)]


def chain(off: float = 0.5, error: float = 0.01) -> list[Sheet]:
    """Make up chains, one of which is so many standard errors off."""
    made = [
        {"name": name, "decay": 0.99, "interval": 50, "step": step, "variance": 1.0, "error": error, "closed": 1.0}
        for name, step in PLACES
    ]
    made[3]["variance"] = 1 + off * error
    return made


def budget(switch: float, ema: float = 1.0, *, spread: int = 1) -> Sheet:
    """Make up the losses at three learning rates, the last of which diverges for SGD."""
    return {
        "steps": 1000, "spread": spread, "rates": [0.1, 1.0, 2.0], "start": 100.0,
        "sgd": {"losses": [7.0, 4.0, None]},
        "ema": {"losses": [3.0, ema, 9.0], "decay": 0.99},
        "switch": {"losses": [20.0, switch, 5.0], "decay": 0.9, "interval": 50},
    }  # fmt: skip


@pytest.fixture(scope="module")
def settings() -> list[Sheet]:
    return numbers.settings()


@pytest.fixture(scope="module")
def bounds() -> list[Sheet]:
    return numbers.bounds()


def found(
    settings: list[Sheet],
    bounds: list[Sheet],
    budgets: list[Sheet] | None = None,
    chains: list[list[Sheet]] | None = None,
) -> Findings:
    exact = {"settings": settings, "bounds": bounds, "budgets": budgets or [budget(2.0)]}
    sheets = [exact, *({"chains": each} for each in chains or [chain()])]
    names = ["closed-forms", *(f"chains-{seed}" for seed in range(len(sheets) - 1))]
    return STUDY.findings(
        [Reading(n, n, {}, None, [], s) for n, s in zip(names, json.loads(json.dumps(sheets)), strict=True)]
    )


def test_there_is_one_arm_of_chains_for_each_seed_and_nothing_is_trained() -> None:
    _, arms = plan_study("theory", "", {"seeds": "3"}, {})
    assert [arm.name for arm in arms] == ["closed-forms", "chains-0", "chains-1", "chains-2"]
    assert all(arm.settings is None for arm in arms)


def test_chains_are_measured_with_the_seed_of_their_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "CHAIN_SETTINGS", ((0.9, 10),))
    _, arms = plan_study("theory", "", {"seeds": "2"}, {})
    assert STUDY.measure is not None
    one, other = (STUDY.measure(arm, None).sheets["chains"] for arm in arms[1:])
    assert [c["closed"] for c in one] == [c["closed"] for c in other]
    assert [c["variance"] for c in one] != [c["variance"] for c in other]
    assert one == numbers.chains(0)
    assert all(abs(c["variance"] - c["closed"]) < 4 * c["error"] for c in one)


def test_bounds_by_iteration_are_those_of_the_closed_form(bounds: list[Sheet]) -> None:
    assert len(bounds) == 30
    assert all(abs(b["closed"] / b["iterated"] - 1) < 1e-9 for b in bounds)


def test_uncomfortable_truths_are_said(settings: list[Sheet], bounds: list[Sheet]) -> None:
    noise, speed, equal, tuned, stable, check = found(settings, bounds).sentences
    assert "of SGD in all 240 settings" in noise
    assert "0.01 % at 10" in noise
    assert "for Switch EMA in all 240 settings" in speed
    assert "switching always slows down" in speed
    assert "EMA with a smaller learning rate always does better" in equal
    assert "at a higher loss than EMA in 1 and at a lower one in 0 (it is 2.00 to 2.00 times EMA's)" in tuned
    assert "5.75 with decay 0.999 and a switch every 5 steps, but from 2.006 with decay 0.9 and one every 500" in stable
    assert "more than 0.67 % above SGD" in stable
    assert "10 variances measured on simulated chains agree" in check


def test_other_numbers_give_other_sentences(settings: list[Sheet], bounds: list[Sheet]) -> None:
    faster = [s | {"switch_left": 0.5 * s["sgd_left"], "ema_equal": 2 * s["switch"]} for s in settings]
    _, speed, equal, *_ = found([s | {"switch_left": 0.5} for s in faster], bounds).sentences
    assert "does not always slow down" in speed
    assert "neither is always better" in equal
    assert "EMA in none of" in equal


def test_who_wins_with_everything_tuned(settings: list[Sheet], bounds: list[Sheet]) -> None:
    tuned = found(settings, bounds, [budget(0.5), budget(1.01), budget(5.0), budget(1.5, spread=100)]).sentences[3]
    assert "4 budgets" in tuned
    assert "than EMA in 2 and at a lower one in 1 (it is 0.50 to 5.00 times EMA's)" in tuned
    assert "than plain SGD in 3." in tuned
    assert "SGD 0.1 to 1, EMA 0.1 to 1, Switch EMA 1 to 2." in tuned
    nowhere = found(settings, bounds, [budget(50.0)]).sentences[3]
    assert nowhere.endswith("Switch EMA 2 to 2.")


def test_chains_that_disagree_are_told(settings: list[Sheet], bounds: list[Sheet]) -> None:
    assert "agree with the closed forms: 1 of them" in found(settings, bounds, chains=[chain(4)]).sentences[-1]
    off = found(settings, bounds, chains=[chain(6)]).sentences[-1]
    assert "do not agree with the closed forms: 1 of them" in off
    assert "off by 6.0" in off


def test_seeds_are_pooled(settings: list[Sheet], bounds: list[Sheet]) -> None:
    four = found(settings, bounds, chains=[chain(2)] * 4).sentences[-1]
    assert "off by 4.0" in four  # the standard error of four is half that of one
    assert "off by 0.0" in found(settings, bounds, chains=[chain(2), chain(-2)]).sentences[-1]


def test_figures_carry_what_they_say(settings: list[Sheet], bounds: list[Sheet]) -> None:
    panels = {panel.title: panel for panel in found(settings, bounds, [budget(2.0)]).panels}
    assert [len(panel.plots) for panel in panels.values()] == [3, 1, 1, 1, 1, 1]
    traces = panels["Everything tuned"].plots[0].traces
    assert [trace["y"] for trace in traces] == [[7.0, 4.0, None], [3.0, 1.0, 9.0], [20.0, 2.0, 5.0]]
    names = [trace["name"] for trace in panels["Chains against closed forms"].plots[0].traces]
    assert names == ["SGD", "EMA", "Switch EMA", "SGD, chains", "EMA, chains", "Switch EMA, chains"]
    table = panels["Everything tuned"].table
    assert table is not None
    assert table[1] == [("1000, 1", "4", "1", "2", "rate 1, decay 0.99", "rate 1, decay 0.9, every 50")]


def test_words() -> None:
    records = [{"a": 1.0, "b": 2.0}, {"a": -3.0, "b": 2.0}, {"a": 2.0, "b": 2.0 + 1e-12}]
    assert order(records, "a", "b") == "1 of 3 settings (above in 1)"
    assert order(records[:1], "a", "b") == "all 1 settings"
    assert order(records[2:], "a", "b") == "none of 1 settings (above in none)"
    assert [percent(share) for share in (0.714, 0.056, 0.0067, 1e-6)] == ["71 %", "5.6 %", "0.67 %", "less than 0.01 %"]
