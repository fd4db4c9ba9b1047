"""Statistics of a comparison: what is measured over seeds, and how sure it is.

Everything is computed from the rows alone. Choices (learning rate, epoch, control) are made on the validation split and
reported on the test split. A value that is not finite means that the run diverged: it never enters a mean in silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final

import numpy as np
from scipy.special import stdtrit

BASELINE = "baseline"
BUDGET = (10, 25, 50, 100)
"""The fixed points of the budget, in percent of the epochs."""

TIE = 1e-9
"""Differences whose deviation is below this share of their mean are the same but for rounding."""

Series = dict[int, float | None]
"""Value by epoch; None where it was not finite."""
Judgement = Literal["better", "worse", "unclear", "unknown"]


class Cell(NamedTuple):
    """What a curve belongs to; there is one curve per seed."""

    method: str
    lr: float
    split: str
    metric: str


@dataclass(frozen=True)
class Spread:
    """Values over seeds: mean, sample standard deviation (n - 1; None for one seed), lowest and highest.

    All are over the `n` seeds with a finite value; `diverged` more had none. An unfinished seed counts in neither.
    """

    n: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    diverged: int


@dataclass(frozen=True)
class Difference:
    """Mean paired difference over `n` common seeds and its 95 % interval (None, None where there is none).

    In `diverged` more at least one of the two had no finite value.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None
    diverged: int = 0

    def judge(self, higher_is_better: bool) -> Judgement:
        """Say whether the interval excludes zero: ``better``, ``worse``, else ``unclear``; ``unknown`` without one."""
        if self.low is None or self.high is None:
            return "unknown"
        if self.low <= 0 <= self.high:
            return "unclear"
        return "better" if (self.low > 0) == higher_is_better else "worse"


@dataclass(frozen=True)
class Reach:
    """Epochs to reach a target: the mean over the `reached` seeds out of `n` that had a target to reach."""

    n: int
    reached: int
    mean: float | None


@dataclass(frozen=True)
class Verdict:
    """A switching method against the best learning-rate control, both at their own best rates, on test.

    The control is chosen on validation. `difference` is method minus control; `judgement` is that of the method.
    Without a control `control` is None and the judgement ``unknown``.
    """

    method: str
    control: str | None
    difference: Difference
    judgement: Judgement

    @property
    def control_does_as_well(self) -> bool | None:
        """Whether the interval includes zero or favours the control; None where there is no interval."""
        return None if self.judgement == "unknown" else self.judgement != "better"


@final
@dataclass(frozen=True)
class Results:
    """The rows of one comparison by curve, with what the statistics need to know of it.

    Attributes:
        cells: Curves by cell and seed.
        methods: Labels in the order of ``run.json``.
        lrs: Learning rates found in the rows, ascending.
        seeds: Seeds found in the rows, ascending.
        epochs: The budget: the epochs asked for.
        metric: The headline metric.
        higher_is_better: Direction of the headline metric.
        final_metrics: Metrics that are measured once, after the last epoch.
    """

    cells: Mapping[Cell, Mapping[int, Series]]
    methods: tuple[str, ...]
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    metric: str
    higher_is_better: bool
    final_metrics: tuple[str, ...] = ()

    @classmethod
    def from_rows(cls, run: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Results:
        """Sort rows into curves; of two rows for the same measurement the later one counts.

        Args:
            run: Contents of ``run.json``.
            rows: Contents of ``rows.jsonl``.
        """
        cells: dict[Cell, dict[int, Series]] = {}
        for row in rows:
            cell = Cell(row["method"], float(row["lr"]), row["split"], row["metric"])
            value = row["value"]
            finite = value is not None and math.isfinite(value)
            cells.setdefault(cell, {}).setdefault(row["seed"], {})[row["epoch"]] = float(value) if finite else None
        headline = run["metrics"][0]
        return cls(
            cells=cells,
            methods=tuple(method["label"] for method in run["methods"]),
            lrs=tuple(sorted({cell.lr for cell in cells})),
            seeds=tuple(sorted({seed for curves in cells.values() for seed in curves})),
            epochs=run["asked"]["epochs"],
            metric=headline["name"],
            higher_is_better=headline["higher_is_better"],
            final_metrics=tuple(metric["name"] for metric in run.get("final_metrics", ())),
        )

    def curves(self, method: str, lr: float, split: str, metric: str | None = None) -> Mapping[int, Series]:
        """Return the curve of every seed; without `metric`, of the headline metric."""
        return self.cells.get(Cell(method, lr, split, metric or self.metric), {})

    def at(
        self, method: str, lr: float, split: str, *, epoch: int | None = None, metric: str | None = None
    ) -> dict[int, float | None]:
        """Return the value of every seed that got to `epoch` (default: the last of the budget)."""
        epoch = epoch or self.epochs
        curves = self.curves(method, lr, split, metric)
        return {seed: series[epoch] for seed, series in sorted(curves.items()) if epoch in series}


def budget_points(epochs: int) -> dict[int, int]:
    """Return the epoch at each fixed point of the budget: percent -> ceil(percent / 100 * epochs)."""
    return {percent: -(-epochs * percent // 100) for percent in BUDGET}


def spread(values: Iterable[float | None]) -> Spread:
    """Summarize values over seeds; see `Spread`."""
    values = list(values)
    finite = [value for value in values if value is not None]
    n = len(finite)
    if n == 0:
        return Spread(0, None, None, None, None, len(values))
    mean = math.fsum(finite) / n
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in finite) / (n - 1)) if n > 1 else None
    return Spread(n, mean, std, min(finite), max(finite), len(values) - n)


def paired_difference(values: Mapping[int, float | None], reference: Mapping[int, float | None]) -> Difference:
    """Return the mean of value minus reference over the seeds where both are finite, with a Student t-interval.

    With d_i the n differences, s their sample standard deviation: mean(d) +- t(0.975, n - 1) * s / sqrt(n). The factor
    t / sqrt(n) is 9.0 for two seeds and 2.5 for three, so few seeds give a wide interval. It covers one comparison,
    not all methods at once. There is no interval below two seeds, nor where all d_i are the same and not zero: a metric
    that counts a few hundred examples makes such ties by chance, and s = 0 would pass for certainty.

    Args:
        values: Value by seed.
        reference: The value it is compared to, by seed.
    """
    pairs = [(value, reference[seed]) for seed, value in values.items() if seed in reference]
    found = spread(None if value is None or other is None else value - other for value, other in pairs)
    if found.mean is None or found.std is None or found.std < TIE * abs(found.mean):
        return Difference(found.n, found.mean, None, None, found.diverged)
    half = float(stdtrit(found.n - 1, 0.975)) * found.std / math.sqrt(found.n)
    return Difference(found.n, found.mean, found.mean - half, found.mean + half, found.diverged)


def epochs_to_reach(series: Series, target: float, higher_is_better: bool) -> int | None:
    """Return the first epoch whose value is at least as good as `target`, or None when there is none."""
    sign = 1 if higher_is_better else -1
    reached = (epoch for epoch, value in series.items() if value is not None and sign * value >= sign * target)
    return min(reached, default=None)


def reach_baseline(results: Results, method: str, lr: float, baseline_lr: float) -> Reach:
    """Count the epochs a method takes to reach the baseline's last test value, seed by seed.

    Seeds whose baseline diverged or is unfinished set no target and are left out.

    Args:
        results: The comparison.
        method: Label of the method.
        lr: Its learning rate.
        baseline_lr: The baseline's: the same rate, or the baseline's own best in a comparison at own best rates.
    """
    targets = results.at(BASELINE, baseline_lr, "test")
    curves = results.curves(method, lr, "test")
    epochs = [
        epochs_to_reach(curves[seed], target, results.higher_is_better)
        for seed, target in targets.items()
        if target is not None and seed in curves
    ]
    reached = [epoch for epoch in epochs if epoch is not None]
    return Reach(len(epochs), len(reached), sum(reached) / len(reached) if reached else None)


def best_epoch(series: Series, higher_is_better: bool) -> int | None:
    """Return the epoch with the best value (the earliest of equals), or None when no value is finite."""
    sign = 1 if higher_is_better else -1
    finite = [(-sign * value, epoch) for epoch, value in series.items() if value is not None]
    return min(finite)[1] if finite else None


def at_best_validation(results: Results, method: str, lr: float) -> dict[int, float | None]:
    """Return the test value of every seed at the epoch that is best on its validation split."""
    test = results.curves(method, lr, "test")
    values: dict[int, float | None] = {}
    for seed, series in sorted(results.curves(method, lr, "val").items()):
        epoch = best_epoch(series, results.higher_is_better)
        values[seed] = None if epoch is None else test.get(seed, {}).get(epoch)
    return values


def peeking(results: Results, method: str, lr: float) -> dict[int, float | None]:
    """Return the value of every seed by the reporting rule of the Switch EMA paper's code, which peeks at the test set.

    It is the mean of the best and of the 99th percentile (by linear interpolation, counted from the worse end) of the
    test values of all epochs measured: a choice of the epoch on the test set, so it flatters, and more so the longer
    and noisier the curve.
    """
    values: dict[int, float | None] = {}
    sign = 1 if results.higher_is_better else -1
    for seed, series in sorted(results.curves(method, lr, "test").items()):
        finite = [sign * value for value in series.values() if value is not None]
        values[seed] = sign * float(max(finite) + np.percentile(finite, 99)) / 2 if finite else None
    return values


def validation_rank(results: Results, method: str, lr: float) -> tuple[int, float, float]:
    """Return a key that sorts the best first, by the headline metric on validation at the last epoch.

    Fewer seeds without a finite value come first, then the better mean: where a seed diverges is no best rate. Of equal
    means, which are frequent where a metric counts few examples, the lower loss on validation comes first.
    """
    found = spread(results.at(method, lr, "val").values())
    mean = math.inf if found.mean is None else -found.mean if results.higher_is_better else found.mean
    loss = spread(results.at(method, lr, "val", metric="loss").values()).mean
    return len(results.seeds) - found.n, mean, math.inf if loss is None else loss


def best_rate(results: Results, method: str) -> float:
    """Return the method's own best learning rate by `validation_rank`; of equals in that too the smallest."""
    return min(results.lrs, key=lambda lr: (validation_rank(results, method, lr), lr))


def against_controls(results: Results, method: str, controls: Sequence[str], rates: Mapping[str, float]) -> Verdict:
    """Compare a switching method with the best of the learning-rate controls, also of those made for another method.

    A gain that plain training at any of the lower rates has as well is no gain of switching; see `Verdict`.

    Args:
        results: The comparison.
        method: Label of the switching method.
        controls: Labels of the controls.
        rates: The learning rate at which each method stands.
    """
    if not controls:
        return Verdict(method, None, Difference(0, None, None, None), "unknown")
    control = min(controls, key=lambda label: validation_rank(results, label, rates[label]))
    difference = paired_difference(
        results.at(method, rates[method], "test"), results.at(control, rates[control], "test")
    )
    return Verdict(method, control, difference, difference.judge(results.higher_is_better))
