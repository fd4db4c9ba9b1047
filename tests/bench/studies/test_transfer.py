"""Frozen features on other data: the targets, the probe, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from switch_ema.analysis.transfer import features, linear_probe
from switch_ema.bench.request import request
from switch_ema.bench.settings import Settings
from switch_ema.bench.studies.transfer import STUDY
from switch_ema.bench.studies.transfer_measured import STRENGTHS, measure_transfer, targets
from switch_ema.errors import InputError
from switch_ema.tasks.classification import Classification
from tests.bench.studies.kept import measured, told

CPU = torch.device("cpu")


def noisy(**given: str) -> Settings:
    return request("classification", {"model": "mlp", **given}, {"label_noise": "0.4", "train_size": "60"})


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)).eval()


def test_targets_of_embedded_data() -> None:
    assert list(targets(noisy())) == ["turned", "right-labels"]
    assert list(targets(request("classification", {}, {}))) == ["turned"]


def test_other_data_where_they_are_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    settings = noisy().model_copy(update={"data": "mnist"})
    assert list(targets(settings)) == ["turned", "right-labels", "digits"]
    assert list(targets(settings.model_copy(update={"data": "cifar10"}))) == ["turned", "right-labels"]


def test_the_probe_of_turned_images_with_right_labels() -> None:
    models = {("last", "ema", 0): network(0), ("lowest-loss", "ema", 0): network(1)}
    found = measure_transfer(told(noisy(), models=models))
    rows = {row.metric: row.value for row in found.rows}
    task = Classification(model="mlp", train_size=60)  # no wrong labels
    for quarters, name in ((1, "probe_turned"), (0, "probe_right-labels")):
        parts = [
            [(images.rot90(quarters, (2, 3)), labels) for images, labels in task.fixed_batches(part, CPU)]
            for part in ("train", "val", "test")
        ]
        for seed, suffix in enumerate(("", "@lowest-loss")):
            read = [features(network(seed), part) for part in parts]
            expected = linear_probe(*read, strengths=STRENGTHS).accuracy
            assert rows[f"{name}{suffix}"] == pytest.approx(expected, abs=0.006)
    floors = found.sheets["targets"]["turned"]
    assert floors["title"] == "digits, turned by a quarter, 100 labels"
    assert floors["pixels"] > 0.7
    assert list(floors["untrained"]) == ["0"]
    assert floors["untrained"]["0"] > 0.7


def test_features_that_are_not_finite_have_no_accuracy() -> None:
    broken = network(0)
    nn.init.constant_(next(broken.parameters()), torch.nan)
    found = measure_transfer(told(request("classification", {"model": "mlp"}, {"train_size": "30"}), models={
        ("last", "ema", 0): broken}))  # fmt: skip
    (row,) = found.rows
    assert row.value != row.value


def arm(ema: list[float | None], untrained: float = 0.5) -> Any:
    plain: list[float | None] = [0.8, 0.81, 0.8, 0.82]
    floors = {"title": "turned", "pixels": 0.7, "untrained": {str(seed): untrained for seed in range(4)}}
    found = {
        "probe_turned": {"baseline": plain, "ema": ema},
        "probe_turned@lowest-loss": {"baseline": plain, "ema": ema},
    }
    return measured(found, sheets={"targets": {"turned": floors}})


@pytest.mark.parametrize(
    ("ema", "verdict"),
    [
        ([0.9, 0.91, 0.91, 0.92], "better beyond noise: ema (+0.1025"),
        ([0.7, 0.71, 0.71, 0.72], "worse beyond noise: ema (−0.0975"),
        ([0.7, 0.91, 0.81, 0.82], "no difference beyond noise: ema"),
        ([None] * 4, "cannot be told: ema (no common seed)"),
    ],
)
def test_what_is_said(ema: list[float | None], verdict: str) -> None:
    (said,) = STUDY.findings([arm(ema)]).sentences
    assert said.count(verdict) == 3
    assert "reaches 0.8075 ± 0.0096, of the pixels 0.7000; it is better than an untrained network's (+0.3075" in said


def test_features_worse_than_untrained_ones_are_told_of() -> None:
    (said,) = STUDY.findings([arm([0.9] * 4, untrained=0.95)]).sentences
    assert "it is worse than an untrained network's" in said


def test_other_tasks_are_refused() -> None:
    with pytest.raises(InputError, match="task points"):
        STUDY.arms(request("points", {}, {}))
