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
        beside: The same at the next lower and the next higher rate that was tried.
    """

    label: str
    arm: str
    lr: float
    at_edge: bool
    rank: tuple[int, float, float]
    values: Mapping[int, float | None]
    beside: tuple[Mapping[int, float | None], ...] = ()

    @property
    def spread(self) -> Spread:
        """Its values over seeds."""
        return spread(self.values.values())

    def minus(self, other: Standing) -> Difference:
        """Return its paired difference to another, which may stand in another comparison of the same seeds."""
        return paired_difference(self.values, other.values)

    def hangs_on_rate(self, other: Standing, higher_is_better: bool) -> bool:
        """Say whether the one that is behind would be ahead, in the mean, at a rate next to the one chosen for it.

        Then their difference is one of luck in choosing rates as much as one of methods.

        Args:
            other: The other one.
            higher_is_better: Direction of the metric.
        """
        gap = self.minus(other).mean
        if gap is None:
            return False
        if (gap > 0) == higher_is_better:
            turned = [paired_difference(self.values, near) for near in other.beside]
        else:
            turned = [paired_difference(near, other.values) for near in self.beside]
        return any(new.mean is not None and new.mean * gap < 0 for new in turned)


def standing(results: Results, label: str, arm: str = "") -> Standing:
    """Return where a method stands at its own best rate.

    Args:
        results: The comparison.
        label: Label of the method.
        arm: Name of the comparison.
    """
    lr = best_rate(results, label)
    place, last = results.lrs.index(lr), len(results.lrs) - 1
    beside = [results.at(label, results.lrs[near], "test") for near in (place - 1, place + 1) if 0 <= near <= last]
    return Standing(
        label, arm, lr, last > 0 and place in (0, last), validation_rank(results, label, lr),
        results.at(label, lr, "test"), tuple(beside),
    )  # fmt: skip


def best(standings: Iterable[Standing]) -> Standing:
    """Return the one that is best on validation; of equals the first."""
    return min(standings, key=lambda each: each.rank)
