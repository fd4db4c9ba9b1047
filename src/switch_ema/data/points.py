"""Points in the plane on one of two curves: names and limits with the standard library, the points when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from switch_ema.errors import InputError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POINT_SETS = {
    "circles": "points on two circles about the origin, of radius 1 and --factor",
    "moons": "points on two half circles that reach into each other",
    "spirals": "points on two spirals that wind about the origin one and a half times",
}
"""The named data sets, each with one line that describes it."""

LARGEST = 10_000
"""Points at most in a split."""

FEWEST = 2
"""Points at least in a split: one of each class."""

_TURNS, _RADIUS = 1.5, 2.0  # of the spirals: neighbouring arms lie 2/3 apart
_HELD_OUT = {"test": 0, "val": 1}


@dataclass(frozen=True)
class Points:
    """The points of one split.

    Attributes:
        inputs: Coordinates, float64 of shape (n, 2).
        labels: Class of each, 0 and 1 in turns, int64 of shape (n,).
    """

    inputs: NDArray[np.float64]
    labels: NDArray[np.int64]


def check_point_set(name: str) -> None:
    """Refuse a data set that is not among `POINT_SETS`.

    Raises:
        InputError: There is no such set.
    """
    if name not in POINT_SETS:
        raise unknown("data set of points", name, POINT_SETS)


def draw_points(name: str, split: str, size: int, *, noise: float, factor: float = 0.5, seed: int = 0) -> Points:
    """Draw the points of one split.

    A point lies on its class's curve, at a place drawn among 5,000 (on circles and moons evenly spaced), and is moved
    by `noise` times a standard normal number in each direction. Held-out points are the same for every seed; those to
    train on are drawn by it. A larger split contains a smaller one, and more noise moves the same points further.

    Args:
        name: One of `POINT_SETS`.
        split: ``train``, ``val`` or ``test``.
        size: Number of points, `FEWEST` to `LARGEST`; the classes have equally many, or the first has one more.
        noise: Standard deviation of each coordinate about the curve, at least 0.
        factor: Radius of the inner one of the circles, 0 to below 1; the others have no use for it.
        seed: Draws the training points, at least 0.

    Returns:
        The points.

    Raises:
        InputError: The name is unknown, or a value is out of range.

    Example:
        >>> draw_points("circles", "train", 50, noise=0.1).inputs.shape
        (50, 2)
    """
    import numpy as np

    from switch_ema.data.splits import SPLIT_SEED

    check_point_set(name)
    if not FEWEST <= size <= LARGEST:
        raise InputError(f"{name}: {size} points in split {split}: write {FEWEST} to {LARGEST}")
    number = _HELD_OUT.get(split, len(_HELD_OUT) + seed)
    drawn = int(np.random.SeedSequence([SPLIT_SEED, number]).generate_state(1)[0])
    inputs, labels = _all_points(name, noise, factor, drawn)
    in_turns = np.argsort(labels, kind="stable").reshape(2, -1).T.ravel()[:size]
    return Points(inputs[in_turns], labels[in_turns].astype(np.int64))


def _all_points(name: str, noise: float, factor: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return as many points as a split may have, in random order, as many of class 0 as of class 1."""
    from sklearn.datasets import make_circles, make_moons

    if name == "circles":
        points = make_circles(LARGEST, noise=noise, factor=factor, random_state=seed)
    elif name == "moons":
        points = make_moons(LARGEST, noise=noise, random_state=seed)
    else:
        points = _spirals(noise, seed)
    inputs, labels = points
    return inputs, labels


def _spirals(noise: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    import numpy as np

    generator = np.random.default_rng(seed)
    labels = np.arange(LARGEST) % 2
    share = np.sqrt(generator.random(LARGEST))  # about evenly spaced along the curve
    angle = 2 * np.pi * _TURNS * share + np.pi * labels
    curve = _RADIUS * share * np.stack([np.cos(angle), np.sin(angle)])
    return curve.T + noise * generator.standard_normal((LARGEST, 2)), labels
