"""Differences between methods at their best rates, and whether they hang on the choice of these rates."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from switch_ema.bench.stats import Results
from switch_ema.bench.studies.tuned import Standing, standing
from switch_ema.bench.studies.words import hanging
from tests.bench.sample import Curves
from tests.bench.studies.readings import reading

Values = dict[int, float | None]


def seeds(mean: float) -> Values:
    return {seed: mean + 0.001 * seed for seed in range(3)}


def stands(mean: float, *beside: float, wobble: float = 0.0) -> Standing:
    values: Values = {seed: mean + (0.001 + wobble) * seed for seed in range(3)}
    return Standing("method", "", 0.1, False, (0, 0.0, 0.0), values, tuple(map(seeds, beside)))


@pytest.mark.parametrize(
    ("own", "other", "higher_is_better", "hangs"),
    [
        (stands(0.9), stands(0.8, 0.7, 0.95), True, True),  # the other one would be ahead at its upper rate
        (stands(0.9), stands(0.8, 0.7, 0.85), True, False),
        (stands(0.9, 0.1), stands(0.8), True, False),  # a worse rate of the better one says nothing
        (stands(0.8, 0.95), stands(0.9), True, True),
        (stands(0.8, 0.85), stands(0.9, 0.1), True, False),
        (stands(0.8), stands(0.9, 0.7), False, True),
        (stands(0.8), stands(0.9, 0.95), False, False),
    ],
)
def test_what_hangs_on_a_rate(own: Standing, other: Standing, higher_is_better: bool, hangs: bool) -> None:
    assert own.hangs_on_rate(other, higher_is_better) == hangs


def test_only_clear_differences_are_told() -> None:
    clear, unclear = stands(0.9, wobble=0.001), stands(0.801, wobble=0.01)
    other = stands(0.8, 0.95)
    said = hanging([("this", clear, other), ("that", unclear, other), ("those", clear, stands(0.8))], True)
    assert len(said) == 1
    assert said[0].endswith("all there is to it: this.")
    assert hanging([], True) == []


@pytest.mark.parametrize(("best", "beside"), [(0, [0.5]), (1, [0.9, 0.3]), (2, [0.5])])
def test_beside_the_best_rate_are_the_rates_next_to_it(best: int, beside: Sequence[float]) -> None:
    test = (0.9, 0.5, 0.3)
    curves: Curves = {
        ("baseline", lr, seed): ([0.8 if place == best else 0.1], [test[place]])
        for place, lr in enumerate((0.01, 0.1, 1.0))
        for seed in range(2)
    }
    results: Results = reading(curves).trained
    assert [values[0] for values in standing(results, "baseline").beside] == beside
