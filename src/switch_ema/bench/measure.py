"""Measuring every method that rides on a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import torch

from switch_ema.averaging.buffers import reestimate_batchnorm
from switch_ema.bench.gallery import SEED
from switch_ema.bench.optim import evaluation_weights
from switch_ema.bench.results import Row
from switch_ema.bench.sam import frozen_statistics
from switch_ema.bench.seeds import derived_seed
from switch_ema.bench.sharding import gathered
from switch_ema.bench.stats import budget_points
from switch_ema.bench.task import SPLITS, Metric

if TYPE_CHECKING:
    from switch_ema.bench.train import Run

_BATCHNORM_BATCHES = 64
_LOSS = "loss"  # the metric that tells whether training has diverged


def measure(run: Run, train_loss: float) -> list[Row]:
    """Measure every rider after an epoch: as it is, and at the points of the budget with BatchNorm re-estimated.

    Passive methods that have averaged nothing yet are what plain training is, and are not measured twice.

    Args:
        run: A run that has completed an epoch.
        train_loss: Mean loss of that epoch.

    Returns:
        The rows; between the epochs that `eval_every` asks for, only of what costs nothing.
    """
    rows = [_row(run, run.trajectory.riders[0].label, "train", Metric("loss", False), train_loss)]
    last, points = run.settings.epochs, budget_points(run.settings.epochs).values()
    due = run.epoch % run.settings.eval_every == 0 or run.epoch in (last, *points)
    run.model.eval()
    plain: list[Row] = []
    for label, averager in run.averagers.items():
        if run.trajectory.active is not None and averager is not None:
            rows.append(_row(run, label, "train", Metric("n_switches", None), averager.n_switches))
        if not due:
            continue
        untouched = averager is None or averager.n_averaged == 0
        if untouched and plain:
            rows += [replace(row, method=label) for row in plain]
            with evaluation_weights(run.raw_optimizer):
                run.keeper.keep(run, label, plain)
            run.exhibits[label] = run.exhibits.get(plain[0].method, ())
            continue
        shown = evaluation_weights(run.raw_optimizer) if averager is None else averager.average_parameters()
        with frozen_statistics(run.module), shown, gathered(run.module):
            measured = _measured(run, label, run.batchnorm and run.epoch in points)
        rows += measured
        plain = measured if untouched else plain
    return rows


def _measured(run: Run, label: str, reestimate: bool) -> list[Row]:
    rows = _evaluated(run, label, "")
    diverged = any(row.metric == _LOSS and not _is_finite(row.value) for row in rows)
    if run.task.training_metrics:
        with run.fabric.autocast():
            learned = _unless(diverged, run.task.evaluate_training(run.module, run.fabric.device))
        rows += [_row(run, label, "train", metric, learned[metric.name]) for metric in run.task.training_metrics]
    run.keeper.keep(run, label, rows)
    if run.epoch == run.settings.epochs and run.task.final_metrics:
        with run.fabric.autocast():
            found = run.task.evaluate_final(run.module, run.fabric.device)
        final = {split: _unless(diverged, values) for split, values in found.items()}
        rows += [
            _row(run, label, split, metric, values[metric.name])
            for split, values in final.items()
            for metric in run.task.final_metrics
            if metric.name in values
        ]
    if run.epoch == run.settings.epochs and run.trajectory.seed == SEED:
        with run.fabric.autocast():
            run.exhibits[label] = run.task.exhibits(run.module, run.fabric.device)
    if reestimate:
        torch.manual_seed(derived_seed(run.trajectory.seed, "batchnorm", run.epoch))  # for what a network draws itself
        reestimate_batchnorm(run.model, islice(run.batches("batchnorm"), _BATCHNORM_BATCHES), run.task.loss)
        rows += _evaluated(run, label, "_bn_reestimated")
    return rows


def _evaluated(run: Run, label: str, suffix: str) -> list[Row]:
    rows = []
    for split in SPLITS:
        with run.fabric.autocast():
            found = run.task.evaluate(run.module, split, run.fabric.device)
        values = _unless(not _is_finite(found.get(_LOSS, 0.0)), found)
        rows += [
            _row(run, label, split, Metric(metric.name + suffix, metric.higher_is_better), values[metric.name])
            for metric in run.task.metrics
        ]
    return rows


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _unless(diverged: bool, values: Mapping[str, float]) -> Mapping[str, float]:
    """Return values, or none of them that is finite: an accuracy of weights that are no numbers is one by chance."""
    return dict.fromkeys(values, math.nan) if diverged else values


def _row(run: Run, label: str, split: str, metric: Metric, value: float) -> Row:
    trajectory, task = run.trajectory, run.task
    return Row(
        task.name, task.data, task.model, label, trajectory.lr, trajectory.seed, run.epoch,
        run.epoch * run.steps_per_epoch, split, metric.name, value, metric.higher_is_better, run.seconds,
    )  # fmt: skip
