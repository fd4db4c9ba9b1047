"""Schedules equal torch's and their closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from switch_ema.bench.schedule import Schedule
from switch_ema.bench.settings import Settings
from switch_ema.errors import InputError

PEAK = 0.4


def of(epochs: int, steps_per_epoch: int = 10, lr: float = PEAK, **values: Any) -> Schedule:
    values = {"warmup_epochs": 0, "lr": (lr,), **values}
    settings = Settings.of(task="classification", data="digits", model="mlp", epochs=epochs, **values)
    return Schedule.of(settings, lr, steps_per_epoch)


def rates(schedule: Schedule) -> list[float]:
    return [PEAK * schedule.factor(step) for step in range(schedule.total)]


def torchs(make: Callable[[SGD], LRScheduler], steps: int) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("lr_min", [0.0, 1e-3, PEAK])
def test_cosine_is_torchs(lr_min: float) -> None:
    expected = torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, 50, eta_min=lr_min), 50)
    assert rates(of(5, lr_min=lr_min)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_cosine_by_epoch_is_torchs_stepped_each_epoch() -> None:
    expected = torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, 5, eta_min=1e-3), 5)
    found = rates(of(5, lr_min=1e-3, schedule_unit="epoch"))
    assert found == pytest.approx([rate for rate in expected for _ in range(10)], rel=1e-9)


@pytest.mark.parametrize("steps", [4, 10, 37, 200])
def test_onecycle_is_torchs(steps: int) -> None:
    expected = torchs(lambda o: lr_scheduler.OneCycleLR(o, PEAK, total_steps=steps, cycle_momentum=False), steps - 1)
    found = rates(of(steps, 1, schedule="onecycle"))
    assert found[:-1] == pytest.approx(expected, rel=1e-9)
    assert found[-1] == pytest.approx(PEAK / 25e4)


@pytest.mark.parametrize("start", [1e-8, 0.25])
def test_warmup_from_a_start_is_torchs(start: float) -> None:
    def make(optimizer: SGD) -> LRScheduler:
        warmup = lr_scheduler.LinearLR(optimizer, start, total_iters=20)
        return lr_scheduler.SequentialLR(optimizer, [warmup, lr_scheduler.CosineAnnealingLR(optimizer, 30)], [20])

    found = rates(of(5, warmup_epochs=2, warmup_start=start))
    assert found == pytest.approx(torchs(make, 50), rel=1e-6)


def test_milestones_are_torchs() -> None:
    expected = torchs(lambda o: lr_scheduler.MultiStepLR(o, [10, 25], gamma=0.2), 50)
    assert rates(of(5, schedule="step", milestones=(1, 2.5, 60), step_factor=0.2)) == pytest.approx(expected)


def test_steps_without_milestones_come_after_a_half_and_three_quarters() -> None:
    found = [of(4, 2, schedule="step").factor(step) for step in range(8)]
    assert found == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    after_warmup = [of(5, 2, schedule="step", warmup_epochs=1).factor(step) for step in range(10)]
    assert after_warmup == pytest.approx([1 / 3, 2 / 3, *found])


def test_wsd() -> None:
    found = [of(10, 1, schedule="wsd", warmup_epochs=2, decay_share=0.4, lr_min=PEAK / 5).factor(s) for s in range(10)]
    assert found == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4])


def test_constant() -> None:
    assert {of(3, schedule="constant").factor(step) for step in range(30)} == {1.0}


def test_warmup_moves_by_step_and_the_rest_by_epoch() -> None:
    schedule = of(4, 4, warmup_epochs=1.5, schedule_unit="epoch")
    found = [schedule.factor(step) for step in range(16)]
    assert found[:6] == pytest.approx([(step + 1) / 7 for step in range(6)])
    assert found[6:8] == [1, 1]
    assert found[8:] == pytest.approx([(1 + math.cos(math.pi * t)) / 2 for t in (0.2, 0.6) for _ in range(4)])


@pytest.mark.parametrize("unit", ["step", "epoch"])
@pytest.mark.parametrize("name", ["cosine", "constant", "step", "onecycle", "wsd"])
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (2, 1), (3, 7), (20, 3)])
def test_shares_stay_between_0_and_1_and_fall_after_the_peak(name: Any, unit: Any, epochs: int, steps: int) -> None:
    warmup = None if name == "onecycle" else 0.5
    schedule = of(epochs, steps, schedule=name, schedule_unit=unit, warmup_epochs=warmup)
    found = [schedule.factor(step) for step in range(schedule.total)]
    assert all(0 < share <= 1 for share in found)
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)


def test_the_least_rate_is_absolute() -> None:
    for lr in (0.1, 1.0):
        schedule = of(1000, 1, lr=lr, lr_min=0.01)
        assert lr * schedule.factor(schedule.total - 1) == pytest.approx(0.01, rel=1e-3)


def test_a_peak_below_the_least_rate_stays() -> None:
    settings = Settings.of(
        task="classification", data="digits", model="mlp", epochs=3, lr=(PEAK,), lr_min=0.1, warmup_epochs=0
    )
    schedule = Schedule.of(settings, 0.05, 10)
    assert {schedule.factor(step) for step in range(30)} == {1.0}


def test_decay_within_the_warmup_is_refused() -> None:
    with pytest.raises(InputError, match=r"decay_share 0\.9 of 10 epochs begins within the warm-up") as caught:
        of(10, schedule="wsd", warmup_epochs=2, decay_share=0.9)
    assert "\n" not in str(caught.value)
    of(10, schedule="wsd", warmup_epochs=1, decay_share=0.9)
