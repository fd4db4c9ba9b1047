"""Timing: contenders take turns in one process, and each is compared with ours within the same round."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Action = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles about it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the quartiles of some values."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(times: Sequence[float], ours: Sequence[float]) -> Spread:
    """Return the spread of the ratios taken round by round: what slows a whole round falls out of it."""
    return spread([theirs / own for theirs, own in zip(times, ours, strict=True)])


def seconds(action: Action, device: torch.device) -> float:
    """Return how long an action takes: by the clock, or on a GPU by events before and after it."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        action()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1e3
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def interleave(
    actions: Mapping[str, Action],
    rounds: int,
    device: torch.device,
    before: Action | None = None,
    warm_up: int = 3,
) -> dict[str, list[float]]:
    """Time each action once per round, in an order drawn anew for every round.

    Args:
        actions: What to time, by name.
        rounds: Rounds that count, at least 1.
        device: Where the work is done.
        before: Done untimed at the start of every round.
        warm_up: Rounds before those.

    Returns:
        Seconds by name, a value for each round.
    """
    order, draw = list(actions), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in actions}
    gc.collect()
    gc.disable()
    try:
        for number in range(-warm_up, rounds):
            draw.shuffle(order)
            if before is not None:
                before()
            for name in order:
                taken = seconds(actions[name], device)
                if number >= 0:
                    times[name].append(taken)
    finally:
        gc.enable()
    return times
