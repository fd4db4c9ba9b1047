"""The noisy quadratic model against the covariance recursion, direct iteration, and chains."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from switch_ema.analysis import quadratic_compare as compare
from switch_ema.analysis.quadratic import ema_variance, sgd_variance, switch_variance, within_interval
from switch_ema.analysis.quadratic_contraction import (
    ema_contraction,
    largest_step,
    sgd_contraction,
    switch_contraction,
)
from switch_ema.analysis.quadratic_simulation import simulate
from switch_ema.averaging.decay import retained_fraction
from switch_ema.errors import InputError

SETTINGS = [  # decay, interval; with these steps, 1 - step is positive, zero, negative, and equal to the decay
    (0.0, 1),
    (0.0, 7),
    (0.5, 1),
    (0.9, 1),
    (0.9, 2),
    (0.9, 3),
    (0.9, 10),
    (0.99, 50),
    (0.99, 51),
]
STEPS = np.array([0.02, 0.1, 0.5, 1.0, 1.3, 1.9])
GRID = [(float(step), decay, interval) for step in STEPS for decay, interval in SETTINGS]


def one_step(step: float, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """Return matrix and noise weights of one step of (weights, average), from their definition."""
    return np.array([[1 - step, 0], [(1 - decay) * (1 - step), decay]]), np.array([step, (1 - decay) * step])


def recursion(step: float, decay: float, interval: int, *, switch: bool) -> list[np.ndarray]:
    """Iterate the covariance of (weights, average) step by step to its fixed point; return those of one interval."""
    matrix, noise = one_step(step, decay)
    to_average = np.array([[0.0, 1.0], [0.0, 1.0]])
    covariance = np.zeros((2, 2))
    for _ in range(20_000 // interval):
        last, history = covariance, []
        for _ in range(interval):
            covariance = matrix @ covariance @ matrix.T + np.outer(noise, noise)
            history.append(covariance)
        if switch:
            covariance = to_average @ covariance @ to_average.T
        if np.allclose(covariance, last, rtol=1e-13, atol=0):
            return history
    raise RuntimeError("no fixed point")


def left_after(step: float, decay: float, interval: int, intervals: int, *, switch: bool) -> list[tuple[float, float]]:
    """Iterate weights and average from 1 without noise; return both at the end of each interval, before the switch."""
    weights = average = 1.0
    history = []
    for _ in range(intervals):
        for _ in range(interval):
            weights -= step * weights
            average = decay * average + (1 - decay) * weights
        history.append((weights, average))
        weights = average if switch else weights
    return history


@pytest.mark.parametrize(("step", "decay", "interval"), GRID)
def test_variances_are_the_fixed_point_of_the_recursion(step: float, decay: float, interval: int) -> None:
    plain = recursion(step, decay, interval, switch=False)[-1]
    assert_allclose(sgd_variance(step), plain[0, 0], rtol=1e-10)
    assert_allclose(ema_variance(step, decay), plain[1, 1], rtol=1e-10)
    switching = recursion(step, decay, interval, switch=True)
    assert_allclose(switch_variance(step, decay, interval), switching[-1][1, 1], rtol=1e-10)
    at = np.arange(1, interval + 1)
    online, average = within_interval(step, decay, interval, at)
    assert_allclose(online, [covariance[0, 0] for covariance in switching], rtol=1e-10)
    assert_allclose(average, [covariance[1, 1] for covariance in switching], rtol=1e-10)


@pytest.mark.parametrize(("step", "decay", "interval"), GRID)
def test_contraction_is_that_of_iteration_without_noise(step: float, decay: float, interval: int) -> None:
    switched = left_after(step, decay, interval, 3, switch=True)
    assert_allclose(switch_contraction(step, decay, interval), switched[0][1], rtol=1e-10, atol=1e-300)
    assert_allclose(switch_contraction(step, decay, interval) ** 3, switched[-1][1], rtol=1e-10, atol=1e-300)
    assert_allclose(
        sgd_contraction(step, interval), left_after(step, decay, interval, 1, switch=False)[0][0], atol=1e-15
    )


@pytest.mark.parametrize(("step", "decay", "interval"), [(0.1, 0.99, 10), (0.01, 0.5, 7), (1.9, 0.5, 6), (0.3, 0.9, 1)])
def test_ema_contracts_so_in_the_long_run(step: float, decay: float, interval: int) -> None:
    *_, before, last = left_after(step, decay, interval, 60, switch=False)
    assert_allclose(ema_contraction(step, decay, interval), last[1] / before[1], rtol=1e-6)


def test_exact_fractions_where_floats_cancel() -> None:
    step, decay, interval = Fraction(1, 1000), Fraction(999, 1000), 40  # the eigenvalues of weights and average are one
    weights = [step * (1 - decay) * n * (1 - step) ** (n - 1) for n in range(1, interval + 1)]
    rho = decay**interval * (1 + (1 - decay) * interval)
    exact = sum(v**2 for v in weights) / (1 - rho**2)
    assert_allclose(switch_variance(float(step), float(decay), interval), float(exact), rtol=1e-11)
    assert_allclose(switch_contraction(float(step), float(decay), interval), float(rho), rtol=1e-13)
    slow = compare.equal_contraction_step(1e-12, float(decay), interval)
    assert_allclose(slow, 1e-12 * retained_fraction(float(decay), interval), rtol=1e-9)


@pytest.mark.parametrize(("decay", "interval"), [(0.0, 5), (0.9, 1), (0.9, 10), (0.99, 50)])
def test_simulation_agrees_within_three_standard_errors(decay: float, interval: int) -> None:
    measured = simulate(
        STEPS, decay, interval, chains=128, seed=3
    )  # chance alone: at 1 of 8 seeds one of 30 lies beyond 3
    midway = within_interval(STEPS, decay, interval, (interval + 1) // 2).average
    expected = {
        "sgd": sgd_variance(STEPS),
        "ema": ema_variance(STEPS, decay),
        "switch": switch_variance(STEPS, decay, interval),
        "online": within_interval(STEPS, decay, interval, interval).online,
        "midway": midway,
    }
    for name, variance in expected.items():
        estimate = getattr(measured, name)
        assert (estimate.error < 0.15 * variance).all(), name
        assert (np.abs(estimate.variance - variance) < 3 * estimate.error).all(), name


def test_simulation_beyond_the_bound_of_sgd() -> None:
    assert largest_step(0.9, 5) > 2.5
    measured = simulate(2.5, 0.9, 5, chains=200, switches=100)
    assert np.isinf(measured.sgd.variance)
    assert np.isinf(measured.ema.variance)
    assert abs(measured.switch.variance - switch_variance(2.5, 0.9, 5)) < 3 * measured.switch.error


def test_simulation_depends_on_its_seed_alone() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    first, again, other = (simulate(0.5, 0.5, 3, chains=8, seed=seed).switch.variance for seed in (3, 3, 4))
    assert first == again != other
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]


def test_limits() -> None:
    steps = np.array([0.01, 0.5, 1.0, 1.5])
    for interval in (1, 2, 9):
        assert_allclose(switch_variance(steps, 0, interval), sgd_variance(steps), rtol=1e-13)
        assert_allclose(switch_contraction(steps, 0, interval), sgd_contraction(steps, interval), atol=1e-16)
    assert_allclose(ema_variance(steps, 0), sgd_variance(steps), rtol=1e-14)
    assert_allclose(switch_variance(steps, 0.9, 1), sgd_variance(0.1 * steps), rtol=1e-12)
    assert_allclose(switch_contraction(steps, 0.9, 1), 1 - 0.1 * steps, rtol=1e-12)
    frozen = 1 - 1e-9
    assert (switch_variance(steps, frozen, 50) < 1e-7).all()
    assert_allclose(switch_contraction(steps, frozen, 50), 1, atol=1e-7)
    assert_allclose(switch_variance(steps, 0.9, 10**6), ema_variance(steps, 0.9), rtol=1e-9)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("interval", [1, 2, 5, 50, 500])
def test_order_of_the_methods_turns_at_step_one(decay: float, interval: int) -> None:
    below, above = np.logspace(-4, -0.001, 60), np.linspace(1.001, 1.999, 60)
    assert (switch_variance(below, decay, interval) < ema_variance(below, decay) * (1 + 1e-12)).all()
    assert_allclose(switch_variance(1.0, decay, interval), ema_variance(1.0, decay), rtol=1e-9)
    assert switch_variance(1.05, decay, interval) > ema_variance(1.05, decay) * (1 - 1e-12)
    assert switch_variance(2 - 1e-9, decay, interval) < 1e-3 * ema_variance(2 - 1e-9, decay)
    assert (switch_variance(below, decay, interval) < sgd_variance(below)).all()
    slow, fast = (switch_contraction(x, decay, interval) / ema_contraction(x, decay, interval) for x in (below, above))
    assert (slow > 1).all()
    assert (np.abs(fast) < 1).all()
    assert (switch_contraction(below, decay, interval) > sgd_contraction(below, interval)).all()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("interval", [1, 2, 3, 10, 51, 1000])
def test_divergence_begins_at_the_largest_step(decay: float, interval: int) -> None:
    bound = float(largest_step(decay, interval))
    assert bound >= 2 - 1e-12
    for factor, diverges in ((1 - 1e-4, False), (1 + 1e-4, True)):
        (_, left), *_, (_, later) = left_after(bound * factor, decay, interval, 3, switch=True)
        assert (abs(left) > 1) == (abs(later) > abs(left)) == diverges
        assert np.isinf(switch_variance(bound * factor, decay, interval)) == diverges
    inside = np.linspace(0.001, 0.999, 200) * bound
    assert (np.abs(switch_contraction(inside, decay, interval)) < 1).all()


def test_far_beyond_the_bound_all_is_infinite_without_a_warning() -> None:
    assert np.isinf(switch_variance(5.0, 0.9, 10000))
    assert np.isinf(within_interval(5.0, 0.9, 100, 50)).all()
    assert np.isinf(np.abs(sgd_contraction(5.0, 10000)))
    left = compare.after_steps(5.0, 0.9, 10000, 3)
    assert np.isinf([np.abs(moment) for method in left for moment in method]).all()


@pytest.mark.parametrize(("step", "decay", "interval"), GRID)
def test_moments_after_some_intervals(step: float, decay: float, interval: int) -> None:
    found = compare.after_steps(step, decay, interval, 3)
    plain, switched = (left_after(step, decay, interval, 3, switch=switch)[-1] for switch in (False, True))
    for method, mean in zip(found, (*plain, switched[1]), strict=True):
        assert_allclose(method.mean, mean, rtol=1e-9, atol=1e-300)
    matrix, noise = one_step(step, decay)
    for switch, methods in ((False, {0: found.sgd, 1: found.ema}), (True, {1: found.switch})):
        covariance = np.zeros((2, 2))
        for taken in range(1, 3 * interval + 1):
            covariance = matrix @ covariance @ matrix.T + np.outer(noise, noise)
            if switch and taken % interval == 0:
                covariance = np.full((2, 2), covariance[1, 1])
        for i, method in methods.items():
            assert_allclose(method.variance, covariance[i, i], rtol=1e-9)


@pytest.mark.parametrize(("step", "decay", "interval"), GRID)
def test_equal_contraction_and_equal_variance(step: float, decay: float, interval: int) -> None:
    rho = np.abs(switch_contraction(step, decay, interval))
    equal = compare.equal_contraction_step(step, decay, interval)
    assert_allclose(np.abs(1 - equal) ** interval, rho, rtol=1e-9, atol=1e-300)
    if step < 1 and decay:
        assert_allclose(ema_contraction(equal, decay, interval), rho, rtol=1e-9)
    variance = switch_variance(step, decay, interval)
    assert_allclose(sgd_variance(compare.sgd_step_of_variance(variance)), variance, rtol=1e-12)
    assert_allclose(ema_variance(compare.ema_step_of_variance(variance, decay), decay), variance, rtol=1e-9)


def test_ema_variance_grows_with_the_step_so_that_one_step_has_it() -> None:
    steps = np.linspace(1e-4, 1.9999, 500)
    for decay in (0.0, 0.3, 0.9, 0.9999):
        assert (np.diff(ema_variance(steps, decay)) > 0).all()
        assert_allclose(compare.ema_step_of_variance(ema_variance(steps, decay), decay), steps, rtol=1e-6)


def test_for_small_steps_a_smaller_learning_rate_of_sgd_has_less_variance_than_switching() -> None:
    decay, interval = 0.99, np.array([1, 2, 10, 100])
    equal = compare.equal_contraction_step(1e-5, decay, interval)
    ratio = sgd_variance(equal) / switch_variance(1e-5, decay, interval)
    assert_allclose(ratio[0], 1, rtol=1e-9)  # at interval 1 they are the same
    assert (ratio[1:] < 0.95).all()
    share = 1 - decay ** np.arange(1, 101)  # of the noise of each step; Cauchy and Schwarz
    assert_allclose(ratio[-1], share.mean() ** 2 / (share**2).mean(), rtol=1e-3)


def test_lookahead() -> None:
    steps = np.array([0.01, 0.5, 1.0, 1.9])
    k, alpha = 5, 0.3
    left = (1 - steps) ** k
    ratio = alpha**2 * (1 - left**2) / (alpha**2 * (1 - left**2) + 2 * alpha * (1 - alpha) * (1 - left))
    assert_allclose(compare.lookahead_variance(steps, k, alpha), ratio * sgd_variance(steps), rtol=1e-12)
    assert_allclose(compare.lookahead_contraction(steps, k, alpha), 1 - alpha + alpha * left, rtol=1e-14)
    wide = np.array([0.1, 1.0, 2.5, 19.0])  # at k = 1 Lookahead is Switch EMA of interval 1
    assert_allclose(compare.lookahead_variance(wide, 1, 0.1), switch_variance(wide, 0.9, 1), rtol=1e-10)
    assert_allclose(compare.lookahead_contraction(wide, 1, 0.1), switch_contraction(wide, 0.9, 1), rtol=1e-10)
    assert np.isinf(compare.lookahead_variance([3.0, 21.0], [5, 1], [0.5, 0.1])).all()


def test_shapes_broadcast() -> None:
    wide = switch_variance(STEPS[:, None, None], np.array([0.5, 0.9])[:, None], [1, 10, 100])
    assert wide.shape == (6, 2, 3)
    assert wide[2, 1, 1] == switch_variance(0.5, 0.9, 10)
    assert compare.after_steps(STEPS, 0.9, 5, [[1], [2]]).switch.mean.shape == (2, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sgd_variance(0), "step is learning rate times curvature, a number above 0, got 0; write e.g. 0.1"),
        (lambda: sgd_variance([0.1, np.nan]), "got nan"),
        (lambda: ema_variance(0.1, 1), r"decay is the share of the old average kept, in \[0, 1\), got 1; write"),
        (lambda: ema_variance(0.1, -0.5), "got -0.5"),
        (lambda: switch_variance(0.1, 0.9, 2.5), "interval is a number of steps, whole and at least 1, got 2.5; write"),
        (lambda: switch_contraction(0.1, 0.9, 0), "interval is .* got 0"),
        (lambda: largest_step(0.9, np.inf), "interval is .* got inf"),
        (lambda: switch_variance([0.1, 0.2], [0.9, 0.5, 0.1], 3), r"do not go together: step \(2,\), decay \(3,\)"),
        (lambda: within_interval(0.1, 0.9, 5, [5, 6]), "at is at most the interval, got 6 of 5 steps"),
        (lambda: compare.sgd_step_of_variance(np.inf), "a variance is a finite number above 0"),
        (lambda: compare.after_steps(0.1, 0.9, 5, 0), "switches is"),
        (lambda: compare.lookahead_variance(0.1, 5, 0), "alpha is the share of the fast weights taken, in .* got 0"),
        (lambda: simulate(0.1, 0.9, 5, chains=1), "chains is 1; a standard error needs at least 2"),
        (lambda: simulate([0.1, 2.9], 0.9, 5, chains=8), "diverges at the step 2.9"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
