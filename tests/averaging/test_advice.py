"""The advice behind decay="auto": it follows from the length of training, and averagers take it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from switch_ema import EMA, SwitchEMA
from switch_ema.averaging.advice import SCHEDULES, advise_ema, advise_switch
from switch_ema.averaging.decay import from_window, retained_fraction

lengths = st.integers(1, 100_000)


@given(steps=lengths, epochs=st.integers(1, 1000), schedule=st.sampled_from(SCHEDULES))
def test_advice_is_always_a_decay(steps: int, epochs: int, schedule: str) -> None:
    passive, switching = advise_ema(steps, epochs, schedule), advise_switch(steps, epochs, schedule)
    assert 0 <= passive.decay < 1
    assert passive.switch_every is None
    assert switching.switch_every is not None
    assert 1 <= switching.switch_every <= steps
    assert switching.retained is not None
    assert switching.retained == pytest.approx(retained_fraction(switching.decay, switching.switch_every))
    assert switching.retained > 1 / math.e  # whatever the interval


def test_window_is_a_share_of_training() -> None:
    assert advise_ema(100, 50).window / 5000 == advise_ema(1000, 500).window / 500_000
    assert advise_ema(100, 50).window == pytest.approx(500)
    assert advise_ema(100, 50).decay == from_window(advise_ema(100, 50).window)


def test_long_training_switches_each_epoch_and_short_one_often_enough() -> None:
    assert advise_switch(500, 200).switch_every == 500
    assert advise_switch(500, 4).switch_every == 200


def test_interval_that_stands_is_kept() -> None:
    advice = advise_switch(500, 200, switch_every="2 epochs")
    assert advice.switch_every == 1000
    assert advice.window == 1000
    assert advice.retained == pytest.approx(1 / math.e, abs=1e-3)


def test_averagers_take_the_advice() -> None:
    passive = EMA(nn.Linear(1, 1), decay="auto", steps_per_epoch=100, epochs=20)
    known = EMA(nn.Linear(1, 1), decay=advise_ema(100, 20).decay)
    assert passive.retained_fraction(50) == known.retained_fraction(50)
    switching = SwitchEMA(nn.Linear(1, 1), decay="auto", switch_every="auto", steps_per_epoch=100, epochs=20)
    assert switching.retained_fraction(100) == pytest.approx(1 / math.e, abs=0.01)


def test_switches_fall_where_the_advice_says() -> None:
    model = nn.Linear(1, 1, bias=False)
    averager = SwitchEMA(model, decay="auto", switch_every="auto", steps_per_epoch=10, epochs=2)  # every 2 steps
    for _ in range(10):
        with torch.no_grad():
            model.weight.add_(1)
        averager.update()
    assert averager.n_switches == 5


def test_given_decay_stays() -> None:
    averager = SwitchEMA(nn.Linear(1, 1), decay=0.9, switch_every="auto", steps_per_epoch=10, epochs=100)
    assert averager.retained_fraction(10) == pytest.approx(retained_fraction(0.9, 10))


@pytest.mark.parametrize("averager", [EMA, SwitchEMA])
def test_length_of_training_is_needed(averager: object) -> None:
    assert callable(averager)
    with pytest.raises(ValueError, match="needs the length of training"):
        averager(nn.Linear(1, 1), decay="auto", steps_per_epoch=10)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="schedule 'cosin' is not known; write one of cosine"):
        advise_ema(10, 10, "cosin")
    with pytest.raises(ValueError, match="epochs must be a number above 0"):
        advise_switch(10, 0)
