"""What else does the same on the noisy quadratic model: smaller learning rates, Lookahead, a given number of steps.

See `switch_ema.analysis.quadratic` for the model. Equations are derived here unless a reference is given.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from switch_ema.analysis.quadratic_contraction import sgd_contraction
from switch_ema.analysis.quadratic_map import Floats, Map, checked, propagate
from switch_ema.errors import InputError


class Moments(NamedTuple):
    """What is left of the distance to the optimum in the mean, and the variance around it."""

    mean: Floats
    variance: Floats


class Methods(NamedTuple):
    """The same of each method."""

    sgd: Moments
    ema: Moments
    switch: Moments


def equal_contraction_step(step: ArrayLike, decay: ArrayLike, interval: ArrayLike) -> Floats:
    """Return the step at which plain SGD contracts as fast per interval as Switch EMA does: `1 - |rho|^(1 / interval)`.

    For steps below 1, EMA contracts as fast there too, in the long run. If its variance there is lower than that of
    Switch EMA, switching does no more than a smaller learning rate. For small steps the share is the retained fraction.

    Args:
        step: Step of Switch EMA, learning rate times curvature, above 0.
        decay: Share of the old average kept at each step, in [0, 1).
        interval: Steps from one switch to the next, at least 1.

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> equal_contraction_step([0.01, 0.1], 0.99, 50).round(5)
        array([0.00194, 0.00813])
    """
    x, a, n = checked(step, decay, interval=interval)
    return -np.expm1(_log_left(propagate(x, a, n)) / n)


def sgd_step_of_variance(variance: ArrayLike) -> Floats:
    """Return the step at which SGD has this stationary variance: `2 V / (1 + V)`.

    Args:
        variance: In units of the variance of the optimum; above 0.

    Raises:
        InputError: If a variance is not a number above 0.

    Example:
        >>> sgd_step_of_variance([0.1, 1.0]).round(4)
        array([0.1818, 1.    ])
    """
    v = _checked_variance(variance)
    return np.asarray(2 * v / (1 + v))


def ema_step_of_variance(variance: ArrayLike, decay: ArrayLike) -> Floats:
    """Return the step at which the EMA of SGD has this stationary variance.

    The root in (0, 2), which is one only, of the quadratic that `V = ema_variance(step, decay)` becomes.

    Args:
        variance: In units of the variance of the optimum; above 0.
        decay: Share of the old average kept at each step, in [0, 1).

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> from switch_ema.analysis.quadratic import ema_variance
        >>> round(float(ema_step_of_variance(ema_variance(0.1, 0.99), 0.99)), 6)
        0.1
    """
    v, a = checked(_checked_variance(variance), decay)
    squared = a * (1 - a) - a * (1 + a) * v
    linear = (1 + a) * (v * (3 * a - 1) - (1 - a))
    constant = 2 * v * (1 - a) * (1 + a)
    return np.asarray(2 * constant / (np.sqrt(linear**2 - 4 * squared * constant) - linear))


def after_steps(step: ArrayLike, decay: ArrayLike, interval: ArrayLike, switches: ArrayLike) -> Methods:
    """Return mean and variance of SGD, its EMA and Switch EMA after some intervals, from one start without noise.

    The expected loss of a direction of curvature `a` that started at distance `d` lies
    `a / 2 (mean^2 d^2 + variance s^2)` above its minimum.

    Args:
        step: Learning rate times curvature, above 0.
        decay: Share of the old average kept at each step, in [0, 1).
        interval: Steps from one switch to the next, at least 1.
        switches: Intervals, at least 1; the last switch is done.

    Returns:
        Moments of each method; SGD has no decay, and EMA no interval. Infinite where a method has left all bounds.

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> sgd, ema, switch = after_steps(0.01, 0.99, 50, switches=10)
        >>> [round(float(method.mean), 3) for method in (sgd, ema, switch)]
        [0.007, 0.039, 0.379]
        >>> [round(float(method.variance), 4) for method in (sgd, ema, switch)]
        [0.005, 0.0025, 0.001]
    """
    x, a, n, k = checked(step, decay, interval=interval, switches=switches)
    passive, between = propagate(x, a, n * k), propagate(x, a, n)
    with np.errstate(over="ignore", invalid="ignore"):  # steps that diverge
        settled = between.covariance[..., 1, 1] / (between.pull * (2 - between.pull))
        switch = Moments(between.average_mean**k, -np.expm1(2 * k * _log_left(between)) * settled)
    sgd = Moments(passive.online_mean, passive.covariance[..., 0, 0])
    ema = Moments(passive.average_mean, passive.covariance[..., 1, 1])
    return Methods(*(Moments(*(np.where(np.isnan(m), np.inf, m) for m in method)) for method in (sgd, ema, switch)))


def lookahead_contraction(step: ArrayLike, k: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return what `k` steps of Lookahead leave of the expected distance: `1 - alpha + alpha (1 - step)^k`.

    Lookahead is Switch EMA with one update of the average, of the share `alpha`, in each interval; at `k = 1` it is
    Switch EMA with the decay `1 - alpha` and the interval 1.

    Args:
        step: Learning rate times curvature, above 0.
        k: Fast steps, at least 1.
        alpha: Share of the fast weights that is taken, in (0, 1].

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> round(float(lookahead_contraction(0.1, 5, 0.5)), 4)
        0.7952

    References:
        Zhang, Lucas, Hinton, Ba, "Lookahead Optimizer: k steps forward, 1 step back", arXiv 1907.08610, 2019.
    """
    x, kept, n = checked(step, _kept(alpha), k=k)
    return kept + (1 - kept) * sgd_contraction(x, n)


def lookahead_variance(step: ArrayLike, k: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the stationary variance of Lookahead's slow weights; infinite where it diverges.

        alpha (1 - r^(2 k)) / (alpha (1 - r^(2 k)) + 2 (1 - alpha) (1 - r^k)) sgd_variance,    r = 1 - step

    Like Switch EMA it bears steps somewhat above 2, where the equation holds with `sgd_variance = step / (2 - step)`.

    Args:
        step: Learning rate times curvature, above 0.
        k: Fast steps, at least 1.
        alpha: Share of the fast weights that is taken, in (0, 1].

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> round(float(lookahead_variance(0.1, 5, 0.5)), 4)
        0.0233

    References:
        Zhang, Lucas, Hinton, Ba, "Lookahead Optimizer: k steps forward, 1 step back", arXiv 1907.08610, 2019.
    """
    x, kept, n = checked(step, _kept(alpha), k=k)
    fast = propagate(x, kept, n)
    pull = (1 - kept) * fast.drift[..., 0]
    stable = (pull > 0) & (pull < 2)
    pull = np.where(stable, pull, 1)
    return np.where(stable, (1 - kept) ** 2 * fast.covariance[..., 0, 0] / (pull * (2 - pull)), np.inf)


def _kept(alpha: ArrayLike) -> Floats:
    share = np.asarray(alpha, np.float64)
    wrong = share[~((share > 0) & (share <= 1))]
    if wrong.size:
        raise InputError(f"alpha is the share of the fast weights taken, in (0, 1], got {wrong[0]:g}; write e.g. 0.5")
    return 1 - share


def _log_left(moves: Map) -> Floats:
    """Return `log |rho|`, exact where next to nothing is gone."""
    with np.errstate(divide="ignore"):  # nothing is left
        far = np.log(np.abs(moves.average_mean))
    return np.where(moves.pull < 0.5, np.log1p(-np.minimum(moves.pull, 0.5)), far)


def _checked_variance(variance: ArrayLike) -> Floats:
    v = np.asarray(variance, np.float64)
    if not (np.isfinite(v) & (v > 0)).all():
        raise InputError("a variance is a finite number above 0; leave out steps that diverge")
    return v
