"""The noisy quadratic model: how much noise SGD, its EMA and Switch EMA keep.

One direction of curvature `a` has the loss `1/2 a (w - c)^2`, and each step draws its own optimum `c ~ N(0, s^2)`. With
the learning rate `eta`, everything depends on `step = eta a`:

    w <- (1 - step) w + step c,        m <- decay m + (1 - decay) w

EMA reads `m` and leaves `w` alone; Switch EMA sets `w = m` after every `interval` steps. Directions are independent of
each other, so that a spectrum of curvatures is an array of steps. Variances are in units of `s^2`. That of SGD is
known; all about EMA and Switch EMA is derived here. How fast they contract is in `quadratic_contraction`.

References:
    Zhang, Lucas, Hinton, Ba, "Lookahead Optimizer: k steps forward, 1 step back", arXiv 1907.08610, 2019 (the model).
    Li et al., "Switch EMA: A Free Lunch for Better Flatness and Sharpness", arXiv 2402.09240, 2024 (the question).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from switch_ema.analysis.quadratic_contraction import largest_step
from switch_ema.analysis.quadratic_map import Floats, checked, propagate
from switch_ema.errors import InputError


class Within(NamedTuple):
    """Stationary variances some steps after a switch."""

    online: Floats
    average: Floats


def sgd_variance(step: ArrayLike) -> Floats:
    """Return the stationary variance of SGD: `step / (2 - step)`; infinite from step 2 on.

    Args:
        step: Learning rate times curvature, above 0; any shape.

    Raises:
        InputError: If a step is not a number above 0.

    Example:
        >>> sgd_variance([0.1, 1.0, 2.0]).round(4)
        array([0.0526, 1.    ,    inf])

    References:
        Zhang, Lucas, Hinton, Ba, "Lookahead Optimizer: k steps forward, 1 step back", arXiv 1907.08610, 2019.
    """
    x = checked(step)[0]
    stable = x < 2
    return np.where(stable, x / np.where(stable, 2 - x, 1), np.inf)


def ema_variance(step: ArrayLike, decay: ArrayLike) -> Floats:
    """Return the stationary variance of the EMA of SGD, which training does not see.

    `sgd_variance * (1 - decay) / (1 + decay) * (1 + decay r) / (1 - decay r)` with `r = 1 - step` (derived here). It
    grows with the step and is infinite from step 2 on.

    Args:
        step: Learning rate times curvature, above 0.
        decay: Share of the old average kept at each step, in [0, 1).

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> round(float(ema_variance(0.1, 0.99)), 5)
        0.00459
    """
    x, a = checked(step, decay)
    return sgd_variance(x) * (1 - a) / (1 + a) * (1 + a * (1 - x)) / (1 - a + a * x)


def switch_variance(step: ArrayLike, decay: ArrayLike, interval: ArrayLike) -> Floats:
    """Return the stationary variance of Switch EMA right after a switch, where weights and average are one.

    From switch to switch `z <- rho z + sum_i v_i c_i`, with `r = 1 - step`, `g_n = (r^n - decay^n) / (r - decay)` and
    `v_i = step (1 - decay) g_(interval - i + 1)`. Since `sum_i v_i = 1 - rho`, the variance is (derived here)

        sum_i v_i^2 / (1 - rho^2) = sum_i v_i^2 / (sum_i v_i (1 + rho))

    and infinite from `largest_step` on. It is below that of EMA for steps below 1, equal at 1, above it from there on,
    and below it again near 2, where only SGD and EMA diverge. At interval 1 it is that of SGD with the step
    `(1 - decay) step`.

    Args:
        step: Learning rate times curvature, above 0.
        decay: Share of the old average kept at each step, in [0, 1).
        interval: Steps from one switch to the next, at least 1.

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> round(float(switch_variance(0.1, 0.99, 50)), 5)
        0.00425

    References:
        Li et al., "Switch EMA: A Free Lunch for Better Flatness and Sharpness", arXiv 2402.09240, 2024.
    """
    x, a, n = checked(step, decay, interval=interval)
    moves = propagate(x, a, n)
    stable = x < largest_step(a, n)
    pull = np.where(stable, moves.pull, 1)
    return np.where(stable, moves.covariance[..., 1, 1] / (pull * (2 - pull)), np.inf)


def within_interval(step: ArrayLike, decay: ArrayLike, interval: ArrayLike, at: ArrayLike) -> Within:
    """Return the stationary variances of weights and average some steps after a switch.

    With the variance `V` after a switch, and `rho_j`, `v_i` those of an interval of `j` steps (derived here):

        online = r^(2 j) V + step^2 sum_(i < j) r^(2 i),        average = rho_j^2 V + sum_(i <= j) v_i^2

    Args:
        step: Learning rate times curvature, above 0.
        decay: Share of the old average kept at each step, in [0, 1).
        interval: Steps from one switch to the next, at least 1.
        at: Steps since the last switch, from 1 to the interval. At its end, just before the switch, the average is what
            will be deployed.

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> online, average = within_interval(0.1, 0.99, 50, at=50)
        >>> round(float(online), 4), round(float(average), 5)
        (0.0526, 0.00425)
    """
    x, a, n, j = checked(step, decay, interval=interval, at=at)
    if (j > n).any():
        raise InputError(f"at is at most the interval, got {j[j > n][0]:g} of {n[j > n][0]:g} steps; write fewer")
    after = switch_variance(x, a, n)
    stable = np.isfinite(after)
    start = np.where(stable, after, 0)
    moves = propagate(x, a, j)
    online = moves.online_mean**2 * start + moves.covariance[..., 0, 0]
    average = moves.average_mean**2 * start + moves.covariance[..., 1, 1]
    return Within(np.where(stable, online, np.inf), np.where(stable, average, np.inf))
