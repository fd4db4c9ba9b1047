"""Many steps of SGD and of its EMA on the noisy quadratic model, as one linear map with noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from switch_ema.errors import InputError

Floats = NDArray[np.float64]


class Map(NamedTuple):
    """`(w, m) <- matrix (w, m) + drift c + noise` for an optimum at `c`; covariance of the noise in units of `s^2`."""

    matrix: Floats
    drift: Floats
    covariance: Floats

    @property
    def online_mean(self) -> Floats:
        """What is left of a distance to the optimum in the weights."""
        return self.matrix[..., 0, 0]

    @property
    def average_mean(self) -> Floats:
        """What is left of it in the average, where both start from one point."""
        return self.matrix[..., 1, 0] + self.matrix[..., 1, 1]

    @property
    def pull(self) -> Floats:
        """`1 - average_mean`, as a sum that does not cancel where little is gone."""
        return self.drift[..., 1]


def propagate(step: Floats, decay: Floats, steps: Floats) -> Map:
    """Return the map of so many steps, by repeated squaring; arguments are checked and of one shape."""
    power = _one_step(step, decay)
    result = Map(np.broadcast_to(np.eye(2), power.matrix.shape), 0 * power.drift, 0 * power.covariance)
    left = steps
    with np.errstate(over="ignore", invalid="ignore"):  # steps that diverge
        while left.any():
            result = _choose(left % 2 == 1, _then(result, power), result)
            left = left // 2
            power = _choose(left > 0, _then(power, power), power)
    return result


def checked(step: ArrayLike, decay: ArrayLike = 0.0, **counts: ArrayLike) -> list[Floats]:
    """Return steps, decays and numbers of steps in float64 and in their common shape.

    Raises:
        InputError: If a step is not a number above 0, a decay not in [0, 1), a count not whole and at least 1, or if
            the shapes do not go together.
    """
    x, kept = np.asarray(step, np.float64), np.asarray(decay, np.float64)
    _refuse("step", x, x > 0, "learning rate times curvature, a number above 0", "0.1")
    _refuse("decay", kept, (kept >= 0) & (kept < 1), "the share of the old average kept, in [0, 1)", "0.999")
    numbers = {name: np.asarray(count, np.float64) for name, count in counts.items()}
    for name, number in numbers.items():
        whole = (number >= 1) & (number == np.floor(number))
        _refuse(name, number, whole, "a number of steps, whole and at least 1", "50")
    arrays = [x, kept, *numbers.values()]
    try:
        return list(np.broadcast_arrays(*arrays))
    except ValueError:
        shapes = ", ".join(f"{n} {a.shape}" for n, a in zip(("step", "decay", *counts), arrays, strict=True))
        raise InputError(f"shapes do not go together: {shapes}; write numbers, or arrays that broadcast") from None


def _refuse(name: str, values: Floats, good: NDArray[np.bool_], what: str, example: str) -> None:
    wrong = values[~(good & np.isfinite(values))]
    if wrong.size:
        raise InputError(f"{name} is {what}, got {wrong[0]:g}; write e.g. {example}")


def _one_step(step: Floats, decay: Floats) -> Map:
    share = 1 - decay
    matrix = np.stack([1 - step, 0 * step, share * (1 - step), decay], axis=-1).reshape(*step.shape, 2, 2)
    drift = np.stack([step, share * step], axis=-1)
    return Map(matrix, drift, drift[..., :, None] * drift[..., None, :])


def _then(first: Map, second: Map) -> Map:
    drift = (second.matrix @ first.drift[..., None])[..., 0] + second.drift
    covariance = second.matrix @ first.covariance @ np.swapaxes(second.matrix, -1, -2) + second.covariance
    return Map(second.matrix @ first.matrix, drift, covariance)


def _choose(condition: NDArray[np.bool_], one: Map, other: Map) -> Map:
    return Map(
        np.where(condition[..., None, None], one.matrix, other.matrix),
        np.where(condition[..., None], one.drift, other.drift),
        np.where(condition[..., None, None], one.covariance, other.covariance),
    )
