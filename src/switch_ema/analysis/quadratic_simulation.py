"""Chains on the noisy quadratic model, to hold the closed forms against; see `switch_ema.analysis.quadratic`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from switch_ema.analysis.quadratic_contraction import largest_step
from switch_ema.analysis.quadratic_map import Floats, checked, propagate
from switch_ema.errors import InputError


class Estimate(NamedTuple):
    """A variance and its standard error, one for each step that was asked for."""

    variance: Floats
    error: Floats


class Simulated(NamedTuple):
    """Variances at the times of the closed forms, in units of the variance of the optimum.

    Those of SGD, its EMA and Switch EMA are right after a switch; `online` are Switch EMA's weights just before it, and
    `midway` is its average half-way (rounded up) between two switches.
    """

    sgd: Estimate
    ema: Estimate
    switch: Estimate
    online: Estimate
    midway: Estimate


def simulate(
    step: ArrayLike, decay: float, interval: int, *, chains: int = 256, switches: int = 20, seed: int = 0
) -> Simulated:
    """Run many chains of SGD, its EMA and Switch EMA on the same noise and measure their stationary variances.

    Chains start at the optimum and run until less than 1e-4 of any variance is missing, then through `switches`
    intervals, at whose ends squares are taken; the mean is known to be 0. Chains are independent, intervals are not, so
    that the standard error is that of the chains' means.

    Args:
        step: Learning rate times curvature, above 0 and below `largest_step`; any shape, each on noise of its own. From
            2 on, SGD and its EMA diverge, and theirs are infinite.
        decay: Share of the old average kept at each step, in [0, 1).
        interval: Steps from one switch to the next, at least 1.
        chains: Independent chains, at least 2.
        switches: Intervals that are measured, at least 1.
        seed: Of the noise.

    Raises:
        InputError: If an argument is out of range, or Switch EMA diverges.

    Example:
        >>> variance, error = simulate(0.1, 0.9, 10, chains=64).switch
        >>> bool(abs(variance - 0.01956) < 3 * error)
        True
    """
    x, kept, steps, *_ = checked(step, decay, interval=interval, switches=switches)
    if chains < 2:
        raise InputError(f"chains is {chains}; a standard error needs at least 2")
    bound = largest_step(decay, interval)
    if (x >= bound).any():
        raise InputError(
            f"Switch EMA diverges at the step {x.max():g} and has no variance; write steps below {bound:.4g}"
        )
    run = _intervals(x[..., None], decay, interval, (*x.shape, chains), np.random.default_rng(seed))
    squares = [np.zeros((*x.shape, chains)) for _ in Simulated._fields]
    with np.errstate(over="ignore", invalid="ignore"):  # SGD from step 2 on
        for _ in range(_burn_in(x, kept, steps)):
            next(run)
        for _ in range(switches):
            squares = [total + values**2 / switches for total, values in zip(squares, next(run), strict=True)]
        return Simulated(*(_estimate(values) for values in squares))


def _intervals(
    step: Floats, decay: float, interval: int, shape: tuple[int, ...], rng: np.random.Generator
) -> Iterator[tuple[Floats, ...]]:
    """Go on from switch to switch, and yield what `Simulated` names at each."""
    sgd, ema, online, average, midway, optimum = (np.zeros(shape) for _ in range(6))
    while True:
        for taken in range(1, interval + 1):
            rng.standard_normal(out=optimum)
            sgd += step * (optimum - sgd)
            ema += (1 - decay) * (sgd - ema)
            online += step * (optimum - online)
            average += (1 - decay) * (online - average)
            if 2 * taken in (interval, interval + 1):
                midway[...] = average
        yield sgd, ema, average, online, midway
        online[...] = average


def _burn_in(step: Floats, decay: Floats, interval: Floats) -> int:
    """Return the intervals after which a start is forgotten to 1e-4 of a variance."""
    switching = np.abs(propagate(step, decay, interval).average_mean) ** (1 / interval)
    plain = np.where(step < 2, np.abs(1 - step), 0)
    slowest = np.maximum(np.maximum(plain, decay), switching)
    return math.ceil(np.max(math.log(1e-4) / (2 * np.log(np.maximum(slowest, 0.1))) / interval))


def _estimate(squares: Floats) -> Estimate:
    variance, error = squares.mean(-1), squares.std(-1, ddof=1) / math.sqrt(squares.shape[-1])
    bounded = np.isfinite(variance) & np.isfinite(error)
    return Estimate(np.where(bounded, variance, np.inf), np.where(bounded, error, np.inf))
