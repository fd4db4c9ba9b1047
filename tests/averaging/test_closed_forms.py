"""What theory says the averages must be."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from switch_ema import EMA, LAWA, SWA, Averager, Every, Lookahead, PowerEMA, SwitchEMA
from switch_ema.averaging.decay import Constant, InverseGamma, LinearRamp, Uniform, Warmup
from switch_ema.averaging.fold import Decayed

from .cases import Trainer, bits, build, mlp
from .drift import Point, average_of, drift, walk

QUIET = pytest.mark.filterwarnings("ignore:a switch every")


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_ema_lags_a_ramp_by_d_over_1_minus_d(decay: float) -> None:
    point = Point()
    averages = walk(point, EMA(point, decay), range(3000))
    assert 2999 - averages[-1] == pytest.approx(decay / (1 - decay), rel=1e-9)


def test_decay_0_copies_and_decay_1_freezes() -> None:
    path = [3.7, -1.1, 0.3]
    copying, frozen = Point(2.5), Point(2.5)
    assert walk(copying, EMA(copying, 0), path) == path
    assert walk(frozen, EMA(frozen, 1), path) == [2.5] * 3


def test_swa_is_the_arithmetic_mean() -> None:
    point = Point(99.0)
    path = [math.sin(t) for t in range(50)]
    averages = walk(point, SWA(point, update_every=1), path)
    for n, average in enumerate(averages, start=1):
        assert average == pytest.approx(math.fsum(path[:n]) / n, rel=1e-13)


def test_swa_after_start_ignores_what_was_before() -> None:
    point = Point()
    averager = SWA(point, update_every="1 epoch after 2")
    for place in [5.0, 7.0, 1.0, 3.0, 5.0]:
        point.put(place)
        averager.update()
        averager.end_epoch()
    assert average_of(averager) == 3.0
    assert averager.n_averaged == 3


@pytest.mark.parametrize("window", [1, 2, 5, 100])
def test_lawa_is_the_mean_of_the_last_window(window: int) -> None:
    point = Point(99.0)
    path = [math.cos(t) for t in range(30)]
    averages = walk(point, LAWA(point, window=window, update_every=1), path)
    for n, average in enumerate(averages, start=1):
        last = path[max(0, n - window) : n]
        assert average == pytest.approx(math.fsum(last) / len(last), rel=1e-12)


def test_lookahead_is_an_ema_of_decay_1_minus_alpha_with_switches() -> None:
    both = []
    for named in (True, False):
        trainer = Trainer(build("float32"))
        if named:
            averager = Lookahead(trainer.model, k=4, alpha=0.3)
        else:
            averager = Averager(trainer.model, Decayed(Constant(1 - 0.3), per_unit=False), Every(4), Every(4))
        averager.attach(trainer.optimizer)
        for _ in range(21):
            trainer.step()
        assert averager.n_switches == averager.n_averaged == 5
        both.append(bits((trainer.model.state_dict(), averager.averaged_state_dict())))
    assert both[0] == both[1]


def test_lookahead_equals_a_hand_written_one() -> None:
    trainer, plain = Trainer(mlp(torch.float64)), Trainer(mlp(torch.float64))
    plain.model.load_state_dict(trainer.model.state_dict())
    averager = Lookahead(trainer.model, k=5, alpha=0.5)
    averager.attach(trainer.optimizer)
    slow = [p.detach().clone() for p in plain.model.parameters()]
    for step in range(1, 24):
        trainer.step()
        plain.step()
        if step % 5 == 0:
            for fast, kept in zip(plain.model.parameters(), slow, strict=True):
                with torch.no_grad():
                    kept.add_(fast - kept, alpha=0.5)
                    fast.copy_(kept)
    for ours, theirs in zip(trainer.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


class TestRetainedFraction:
    """The closed form, the library's number and a real drift agree."""

    @pytest.mark.parametrize(("decay", "steps"), [(0.9, 1), (0.9, 7), (0.99, 500), (0.9999, 500), (0.5, 64)])
    @QUIET
    def test_closed_form(self, decay: float, steps: int) -> None:
        lag = decay * (1 - decay**steps) / (1 - decay)
        averager = SwitchEMA(Point(), decay, switch_every=steps)
        assert averager.retained_fraction(steps) == pytest.approx((steps - lag) / steps, rel=1e-9)

    @pytest.mark.parametrize("every", [1, 16])
    @pytest.mark.parametrize(
        "decay",
        [0.98, "warmup 0.99", "inverse-gamma 0.95", "ramp 0.97 over 20 steps", Warmup(0.5), LinearRamp(0.9, 100, 0.1)],
    )
    @pytest.mark.parametrize("steps", [48, 50])
    def test_simulated_drift(self, every: int, decay: Any, steps: int) -> None:
        point = Point()
        averager = SwitchEMA(point, decay, switch_every=steps, update_every=every)
        for _ in range(3):
            expected = averager.retained_fraction(steps)
            before = point.here
            drift(point, averager, steps)
            assert (point.here - before) / steps == pytest.approx(expected, rel=1e-9)
            if steps % every:
                break  # the next interval is not aligned with the updates; the formula assumes it is
        assert averager.n_switches == (1 if steps % every else 3)

    @pytest.mark.parametrize(("k", "alpha"), [(1, 0.5), (5, 0.5), (10, 0.8), (3, 1.0)])
    def test_lookahead_keeps_alpha(self, k: int, alpha: float) -> None:
        point = Point()
        averager = Lookahead(point, k=k, alpha=alpha)
        assert averager.retained_fraction(k) == pytest.approx(alpha, rel=1e-12)
        drift(point, averager, 4 * k)
        assert point.here == pytest.approx(4 * k * alpha, rel=1e-12)

    def test_of_a_window(self) -> None:
        point = Point()
        averager = LAWA(point, window=4, update_every=2)
        expected = averager.retained_fraction(20)
        averages = walk(point, averager, range(1, 21))
        assert averages[-1] / 20 == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("rule", [Uniform(), InverseGamma(0.9)])
    def test_of_a_rule_that_counts_updates(self, rule: Any) -> None:
        point = Point()
        averager = Averager(point, Decayed(rule, per_unit=False), Every(3))
        expected = averager.retained_fraction(30)
        assert walk(point, averager, range(1, 31))[-1] / 30 == pytest.approx(expected, rel=1e-12)

    def test_nothing_is_kept_without_an_update(self) -> None:
        assert SWA(Point(), update_every=10).retained_fraction(9) == 0.0


class TestPowerEMA:
    """Step t weighs t ** gamma, however often the average is updated."""

    @pytest.mark.parametrize("gamma", [0.0, 1.0, 6.94, 16.97])
    def test_profile(self, gamma: float) -> None:
        steps = 40
        weights = []
        for step in range(1, steps + 1):  # the response to a pulse at this step
            point = Point()
            weights.append(walk(point, PowerEMA(point, gamma), [float(t == step) for t in range(1, steps + 1)])[-1])
        expected = [(t ** (gamma + 1) - (t - 1) ** (gamma + 1)) / steps ** (gamma + 1) for t in range(1, steps + 1)]
        assert weights == pytest.approx(expected, rel=1e-9, abs=1e-18)
        assert math.fsum(weights) == pytest.approx(1.0, rel=1e-12)
        late = range(steps // 2, steps)
        assert [weights[t] * steps for t in late] == pytest.approx(
            [(gamma + 1) * ((t + 0.5) / steps) ** gamma for t in late], rel=0.03
        )

    @pytest.mark.parametrize("gamma", [2.0, 6.94])
    @pytest.mark.parametrize("every", [1, 10, 100])
    def test_mean_age_does_not_depend_on_update_every(self, gamma: float, every: int) -> None:
        steps = 10_000
        point = Point()
        averager = PowerEMA(point, gamma, update_every=every)
        for step in range(1, steps + 1):
            point.put(step)
            averager.update()
        assert average_of(averager) == pytest.approx((gamma + 1) / (gamma + 2) * steps, rel=0.01)

    def test_gamma_0_is_the_mean(self) -> None:
        point = Point(50.0)
        assert walk(point, PowerEMA(point, 0), [1.0, 2.0, 6.0])[-1] == pytest.approx(3.0, rel=1e-15)


class TestUpdateEvery:
    """The memory of an EMA does not depend on how often it is updated."""

    @pytest.mark.parametrize("every", [2, 10, 50])
    @pytest.mark.parametrize("decay", [0.9, "warmup 0.99", "ramp 0.9 over 60 steps", "inverse-gamma 0.99"])
    def test_answer_to_a_jump_is_the_same(self, every: int, decay: Any) -> None:
        often, seldom = Point(), Point()
        path = [1.0] * 200
        expected = walk(often, EMA(often, decay), path)
        found = walk(seldom, EMA(seldom, decay, update_every=every), path)
        assert found[every - 1 :: every] == pytest.approx(expected[every - 1 :: every], rel=1e-12)

    @pytest.mark.parametrize("every", [2, 10, 50])
    def test_lag_behind_a_constant_drift_is_the_same_on_the_mean(self, every: int) -> None:
        decay, steps = 0.999, 20_000
        point = Point()
        averager = EMA(point, decay, update_every=every)
        for step in range(steps):
            point.put(step + 1)
            averager.update()
        held = (every - 1) / 2  # between updates the model moves on: the mean over the places in an interval
        assert steps - average_of(averager) + held == pytest.approx(decay / (1 - decay), rel=0.001)


def switch_moments(averager: Averager, epochs: int, steps_per_epoch: int) -> list[str]:
    """List when switches happen, as "epoch.step", steps counted from 1 and "end" for the end of the epoch."""
    moments: list[str] = []
    for epoch in range(1, epochs + 1):
        for step in [*range(1, steps_per_epoch + 1), "end"]:
            before = averager.n_switches
            (averager.end_epoch if step == "end" else averager.update)()
            moments += [f"{epoch}.{step}"] * (averager.n_switches - before)
    return moments


class TestSwitchCounts:
    """Exactly as many switches as were asked for, exactly when (faults S1 to S4, S6, S7 of the reference code)."""

    @pytest.mark.parametrize(
        ("every", "epochs", "expected"),
        [
            ("1 epoch", 12, [f"{e}.end" for e in range(1, 13)]),
            ("2 epochs", 12, ["2.end", "4.end", "6.end", "8.end", "10.end", "12.end"]),
            ("5 epochs", 12, ["5.end", "10.end"]),
            ("100 epochs", 12, []),
            ("1 epoch after 9", 12, ["10.end", "11.end", "12.end"]),
            ("1 epoch until 3", 12, ["1.end", "2.end", "3.end"]),
            ("2 epochs after 3 until 9", 12, ["5.end", "7.end", "9.end"]),
            ("2 epochs after 3 until 10", 12, ["5.end", "7.end", "9.end"]),
            ("0.5 epoch", 2, ["1.3", "1.end", "2.3", "2.end"]),
            ("1/5 epoch", 1, ["1.1", "1.2", "1.3", "1.4", "1.end"]),
            ("1/3 epoch", 1, ["1.2", "1.4", "1.end"]),
            ("1.5 epochs", 4, ["2.3", "3.end"]),
            ("0.5 epoch after 1 until 2", 3, ["2.3", "2.end"]),
            (1, 2, [f"{e}.{s}" for e in (1, 2) for s in range(1, 6)]),
            ("2 steps", 2, ["1.2", "1.4", "2.1", "2.3", "2.5"]),
            (7, 3, ["2.2", "3.4"]),
            ("3 steps after 4 until 11", 3, ["2.2", "2.5"]),
        ],
    )
    def test_exact(self, every: str | int, epochs: int, expected: list[str]) -> None:
        averager = SwitchEMA(Point(), decay=0.2, switch_every=every, steps_per_epoch=5)
        assert switch_moments(averager, epochs, steps_per_epoch=5) == expected
        assert averager.n_switches == len(expected)

    @pytest.mark.parametrize(("steps", "moment"), [(4, "2"), (5, "3"), (6, "3"), (7, "4"), (2, "1")])
    def test_half_an_epoch_even_and_odd(self, steps: int, moment: str) -> None:
        averager = SwitchEMA(Point(), decay=0.2, switch_every="0.5 epoch", steps_per_epoch=steps)
        assert switch_moments(averager, 3, steps) == [f"{e}.{m}" for e in (1, 2, 3) for m in (moment, "end")]

    @pytest.mark.parametrize("real", [3, 4, 6, 9])
    def test_half_an_epoch_where_epochs_are_shorter_or_longer_than_said(self, real: int) -> None:
        averager = SwitchEMA(Point(), decay=0.2, switch_every="0.5 epoch", steps_per_epoch=5)
        assert switch_moments(averager, 3, real) == [f"{e}.{m}" for e in (1, 2, 3) for m in ("3", "end")]

    def test_after_until_it_is_plain_ema_again(self) -> None:
        point = Point()
        averager = SwitchEMA(point, decay=0.5, switch_every="1 epoch until 2")
        for _ in range(2):
            drift(point, averager, 5)
            averager.end_epoch()
        assert averager.n_switches == 2
        start = point.here
        assert average_of(averager) == start
        plain = EMA(other := Point(start), decay=0.5)
        for _ in range(3):
            drift(point, averager, 5)
            averager.end_epoch()
            drift(other, plain, 5)
        assert averager.n_switches == 2
        assert (point.here, average_of(averager)) == (other.here, average_of(plain))
        assert point.here == start + 15

    def test_before_averaging_begins_a_switch_does_nothing(self) -> None:
        averager = SwitchEMA(Point(), decay=0.2, switch_every="1 epoch", update_after_step=10)
        assert switch_moments(averager, 4, steps_per_epoch=5) == ["3.end", "4.end"]


class TestPendingSteps:
    """A switch takes in the steps since the last update first: it never copies a stale average."""

    def test_when_not_aligned(self) -> None:
        point = Point()
        averager = SwitchEMA(point, decay=0.5, update_every=4, switch_every="1 epoch")
        drift(point, averager, 6)
        averager.end_epoch()
        first = (1 - 0.5**4) * 4
        assert point.here == average_of(averager) == first + (1 - 0.5**2) * (6 - first)
        assert (averager.n_averaged, averager.n_switches) == (2, 1)
        at = point.here
        drift(point, averager, 2)  # the next regular update, at step 8, takes in two steps, not four
        assert average_of(averager) == pytest.approx(at + (1 - 0.5**2) * 2, rel=1e-12)

    def test_when_nothing_was_updated_before(self) -> None:
        point = Point()
        averager = SwitchEMA(point, decay=0.5, update_every=10, switch_every=3)
        drift(point, averager, 3)
        assert (averager.n_averaged, averager.n_switches) == (1, 1)
        assert point.here == (1 - 0.5**3) * 3

    def test_when_asked_for_by_hand(self) -> None:
        point = Point()
        averager = EMA(point, decay=0.5, update_every=10)
        with pytest.raises(RuntimeError, match=r"nothing is averaged yet; switch\(\) needs an update\(\)"):
            averager.switch()
        drift(point, averager, 2)
        averager.switch()
        averager.switch()  # at once again: nothing is pending, nothing changes
        assert point.here == 1.5
        assert (averager.n_averaged, averager.n_switches) == (1, 2)

    def test_not_after_averaging_has_ended(self) -> None:
        point = Point()
        averager = EMA(point, decay=0.5, update_every="4 steps until 9")
        drift(point, averager, 20)
        expected = average_of(averager)
        averager.switch()
        assert (point.here, averager.n_averaged) == (expected, 2)

    def test_nor_before_it_has_begun(self) -> None:
        point = Point()
        averager = EMA(point, decay=0.5, update_after_step=5)
        drift(point, averager, 5)
        with pytest.raises(RuntimeError, match="nothing is averaged yet"):
            averager.switch()
        drift(point, averager, 1)
        assert average_of(averager) == 5.5

    def test_a_mean_by_the_epoch_is_copied_as_it_is(self) -> None:
        point = Point()
        averager = SWA(point)
        drift(point, averager, 4)
        averager.end_epoch()
        drift(point, averager, 4)
        averager.switch()
        assert point.here == 4.0


def test_switched_buffers_belong_to_the_switched_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    averager = SwitchEMA(model, decay=0.5)
    for _ in range(3):
        model(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)))
        averager.update()
    expected = bits(averager.averaged_state_dict())
    averager.end_epoch()
    assert bits(model.state_dict()) == expected
