"""How numbers are written: as many decimals for a whole metric, a true minus, a difference only with its interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from switch_ema.bench.stats import Difference, Reach, Spread

HUGE = 1e6
NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def decimals_for(values: Iterable[float | None]) -> int:
    """Choose how many decimals suit a metric: four for values from 0.01 to 10, else four or five significant digits.

    Args:
        values: Values of the metric; their median sets the size, so one exploded run does not.
    """
    sizes = [abs(value) for value in values if value]
    exponent = math.floor(math.log10(statistics.median(sizes))) if sizes else 0
    if -2 <= exponent <= 0:
        return 4
    return max(0, 4 - exponent) if exponent > 0 else 3 - exponent


def show(value: float | None, decimals: int) -> str:
    """Write a value; a dash for None."""
    if value is None:
        return NONE
    text = f"{abs(value):.2e}" if abs(value) >= HUGE else f"{abs(value):.{decimals}f}"
    return f"{MINUS}{text}" if value < 0 and float(text) else text


def signed(value: float, decimals: int) -> str:
    """Write a value with its sign; without one if it rounds to zero."""
    text = show(value, decimals)
    return f"+{text}" if value > 0 and float(text) else text


def show_spread(found: Spread, decimals: int) -> str:
    """Write mean ± standard deviation; the mean alone for one seed."""
    if found.std is None:
        return show(found.mean, decimals)
    return f"{show(found.mean, decimals)} ± {show(found.std, decimals)}"


def show_interval(difference: Difference, decimals: int) -> str:
    """Write the 95 % interval, or why there is none."""
    if difference.low is None or difference.high is None:
        few = {0: "no common seed", 1: "no interval from one seed"}
        return few.get(difference.n, "no interval, seeds tie")
    return f"{signed(difference.low, decimals)} to {signed(difference.high, decimals)}"


def show_difference(difference: Difference, decimals: int) -> str:
    """Write a difference with its sign and its 95 % interval, or why there is none, and how many seeds diverged."""
    interval = _interval_of_seeds(difference, decimals)
    if difference.mean is None:
        return interval
    kind = "95 % interval " if difference.low is not None else ""
    return f"{signed(difference.mean, decimals)}, {kind}{interval}"


def show_gap(difference: Difference, decimals: int) -> str:
    """Write a difference and, in brackets, its 95 % interval or why there is none: short, for tables that say so."""
    interval = _interval_of_seeds(difference, decimals)
    return interval if difference.mean is None else f"{signed(difference.mean, decimals)} ({interval})"


def _interval_of_seeds(difference: Difference, decimals: int) -> str:
    interval = show_interval(difference, decimals)
    return f"{interval}, {count(difference.diverged, 'seed')} diverged" if difference.diverged else interval


def show_reach(reach: Reach) -> str:
    """Write the epochs to a target, and how many seeds got there when not all did."""
    if reach.n == 0:
        return NONE
    if reach.mean is None:
        return "never"
    return f"{reach.mean:.1f}" + ("" if reach.reached == reach.n else f" ({reach.reached} of {reach.n} seeds)")


def count(n: int, noun: str) -> str:
    """Write a number of things: ``1 seed``, ``3 seeds``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
