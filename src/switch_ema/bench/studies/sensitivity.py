"""How the last value of a method depends on the learning rate, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from switch_ema.bench.stats import Results

Grid = Mapping[int, Sequence[float]]
"""Last test value at every rate of the grid, by seed."""


def grid(results: Results, label: str) -> dict[int, list[float]]:
    """Return a method's last test value at every rate, of the seeds that were trained at all of them.

    A run that diverged counts as the worst finite value of the whole comparison. Where no value is finite there is
    no seed.

    Args:
        results: The comparison.
        label: Label of the method.
    """
    ends = [results.at(label, lr, "test") for lr in results.lrs]
    seeds = [seed for seed in results.seeds if all(seed in end for end in ends)]
    everything = [
        value
        for method in results.methods
        for lr in results.lrs
        for value in results.at(method, lr, "test").values()
        if value is not None
    ]
    if not everything:
        return {}
    worst = min(everything) if results.higher_is_better else max(everything)
    return {seed: [worst if (value := end[seed]) is None else value for end in ends] for seed in seeds}


def octaves(lrs: Sequence[float], values: Sequence[float], threshold: float, higher_is_better: bool) -> float:
    """Return over how many octaves of the rate the values are at least as good as a threshold.

    Between rates of the grid the values are straight over the logarithm of the rate.

    Args:
        lrs: Rates, ascending.
        values: Value at each.
        threshold: The value that is still good.
        higher_is_better: Direction of the metric.

    Example:
        >>> octaves((1, 2, 4), (0.0, 1.0, 0.0), 0.5, True)
        1.0
    """
    sign = 1 if higher_is_better else -1
    margins = [sign * (value - threshold) for value in values]
    total = 0.0
    for place in range(len(lrs) - 1):
        left, right = margins[place], margins[place + 1]
        if left < 0 and right < 0:
            continue
        share = 1.0 if min(left, right) >= 0 else max(left, right) / abs(left - right)
        total += share * math.log2(lrs[place + 1] / lrs[place])
    return total


def height(lrs: Sequence[float], values: Sequence[float]) -> float:
    """Return the area under the values over the logarithm of the rate, divided by its length: their mean height.

    Args:
        lrs: Rates, ascending.
        values: Value at each.

    Example:
        >>> height((1, 2, 4), (0.0, 1.0, 0.0))
        0.5
    """
    if len(lrs) == 1:
        return values[0]
    places = np.log2(lrs)
    return float(np.trapezoid(values, places) / (places[-1] - places[0]))


def at_lower_rate(lrs: Sequence[float], values: Sequence[float], share: float) -> list[float | None]:
    """Return the values at a share of every rate, read between the rates of the grid; None below its lowest.

    Args:
        lrs: Rates, ascending.
        values: Value at each.
        share: What every rate is multiplied by, above 0 up to 1.

    Example:
        >>> at_lower_rate((1, 2, 4), (0.0, 1.0, 2.0), 0.5)
        [None, 0.0, 1.0]
    """
    read = np.interp(np.log2(lrs) + math.log2(share), np.log2(lrs), values)
    return [float(value) if lr * share >= lrs[0] * (1 - 1e-9) else None for lr, value in zip(lrs, read, strict=True)]
