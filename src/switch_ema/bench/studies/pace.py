"""How soon each method gets to a target, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from switch_ema.bench.stats import (
    BASELINE,
    Difference,
    Results,
    Series,
    best_rate,
    epochs_to_reach,
    paired_difference,
    spread,
)

END = 1.0
"""The target that is plain training's last value."""


@dataclass(frozen=True)
class Pace:
    """How soon a method gets to a target.

    Attributes:
        name: The method, with its rate where this is not its own best.
        lr: Its learning rate.
        times: Epochs to the target by seed; None where it never gets there.
        saved: Its epochs minus those of plain training at plain training's own rate.
    """

    name: str
    lr: float
    times: Mapping[int, float | None]
    saved: Difference

    @property
    def always(self) -> bool:
        """Whether it gets there with every seed that has a target."""
        return bool(self.times) and None not in self.times.values()

    @property
    def mean(self) -> float | None:
        """Mean of the epochs over the seeds that get there."""
        return spread(self.times.values()).mean

    @property
    def faster(self) -> bool:
        """Whether it is sooner than plain training, beyond noise."""
        return self.always and self.saved.judge(higher_is_better=False) == "better"


def crossing(series: Series, target: float, higher_is_better: bool) -> float | None:
    """Return when a curve, straight between epochs, first is as good as a target; None where it never is.

    Args:
        series: Value by epoch.
        target: The value to reach.
        higher_is_better: Direction of the metric.

    Example:
        >>> crossing({1: 0.2, 2: 0.6}, 0.4, True)
        1.5
    """
    epoch = epochs_to_reach(series, target, higher_is_better)
    before = max((other for other in series if epoch and other < epoch), default=None)
    if epoch is None or before is None or (start := series[before]) is None or (end := series[epoch]) is None:
        return epoch
    return before + (epoch - before) * (target - start) / (end - start)


def _targets(results: Results, lr: float, share: float) -> dict[int, float]:
    """Return the target of every seed; where plain training ends no better than it began only its end is one."""
    targets = {}
    for seed, series in results.curves(BASELINE, lr, "test").items():
        first, last = series[min(series)], series.get(results.epochs)
        if first is None or last is None:
            continue
        if share == END or (last > first) == results.higher_is_better:
            targets[seed] = first + share * (last - first) if share < END else last
    return targets


def paces(results: Results, share: float) -> list[Pace]:
    """Return the pace of every method at its own rate, then of plain training at the other rates.

    Args:
        results: The comparison.
        share: The target, as a share of the way from plain training's first value to its last, above 0 up to 1.
    """
    own = best_rate(results, BASELINE)
    targets = _targets(results, own, share)

    def times(label: str, lr: float) -> dict[int, float | None]:
        curves = results.curves(label, lr, "test")
        return {s: crossing(curves[s], targets[s], results.higher_is_better) for s in targets if s in curves}

    plain = times(BASELINE, own)
    asked = [(label, label, best_rate(results, label)) for label in results.methods]
    asked += [(f"{BASELINE} at rate {lr:g}", BASELINE, lr) for lr in results.lrs if lr != own]
    found = [(name, lr, times(label, lr)) for name, label, lr in asked]
    return [Pace(name, lr, taken, paired_difference(taken, plain)) for name, lr, taken in found]
