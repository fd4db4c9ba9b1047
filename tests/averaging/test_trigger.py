"""Triggers: when they fire, and how they are written."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from switch_ema import Every
from switch_ema.averaging.trigger import Clock, Duration

WHOLE = st.integers(1, 60)
PARTS = st.builds(Fraction, st.integers(1, 40), st.integers(1, 12))


def clocks(epochs: int, steps_per_epoch: int) -> list[Clock]:
    """List the moments of a training, the start first."""
    moments = [Clock(steps_per_epoch=steps_per_epoch)]
    for _ in range(epochs):
        for _ in range(steps_per_epoch):
            moments.append(moments[-1].next_step())
        moments.append(moments[-1].next_epoch())
    return moments


def firings(trigger: Every, epochs: int, steps_per_epoch: int) -> list[Clock]:
    moments = clocks(epochs, steps_per_epoch)
    return [after for before, after in pairwise(moments) if trigger.fires(before, after)]


@given(WHOLE, st.integers(0, 50), st.integers(0, 200), st.integers(0, 12), st.integers(1, 9))
def test_steps_fire_as_often_as_they_should(n: int, start: int, extra: int, epochs: int, per_epoch: int) -> None:
    end = start + n + extra
    trigger = Every(n, "step", start, end)
    expected = list(range(start + n, min(end, epochs * per_epoch) + 1, n))
    assert [clock.steps for clock in firings(trigger, epochs, per_epoch)] == expected
    assert trigger.count(10**9) == (end - start) // n


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 20), st.integers(0, 30), st.integers(0, 4))
def test_epochs_fire_as_often_as_they_should(n: int, start: int, extra: int, epochs: int, per_epoch: int) -> None:
    end = start + n + extra
    trigger = Every(n, "epoch", start, end)
    fired = firings(trigger, epochs, per_epoch)
    assert [clock.epochs for clock in fired] == list(range(start + n, min(end, epochs) + 1, n))
    assert all(clock.step_in_epoch == 0 for clock in fired)


@given(PARTS, st.integers(0, 3), st.integers(1, 6), st.integers(1, 13))
def test_parts_of_epochs_fire_at_the_first_step_that_completes_them(
    n: Fraction, start: int, epochs: int, per_epoch: int
) -> None:
    assume(n * per_epoch >= 1)
    trigger = Every(n, "epoch", start)
    fired = firings(trigger, start + epochs, per_epoch)
    assert len(fired) == epochs // n
    for i, clock in enumerate(fired, start=1):
        at, due = clock.epochs + Fraction(clock.step_in_epoch, per_epoch), start + i * n
        assert due <= at < due + Fraction(1, per_epoch)


@given(PARTS, st.integers(0, 9), st.none() | st.integers(0, 40), PARTS, PARTS)
def test_count_never_falls(n: Fraction, start: int, extra: int | None, one: Fraction, other: Fraction) -> None:
    trigger = Every(n, "epoch", start, None if extra is None else start + int(n) + 1 + extra)
    early, late = sorted((one, other))
    assert 0 <= trigger.count(early) <= trigger.count(late)
    assert trigger.count(start) == 0


@given(
    st.tuples(st.integers(1, 10**12), st.just("step")) | st.tuples(st.integers(1, 10**12) | PARTS, st.just("epoch")),
    st.integers(0, 10**9),
    st.none() | st.integers(0, 10**9),
)
def test_written_and_read_again(length: tuple[Any, Any], start: int, extra: int | None) -> None:
    n, unit = length
    trigger = Every(n, unit, start, None if extra is None else start + int(n) + 1 + extra)
    assert Every.of(str(trigger)) == trigger


@given(st.fractions(min_value=Fraction(1, 10**9), max_value=10**12), st.sampled_from(["step", "epoch"]))
def test_durations_written_and_read_again(n: Fraction, unit: Any) -> None:
    duration = Duration(n, unit)
    assert Duration.parse(str(duration)) == duration


@given(st.floats(1e-6, 1e6))
def test_a_float_means_its_decimal(n: float) -> None:
    trigger = Every(n, "epoch")
    assert Fraction(trigger.n) == Fraction(repr(n))
    assert trigger.splits_epochs == (Fraction(repr(n)).denominator != 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, Every(7)),
        ("7", Every(7)),
        (" 500 steps ", Every(500)),
        ("step", Every(1)),
        ("1 epoch", Every(1, "epoch")),
        ("epoch", Every(1, "epoch")),
        ("2 epochs", Every(2, "epoch")),
        ("0.5 epoch", Every(0.5, "epoch")),
        ("0.1 epoch", Every(Fraction(1, 10), "epoch")),
        ("1/3 epoch", Every(Fraction(1, 3), "epoch")),
        ("1 epoch after 5 until 90", Every(1, "epoch", 5, 90)),
        ("10 steps  until  90", Every(10, "step", 0, 90)),
        (Every(3, "epoch"), Every(3, "epoch")),
    ],
)
def test_read(value: Any, expected: Every) -> None:
    assert Every.of(value) == expected


@pytest.mark.parametrize(
    ("trigger", "text"),
    [
        (Every(1), "1 step"),
        (Every(1_000_000), "1000000 steps"),
        (Every(12_345_678), "12345678 steps"),
        (Every(0.5, "epoch"), "0.5 epochs"),
        (Every(Fraction(1, 3), "epoch"), "1/3 epochs"),
        (Every(2, "epoch", 3, 9), "2 epochs after 3 until 9"),
    ],
)
def test_written(trigger: Every, text: str) -> None:
    assert str(trigger) == text


def test_a_start_is_added_to_a_trigger_in_steps() -> None:
    assert Every.of(5, start=10) == Every(5, "step", 10)
    assert Every.of("5 steps until 30", start=10) == Every(5, "step", 10, 30)


def test_counting_starts_once() -> None:
    trigger = Every(2, "step", 3)
    moments = clocks(2, 4)
    started = [b.steps for a, b in pairwise(moments) if trigger.starts(a, b)]
    assert started == [3]
    assert not any(Every(1).starts(a, b) for a, b in pairwise(moments))
