"""Losses and errors of regression follow their definitions, on the line and on the circle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from switch_ema.bench.task import Split
from switch_ema.data.numbers import locate_numbers
from switch_ema.data.numberset import NumberSet, load_numbers
from switch_ema.tasks.regression import Regression
from switch_ema.tasks.regression_options import LOSSES

CPU = torch.device("cpu")


def first_batch(task: Regression, size: int = 32) -> tuple[Tensor, Tensor]:
    return next(task.train_batches(size, 0, CPU))


def known(name: str = "digits-rotated", **options: Any) -> NumberSet:
    return load_numbers(locate_numbers(name), **options)


class Says(nn.Module):
    """Says for each input what it is told: one number or, as cosine and sine, two."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = torch.as_tensor(outputs, dtype=torch.float64)
        self.at = 0

    def forward(self, x: Tensor) -> Tensor:
        self.at += len(x)
        said = self.outputs[self.at - len(x) : self.at]
        return said if said.ndim == 2 else said[:, None]


@pytest.mark.parametrize("scale_target", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_follow_their_definition(loss: str, scale_target: bool) -> None:
    task = Regression(data="diabetes", loss=loss, scale_target=scale_target)
    inputs, targets = first_batch(task)
    outputs = targets.double() + torch.linspace(-3, 3, 32)
    d = torch.linspace(-3, 3, 32).double()
    want = {"l1": d.abs(), "l2": d**2, "huber": torch.where(d.abs() < 1, d**2 / 2, d.abs() - 0.5)}[loss].mean()
    assert task.loss(Says(outputs), (inputs, targets)).item() == pytest.approx(want.item(), rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_angles_are_learnt_as_cosine_and_sine(loss: str) -> None:
    task = Regression(angular=True, loss=loss)
    inputs, wanted = first_batch(task, 1294)
    degrees = torch.atan2(wanted[:, 1], wanted[:, 0]).rad2deg() % 360
    torch.testing.assert_close(wanted.norm(dim=1), torch.ones(1294))
    np.testing.assert_allclose(degrees.sort()[0], sorted(known(full_circle=True).train.targets), atol=1e-3)
    assert task.build_model()(inputs[:2]).shape == (2, 2)
    d = torch.tensor([[2.0, -0.5]])
    want = {"l1": 1.25, "l2": 2.125, "huber": (1.5 + 0.125) / 2}[loss]
    assert task.loss(lambda _: wanted + d, (inputs, wanted)).item() == pytest.approx(want)  # type: ignore[arg-type]


def test_angular_errors_take_the_shortest_way_round() -> None:
    task = Regression(angular=True)
    truth = torch.from_numpy(known(full_circle=True).test.targets)
    said = (truth + 350).deg2rad()
    lengths = torch.linspace(0.1, 9, len(said))[:, None]  # only the direction counts
    got = task.evaluate(Says(lengths * torch.stack([said.cos(), said.sin()], 1)), "test", CPU)
    assert got == pytest.approx({"mae": 10, "rmse": 10, "gmae": 10}, rel=1e-4)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_network_without_a_direction_crashes_nothing(value: float) -> None:
    task = Regression(angular=True)
    got = task.evaluate(Says(torch.full((359, 2), value)), "test", CPU)
    assert all(math.isfinite(number) == math.isfinite(value) for number in got.values())


def test_without_angular_a_turn_is_an_error() -> None:
    data = known()
    truth = torch.from_numpy(data.test.targets)
    got = Regression().evaluate(Says((truth + 350 - data.target_mean) / data.target_std), "test", CPU)
    assert got["mae"] == pytest.approx(350, rel=1e-4)


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("scale_target", [True, False])
@pytest.mark.parametrize("name", ["digits-rotated", "diabetes"])
def test_metrics_are_in_the_targets_unit(name: str, scale_target: bool, split: Split) -> None:
    from scipy import stats

    data = known(name)
    truth = data.val.targets if split == "val" else data.test.targets
    predictions = 3 + truth * 1.1 + 10 * np.random.default_rng(0).standard_normal(len(truth))
    center, scale = (data.target_mean, data.target_std) if scale_target else (0, 1)
    task = Regression(data=name, scale_target=scale_target)
    got = task.evaluate(Says((predictions - center) / scale), split, CPU)
    errors = abs(predictions - truth)
    want = {
        "mae": errors.mean(),
        "rmse": (errors**2).mean() ** 0.5,
        "gmae": stats.gmean(errors),
        "pearson": np.corrcoef(predictions, truth)[0, 1],
        "spearman": np.corrcoef(stats.rankdata(predictions), stats.rankdata(truth))[0, 1],
    }
    assert got == pytest.approx(want, rel=1e-3)
    assert list(got) == [metric.name for metric in task.metrics]


def test_exact_hits_do_not_make_the_geometric_mean_zero() -> None:
    data = known("diabetes")
    exact = (data.test.targets - data.target_mean) / data.target_std
    off = exact.copy()
    off[0] += 1
    got = Regression(data="diabetes").evaluate(Says(np.float32(off).astype(float)), "test", CPU)
    assert 0 < got["gmae"] < 1e-2 < got["mae"]
    all_exact = Regression(data="diabetes", scale_target=False).evaluate(Says(data.test.targets), "test", CPU)
    assert all_exact["gmae"] == pytest.approx(1e-6 * data.target_std)
    assert all_exact["mae"] < 1e-5
    assert all_exact["pearson"] == pytest.approx(1)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_constant_and_diverged_models_crash_nothing(value: float) -> None:
    task = Regression(data="diabetes")
    got = task.evaluate(Says([value] * 88), "test", CPU)
    assert math.isnan(got["pearson"])
    assert math.isnan(got["spearman"])
    assert all(math.isfinite(got[name]) == math.isfinite(value) for name in ("mae", "rmse", "gmae"))
    inputs, targets = first_batch(task)
    assert task.loss(Says([value] * 32), (inputs, targets)).isfinite() == math.isfinite(value)
    nearly = 100 + 1e-12 * np.arange(88)
    assert math.isfinite(task.evaluate(Says(nearly), "test", CPU)["mae"])
