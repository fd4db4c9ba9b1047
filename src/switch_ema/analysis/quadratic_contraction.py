"""How fast SGD, its EMA and Switch EMA contract on the noisy quadratic model, and where they diverge.

See `switch_ema.analysis.quadratic` for the model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from switch_ema.analysis.quadratic_map import Floats, checked, propagate


def sgd_contraction(step: ArrayLike, interval: ArrayLike) -> Floats:
    """Return what an interval of SGD leaves of the expected distance to the optimum: `(1 - step)^interval`.

    Args:
        step: Learning rate times curvature, above 0.
        interval: Steps, at least 1.

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> round(float(sgd_contraction(0.1, 50)), 4)
        0.0052
    """
    x, _, n = checked(step, interval=interval)
    with np.errstate(over="ignore"):
        return np.asarray((1 - x) ** n)


def ema_contraction(step: ArrayLike, decay: ArrayLike, interval: ArrayLike) -> Floats:
    """Return what an interval leaves, in the long run, of the expected distance of the EMA of SGD.

    `max(|1 - step|, decay)^interval` (derived here): the average is as slow as the slower of the weights and its
    memory. In the first interval, weights and average starting from one point, it is `switch_contraction`.

    Args:
        step: Learning rate times curvature, above 0.
        decay: Share of the old average kept at each step, in [0, 1).
        interval: Steps, at least 1.

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> round(float(ema_contraction(0.1, 0.99, 50)), 4)
        0.605
    """
    x, a, n = checked(step, decay, interval=interval)
    with np.errstate(over="ignore"):
        return np.asarray(np.maximum(np.abs(1 - x), a) ** n)


def switch_contraction(step: ArrayLike, decay: ArrayLike, interval: ArrayLike) -> Floats:
    """Return what an interval of Switch EMA leaves of the expected distance to the optimum.

    With `r = 1 - step` (derived here)

        rho = decay^T + (1 - decay) sum_(j = 1..T) decay^(T - j) r^j

    a weighted mean of `1, r, ..., r^T`. For steps below 1 it lies above `r^T` and `decay^T`: in the mean, Switch EMA
    contracts more slowly than SGD and than EMA. For steps from 1 to 2, where SGD oscillates, the powers cancel and it
    contracts at least as fast as EMA. For small steps it is `1 - f T step`, with the retained fraction `f` of a switch.

    Args:
        step: Learning rate times curvature, above 0.
        decay: Share of the old average kept at each step, in [0, 1).
        interval: Steps from one switch to the next, at least 1.

    Returns:
        The factor; its absolute value is below 1 for steps below `largest_step`.

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> switch_contraction([0.1, 1.9], 0.99, 50).round(3)
        array([0.665, 0.602])

    References:
        Li et al., "Switch EMA: A Free Lunch for Better Flatness and Sharpness", arXiv 2402.09240, 2024.
    """
    return propagate(*checked(step, decay, interval=interval)).average_mean


def largest_step(decay: ArrayLike, interval: ArrayLike) -> Floats:
    """Return the step from which on Switch EMA diverges; SGD and EMA do so from 2 on.

    It is `1 + q` with the root `q >= 1` (derived here) of

        (1 - decay) q^(T + 1) = q + decay -+ decay^(T + 1) (1 + q)

    with minus for even intervals `T`, where `rho` reaches 1, and plus for odd ones, where it reaches -1. At interval 1
    it is `2 / (1 - decay)`. For long intervals it comes down to 2: a switch shrinks what grew inside the interval by a
    factor of about `1 - decay`, however long it grew. This is a property of the model: the weights do grow inside an
    interval, by up to `q^T`, and a loss that is no parabola need not bear that.

    Args:
        decay: Share of the old average kept at each step, in [0, 1).
        interval: Steps from one switch to the next, at least 1.

    Raises:
        InputError: If an argument is out of range, or shapes do not go together.

    Example:
        >>> largest_step(0.99, [1, 10, 500]).round(3)
        array([200.   ,   2.332,   2.011])
    """
    _, a, n = checked(1.0, decay, interval=interval)
    rest = np.where(n % 2 == 1, a, -a) * a**n
    root, last = (4 / (1 - a)) ** (1 / n), np.full_like(a, np.inf)
    while (root < last).any():  # convex and above the root, so that Newton's steps go down to it
        grown = (1 - a) * root**n
        value = grown * root - (1 + rest) * root - a - rest
        last, root = root, np.minimum(root, root - value / ((n + 1) * grown - 1 - rest))
    return 1 + root
