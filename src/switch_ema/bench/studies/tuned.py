"""Methods at their own best: a rate chosen on validation, values read on test, pairs over the same seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from switch_ema.bench.stats import Difference, Results, Spread, best_rate, paired_difference, spread, validation_rank


@dataclass(frozen=True)
class Standing:
    """Where a method stands.

    Attributes:
        label: Label of the method.
        arm: Name of the comparison.
        lr: Its best learning rate on validation.
        at_edge: Whether that is the lowest or highest rate tried.
        rank: Sorts the best on validation first.
        values: Test value of every seed at the last epoch.
    """

    label: str
    arm: str
    lr: float
    at_edge: bool
    rank: tuple[int, float, float]
    values: Mapping[int, float | None]

    @property
    def spread(self) -> Spread:
        """Its values over seeds."""
        return spread(self.values.values())

    def minus(self, other: Standing) -> Difference:
        """Return its paired difference to another, which may stand in another comparison of the same seeds."""
        return paired_difference(self.values, other.values)


def standing(results: Results, label: str, arm: str = "") -> Standing:
    """Return where a method stands at its own best rate.

    Args:
        results: The comparison.
        label: Label of the method.
        arm: Name of the comparison.
    """
    lr = best_rate(results, label)
    edge = len(results.lrs) > 1 and lr in (results.lrs[0], results.lrs[-1])
    return Standing(label, arm, lr, edge, validation_rank(results, label, lr), results.at(label, lr, "test"))


def best(standings: Iterable[Standing]) -> Standing:
    """Return the one that is best on validation; of equals the first."""
    return min(standings, key=lambda each: each.rank)
