"""Decay rules, their spellings and the retained fraction."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_ema import EMA
from switch_ema.averaging.decay import (
    Constant,
    InverseGamma,
    LinearRamp,
    PowerFunction,
    Uniform,
    Warmup,
    decay_that_retains,
    from_half_life,
    from_window,
    parse_decay,
    retained_fraction,
)

from .drift import Point

SHARE = st.floats(0, 1)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Constant(0.9), {0: 0.9, 7: 0.9}),
        (Warmup(0.999), {0: 1 / 10, 1: 2 / 11, 90: 91 / 100, 10**6: 0.999}),
        (InverseGamma(0.999), {0: 0.0, 7: 1 - 8 ** (-2 / 3), 10**6: 0.999}),
        (InverseGamma(0.99, gamma=2.0, power=1.0), {0: 0.0, 2: 0.5, 6: 0.75, 10**6: 0.99}),
        (LinearRamp(0.9999, 2500), {0: 0.89991, 1250: 0.9999 * 0.95, 2500: 0.9999, 10**6: 0.9999}),
        (LinearRamp(0.8, 10, ratio=0.0), {0: 0.0, 5: 0.4, 10: 0.8}),
        (PowerFunction(0), {0: 0.0, 1: 0.5, 2: 2 / 3}),
        (PowerFunction(6.94), {0: 0.0, 1: 0.5**7.94, 99: 0.99**7.94}),
        (Uniform(), {0: 0.0, 1: 0.5, 3: 0.75}),
    ],
)
def test_rules(rule: Any, expected: dict[int, float]) -> None:
    assert {n: rule(n) for n in expected} == pytest.approx(expected, rel=1e-12)


@given(st.sampled_from([Constant, Warmup, InverseGamma, lambda d: LinearRamp(d, 100)]), SHARE, st.integers(0, 10**7))
def test_rules_stay_in_range_and_never_pass_their_decay(make: Any, decay: float, n: int) -> None:
    assert 0 <= make(decay)(n) <= decay
    assert make(decay)(n) <= make(decay)(n + 1)


@given(st.floats(0, 50), st.integers(0, 10**9))
def test_power_functions_stay_in_range(gamma: float, n: int) -> None:
    assert 0 <= PowerFunction(gamma)(n) <= 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (0.999, Constant(0.999)),
        (0, Constant(0)),
        (1, Constant(1)),
        ("0.99", Constant(0.99)),
        (" 0.99 ", Constant(0.99)),
        ("half-life 1 step", Constant(0.5)),
        ("half-life 0.5 epoch", Constant(0.5 ** (1 / 100))),
        ("window 1000 steps", Constant(0.999)),
        ("window 1 epoch", Constant(0.995)),
        ("warmup 0.999", Warmup(0.999)),
        ("inverse-gamma 0.99", InverseGamma(0.99)),
        ("ramp 0.9999 over 5 epochs", LinearRamp(0.9999, 1000)),
        ("ramp  0.99  over  30 steps", LinearRamp(0.99, 30)),
        (Uniform(), Uniform()),
    ],
)
def test_spellings(text: Any, expected: Any) -> None:
    assert parse_decay(text, steps_per_epoch=200) == expected


def test_half_life_and_window() -> None:
    assert from_half_life(500) ** 500 == pytest.approx(0.5, rel=1e-12)
    assert sum((1 - from_window(50)) * from_window(50) ** t * (t + 1) for t in range(5000)) == pytest.approx(50)
    assert from_window(1) == 0.0


@given(SHARE, st.integers(1, 10**6))
def test_retained_fraction_is_a_share(decay: float, updates: int) -> None:
    assert -1e-9 <= retained_fraction(decay, updates) <= 1
    assert retained_fraction(decay, updates) >= 1 - decay - 1e-9


@given(SHARE, SHARE, st.integers(1, 10**6))
def test_retained_fraction_falls_with_the_decay(one: float, other: float, updates: int) -> None:
    low, high = sorted((one, other))
    assert retained_fraction(low, updates) >= retained_fraction(high, updates) - 1e-9


@given(SHARE, st.integers(1, 10**6), st.integers(1, 10**6))
def test_retained_fraction_grows_with_the_interval(decay: float, one: int, other: int) -> None:
    short, long = sorted((one, other))
    assert retained_fraction(decay, short) <= retained_fraction(decay, long) + 1e-9


@given(st.floats(0.01, 0.999), st.integers(1, 300))
def test_retained_fraction_is_the_sum_it_stands_for(decay: float, updates: int) -> None:
    average = 0.0
    for place in range(1, updates + 1):
        average = decay * average + (1 - decay) * place
    assert retained_fraction(decay, updates) == pytest.approx(average / updates, rel=1e-6)


@pytest.mark.parametrize(
    ("decay", "steps", "kept"),
    [(0.9999, 100, 0.005), (0.9999, 500, 0.025), (0.9999, 5000, 0.21), (0.999, 500, 0.21), (0.99, 500, 0.80)],
)
def test_retained_fraction_of_the_papers_decays(decay: float, steps: int, kept: float) -> None:
    assert retained_fraction(decay, steps) == pytest.approx(kept, rel=0.03)


@given(st.sampled_from([0.1, 0.25, 0.5]), st.integers(1, 100_000), st.sampled_from([1, 4, 16]))
def test_decay_that_retains(fraction: float, updates: int, every: int) -> None:
    decay = decay_that_retains(fraction, updates, every)
    assert retained_fraction(decay**every, updates) == pytest.approx(fraction, rel=0.08)
    assert len(repr(decay)) <= 3 + math.ceil(math.log10(updates * every * 10))  # short enough to be read


def test_a_custom_rule_is_taken_as_it_is() -> None:
    point = Point()
    averager = EMA(point, decay=lambda n: n / 4)
    point.put(8.0)
    for expected in (8.0, 8.0):
        averager.update()
        assert float(averager.averaged_state_dict()["at"]) == expected


@pytest.mark.parametrize("value", [1.5, -0.1, math.nan, None, "0.9"])
def test_a_custom_rule_out_of_range_is_refused(value: Any) -> None:
    averager = EMA(Point(3.0), decay=lambda n: value)
    with pytest.raises(ValueError, match=r"value of a decay rule is the share of the old average kept"):
        averager.update()
    assert averager.n_averaged == 0
