"""What the study of the noisy quadratic computes: closed forms over grids, chains, bounds found by iteration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from switch_ema.analysis.quadratic import ema_variance, sgd_variance, switch_variance, within_interval
from switch_ema.analysis.quadratic_compare import Moments, after_steps, equal_contraction_step
from switch_ema.analysis.quadratic_contraction import (
    ema_contraction,
    largest_step,
    sgd_contraction,
    switch_contraction,
)
from switch_ema.analysis.quadratic_simulation import Simulated, simulate

DECAYS = (0.9, 0.97, 0.99, 0.997, 0.999)
WINDOWS = (0.05, 0.2, 0.5, 1, 3, 10)  # intervals in windows of the average
STEPS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.5, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9)
BOUND_INTERVALS = (5, 10, 50, 51, 100, 500)
CHAIN_STEPS = (0.02, 0.1, 0.5, 1.0, 1.5)
CHAIN_SETTINGS = ((0.9, 2), (0.9, 10), (0.9, 50), (0.99, 20), (0.99, 100), (0.99, 500), (0.999, 200))
BUDGETS = ((200, 1), (1000, 1), (5000, 1), (200, 100), (1000, 100), (5000, 100))  # steps, spread of the curvatures
BUDGET_INTERVALS = (5, 20, 50, 100, 200, 500, 1000, 2500)
START = 10.0  # distance to the optimum at the start, in standard deviations of the noise
_CHAINS = 64

Sheet = dict[str, Any]


def settings() -> list[Sheet]:
    """Return variances and contractions of all methods on a grid, and those of a learning rate that contracts alike."""
    step, decay, windows = np.meshgrid(STEPS, DECAYS, WINDOWS, indexing="ij")
    interval = np.maximum(1, np.round(windows / (1 - decay)))
    equal = equal_contraction_step(step, decay, interval)
    columns = {
        "step": step,
        "decay": decay,
        "windows": windows,
        "interval": interval,
        "sgd": sgd_variance(step),
        "ema": ema_variance(step, decay),
        "switch": switch_variance(step, decay, interval),
        "sgd_left": sgd_contraction(step, interval),
        "ema_left": ema_contraction(step, decay, interval),
        "switch_left": switch_contraction(step, decay, interval),
        "equal": equal,
        "sgd_equal": sgd_variance(equal),
        "ema_equal": ema_variance(equal, decay),
    }
    names, values = list(columns), [column.ravel().tolist() for column in columns.values()]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def bounds() -> list[Sheet]:
    """Return the step from which on Switch EMA diverges, by the closed form and by iteration without noise."""
    decays = np.array(DECAYS)
    found = []
    for interval in BOUND_INTERVALS:
        low, high = np.full_like(decays, 1.0), np.full_like(decays, 2 / (1 - DECAYS[-1]))
        for _ in range(40):
            middle = np.sqrt(low * high)
            diverges = np.abs(_iterated(middle, decays, interval)) > 1
            low, high = np.where(diverges, low, middle), np.where(diverges, middle, high)
        closed = largest_step(decays, interval)
        rows = zip(DECAYS, closed.tolist(), low.tolist(), strict=True)
        found += [{"decay": d, "interval": interval, "closed": c, "iterated": i} for d, c, i in rows]
    return found


def _iterated(step: np.ndarray, decay: np.ndarray, interval: int) -> np.ndarray:
    weights, average = np.ones_like(step), np.ones_like(step)
    for _ in range(interval):
        weights = np.clip(weights * (1 - step), -1e100, 1e100)  # far beyond all bounds
        average = decay * average + (1 - decay) * weights
    return average


def chains(seed: int) -> list[Sheet]:
    """Return variances measured on chains, with standard errors, beside the closed forms."""
    steps = np.array(CHAIN_STEPS)
    found = []
    for decay, interval in CHAIN_SETTINGS:
        measured = simulate(steps, decay, interval, chains=_CHAINS, seed=seed)
        midway = within_interval(steps, decay, interval, (interval + 1) // 2).average
        online = within_interval(steps, decay, interval, interval).online
        closed = (
            sgd_variance(steps),
            ema_variance(steps, decay),
            switch_variance(steps, decay, interval),
            online,
            midway,
        )
        for name, (variance, error), expected in zip(Simulated._fields, measured, closed, strict=True):
            rows = zip(CHAIN_STEPS, variance.tolist(), error.tolist(), expected.tolist(), strict=True)
            found += [
                {
                    "name": name,
                    "decay": decay,
                    "interval": interval,
                    "step": step,
                    "variance": v,
                    "error": e,
                    "closed": c,
                }
                for step, v, e, c in rows
            ]
    return found


def budget_intervals(steps: int) -> list[int]:
    """Return the intervals that are tried in a number of steps: up to half of them, as all of them would be EMA."""
    return [interval for interval in BUDGET_INTERVALS if interval <= steps // 2]


def budgets() -> list[Sheet]:
    """Return the least expected loss that each method reaches in a number of steps, its learning rate and all chosen.

    The loss is that of 8 directions, their curvatures spread evenly on a log scale up to 1, as a multiple of the loss
    at one standard deviation of the noise from the optimum.
    """
    rates = np.geomspace(1e-3, 3, 60)
    found = []
    for steps, spread in BUDGETS:
        curvatures = np.geomspace(1 / spread, 1, 8)
        intervals = np.array(budget_intervals(steps))
        grid = (rates[:, None, None, None] * curvatures, np.array(DECAYS)[:, None, None], intervals[:, None])
        sgd, ema, switch = (_loss(m, curvatures) for m in after_steps(*grid, steps // intervals[:, None]))
        cell: Sheet = {"steps": steps, "spread": spread, "rates": rates.tolist(), "start": START**2}
        cell["sgd"] = {"losses": _plain(sgd[:, 0, 0])}
        decay = int(np.argmin(ema[:, :, 0].min(0)))
        cell["ema"] = {"losses": _plain(ema[:, decay, 0]), "decay": DECAYS[decay]}
        place = np.unravel_index(int(np.argmin(switch.min(0))), switch.shape[1:])
        chosen = {"decay": DECAYS[int(place[0])], "interval": int(intervals[place[1]])}
        cell["switch"] = {"losses": _plain(switch[:, place[0], place[1]]), **chosen}
        found.append(cell)
    return found


def _loss(moments: Moments, curvatures: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # diverged
        each = curvatures * (moments.mean**2 * START**2 + moments.variance)
    return np.asarray(each.sum(-1) / curvatures.sum())


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]
