"""What the figures of the report draw, as plain data; `template/report.js` only draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from switch_ema.bench.stats import BASELINE, Difference, Results, Spread, budget_points, paired_difference, spread
from switch_ema.bench.summary import Summary

OWN_BEST = "best"
SPLITS = {"test": "Test", "val": "Validation", "train": "Training"}


def figure_data(run: Mapping[str, Any], results: Results, summary: Summary) -> dict[str, Any]:
    """Return the data of every figure.

    A curve is the mean over the seeds with a finite value, its band runs from the lowest to the highest seed. A rate is
    one of the learning rates, or ``best``: every method at its own best one.

    Args:
        run: Contents of ``run.json``.
        results: Its rows.
        summary: Its summary, which holds each method's own best rate.
    """
    rates: dict[str, dict[str, float]] = {OWN_BEST: {row.label: row.lr for row in summary.rows}}
    if summary.own_rates:
        rates |= {show_rate(lr): dict.fromkeys(results.methods, lr) for lr in results.lrs}
    views = [
        (split, metric["name"])
        for metric in run["metrics"]
        for split in SPLITS
        if any(cell.split == split and cell.metric == metric["name"] for cell in results.cells)
    ]
    return {
        "epochs": results.epochs,
        "metric": results.metric,
        "methods": results.methods,
        "rates": list(rates),
        "views": [f"{SPLITS[split]} {metric}" for split, metric in views],
        "curves": [
            [[_curve(results, label, lrs[label], *view) for label in results.methods] for lrs in rates.values()]
            for view in views
        ],
        "points": [[f"{percent} %", epoch] for percent, epoch in budget_points(results.epochs).items()],
        "differences": [
            [_differences(results, label, lrs[label], lrs[BASELINE]) for label in results.methods]
            for lrs in rates.values()
        ],
        "lrs": results.lrs,
        "sensitivity": [
            _ranges([spread(results.at(label, lr, "test").values()) for lr in results.lrs]) for label in results.methods
        ],
    }


def show_rate(lr: float) -> str:
    """Write a learning rate."""
    return f"{lr:.6g}"


def _curve(results: Results, method: str, lr: float, split: str, metric: str) -> dict[str, Any] | None:
    by_epoch: dict[int, list[float | None]] = {}
    for series in results.curves(method, lr, split, metric).values():
        for epoch, value in series.items():
            by_epoch.setdefault(epoch, []).append(value)
    if not by_epoch:
        return None
    epochs = sorted(by_epoch)
    return {"x": epochs} | _ranges([spread(by_epoch[epoch]) for epoch in epochs])


def _ranges(found: Sequence[Spread | Difference]) -> dict[str, Any]:
    return {
        "mean": [_short(each.mean) for each in found],
        "low": [_short(each.low) for each in found],
        "high": [_short(each.high) for each in found],
        "n": [each.n for each in found],
    }


def _differences(results: Results, method: str, lr: float, baseline_lr: float) -> dict[str, Any] | None:
    if method == BASELINE:
        return None
    found = [
        paired_difference(
            results.at(method, lr, "test", epoch=epoch), results.at(BASELINE, baseline_lr, "test", epoch=epoch)
        )
        for epoch in budget_points(results.epochs).values()
    ]
    return _ranges(found)


def _short(value: float | None) -> float | None:
    """Cut to six digits, more than a plot shows, to keep the page small."""
    return None if value is None else float(f"{value:.6g}")
