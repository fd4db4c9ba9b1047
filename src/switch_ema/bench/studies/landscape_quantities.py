"""What is measured of a minimum, by the names under which the study of landscapes keeps it: depth and width."""

from __future__ import annotations

from dataclasses import dataclass

from switch_ema.bench.stats import Difference, Results, best_rate, paired_difference

RHOS = (0.05, 0.1, 0.2, 0.5)
ADAPTIVE_RHOS = (0.5, 1.0, 2.0)
RADII = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2)
RISE = 0.1
"""The rise of the loss that ends a minimum."""

PAIRS = (("baseline", "ema"), ("baseline", "sema"), ("ema", "sema"))
"""Solutions between which the loss is followed."""


@dataclass(frozen=True)
class Quantity:
    """A number measured of every solution.

    Attributes:
        metric: Its name among the rows.
        title: What it is, for tables.
        split: The data it is measured on.
        higher: Whether more of it is deeper, or wider.
    """

    metric: str
    title: str
    split: str = "train"
    higher: bool = False


def worst(rho: float, adaptive: bool = False) -> str:
    """Return the name of the worst rise of the loss within a distance."""
    return f"worst-rise@{'adaptive-' * adaptive}{rho:g}"


def mean_rise(radius: float) -> str:
    """Return the name of the mean rise of the loss at a size of the noise."""
    return f"mean-rise@{radius:g}"


def barrier_to(label: str) -> str:
    """Return the name of the barrier on the way to another solution."""
    return f"barrier@{label}"


def distance_to(label: str) -> str:
    """Return the name of the distance to another solution, as a part of its norm."""
    return f"distance@{label}"


TRAIN_LOSS = Quantity("training-loss", "training loss")
TEST_LOSS = Quantity("test-loss", "test loss", "test")
DEPTHS = (TRAIN_LOSS, TEST_LOSS)
WIDTH = Quantity("width", f"width: noise that raises the loss by {RISE:g}", higher=True)
WIDTHS = (
    WIDTH,
    Quantity(mean_rise(0.2), "mean rise, noise of 0.2"),
    Quantity(worst(0.1), "worst rise within 0.1"),
    Quantity(worst(1.0, True), "worst rise, adaptive, within 1"),
    Quantity("hessian-eigenvalue", "largest Hessian eigenvalue"),
    Quantity("hessian-trace", "Hessian trace"),
    Quantity("fisher-trace", "Fisher trace"),
)


def gap(results: Results, label: str, other: str, quantity: Quantity) -> Difference:
    """Return the paired difference of a quantity between two methods."""
    return paired_difference(*(values(results, each, quantity.metric, quantity.split) for each in (label, other)))


def values(results: Results, label: str, metric: str, split: str = "train") -> dict[int, float | None]:
    """Return a measurement of every seed."""
    return results.at(label, best_rate(results, label), split, metric=metric)
