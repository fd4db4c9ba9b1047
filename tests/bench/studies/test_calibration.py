"""Calibration of kept weights: what is measured, what is said of it, and corrupted images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema.analysis import corruptions
from switch_ema.analysis.calibration import calibration
from switch_ema.analysis.corruptions import corrupt
from switch_ema.analysis.temperature import fit_temperature
from switch_ema.bench.request import request
from switch_ema.bench.studies.calibration import STUDY
from switch_ema.bench.studies.calibration_measured import measure_calibration
from switch_ema.bench.studies.robustness import corrupted, measure_corrupted
from switch_ema.data.splits import flip_labels
from tests.bench.studies.kept import measured, told

DIGITS = request("classification", {"model": "mlp"}, {})
NOISY = request("classification", {"model": "mlp"}, {"label_noise": "0.4"})


def said(seed: int, sure: float = 4.0) -> tuple[Tensor, Tensor]:
    """Name 80 % of 200 labels of three classes right, too surely."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (200,), generator=generator)
    named = torch.where(torch.rand(200, generator=generator) < 0.8, labels, (labels + 1) % 3)
    return sure * nn.functional.one_hot(named, 3) + torch.rand(200, 3, generator=generator), labels


def test_scores_temperature_and_diagrams() -> None:
    parts = [{"val": said(seed), "test": said(seed + 10)} for seed in range(2)]
    found = measure_calibration(told(DIGITS, {("last", "ema", seed): part for seed, part in enumerate(parts)}))
    rows = {(row.metric, row.seed): row.value for row in found.rows}
    logits, labels = parts[1]["test"]
    temperature = fit_temperature(*parts[1]["val"]).temperature
    for score in ("ece", "ece_mass", "adaptive_ece", "nll", "brier"):
        assert rows[score, 1] == getattr(calibration(logits.double(), labels), score)
        assert rows[f"{score}_scaled", 1] == getattr(calibration(logits.double() / temperature, labels), score)
    assert rows["temperature_scaled", 1] == temperature > 1
    assert (rows["ece_scaled", 1] or 1) < (rows["ece", 1] or 0)
    assert not any("wrongly" in metric for metric, _ in rows)
    confidence, accuracy, count = found.sheets["diagrams"]["last"]["ema"][""]
    assert sum(count) == 400
    right = [(part["test"][0].argmax(1) == part["test"][1]).double() for part in parts]
    shares = [a * n for a, n in zip(accuracy, count, strict=True) if n]
    assert sum(shares) == pytest.approx(float(torch.cat(right).sum()), abs=0.01)
    assert all((value is None) == (n == 0) for value, n in zip(confidence, count, strict=True))


def test_a_temperature_for_wrong_validation_labels() -> None:
    parts = {"val": said(0), "test": said(1)}
    rows = {row.metric: row.value for row in measure_calibration(told(NOISY, {("last", "ema", 3): parts})).rows}
    wrong = torch.from_numpy(flip_labels(parts["val"][1].numpy(), 0.4, 3, 3))
    assert rows["temperature_wrongly_scaled"] == fit_temperature(parts["val"][0], wrong).temperature
    assert (rows["temperature_wrongly_scaled"] or 0) > (rows["temperature_scaled"] or 9)
    assert (rows["ece_wrongly_scaled"] or 0) > (rows["ece_scaled"] or 9)


def test_diverged_and_perfect_networks_have_holes() -> None:
    labels = torch.tensor([0, 1, 2])
    right = 5 * nn.functional.one_hot(labels, 3).float(), labels
    broken = torch.full((3, 3), torch.nan), labels
    cases = {
        ("last", "ema", 0): {"val": broken, "test": right},
        ("last", "ema", 1): {"val": right, "test": right},
    }
    rows = {(row.metric, row.seed): row.value for row in measure_calibration(told(DIGITS, cases)).rows}
    assert rows["ece", 0] != rows["ece", 0]
    assert rows["ece", 1] == pytest.approx(calibration(*right).ece)
    assert rows["ece_scaled", 1] != rows["ece_scaled", 1]
    assert rows["accuracy", 1] == 1


DIAGRAM = {"": [[0.5, None, 0.9], [0.4, None, 0.7], [10, 0, 30]], "_scaled": [[0.5], [0.4], [40]]}


def arm(ema: list[float | None], **more: Any) -> Any:
    plain: list[float | None] = [0.2, 0.21, 0.22, 0.2]
    scores = {"baseline": plain, "ema": ema}
    names = ("ece", "ece_scaled", "ece@lowest-loss", "ece_scaled@lowest-loss")
    diagrams = {"diagrams": {"last": {"baseline": DIAGRAM, "ema": DIAGRAM}}}
    return measured(dict.fromkeys(names, scores) | more, sheets=diagrams)


def test_an_average_that_is_better_calibrated() -> None:
    found = STUDY.findings([arm([0.1, 0.12, 0.11, 0.1])])
    (answer,) = found.sentences
    assert (
        "ECE after the last epoch, against plain training (0.2075 ± 0.0096): lower beyond noise: ema (−0.1000" in answer
    )
    assert answer.count("lower beyond noise: ema") == 4
    assert found.panels[1].sentence == (
        "Confidence minus accuracy after the last epoch, as trained: baseline +17.5 %, ema +17.5 %."
    )
    assert len(found.panels) == 2


@pytest.mark.parametrize(
    ("ema", "verdict"),
    [
        ([0.3, 0.32, 0.31, 0.3], "higher beyond noise: ema"),
        ([0.1, 0.32, 0.2, 0.2], "no difference beyond noise: ema"),
        ([None] * 4, "cannot be told: ema (no common seed)"),
    ],
)
def test_other_verdicts(ema: list[float | None], verdict: str) -> None:
    assert STUDY.findings([arm(ema)]).sentences[0].count(verdict) == 4


def test_wrong_validation_labels_are_told_of() -> None:
    wrongly = {"baseline": [0.3, 0.32, 0.33, 0.3], "ema": [0.2, 0.3, 0.1, 0.2]}
    found = arm([0.2, 0.21, 0.2, 0.22], **{"ece_wrongly_scaled@lowest-loss": wrongly})
    answer = STUDY.findings([found]).sentences[1]
    assert "higher beyond noise: baseline (+0.1050" in answer
    assert "no difference beyond noise: ema" in answer


def test_networks_on_corrupted_images(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: corruptions.CORRUPTIONS[name] for name in ("gaussian_noise", "contrast")}
    monkeypatch.setattr(corruptions, "CORRUPTIONS", few)
    torch.manual_seed(0)
    models = {("last", "ema", seed): nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval() for seed in range(2)}
    found = measure_corrupted(told(DIGITS, models=models))
    rows = {(row.metric, row.seed): row.value for row in found.rows}
    images, labels = (torch.cat(part) for part in zip(*told(DIGITS, models=models).batches(0, "test"), strict=True))
    mean, std = images.min(), images.max() - images.min()  # 0 and 16 are among the pixels
    accuracies = []
    for name in few:
        # digits are tested in batches of 256, and noise is drawn for each
        bad = torch.cat([corrupt(part, name, 3) for part in ((images - mean) / std).split(256)])
        accuracies.append((models["last", "ema", 1](bad * std + mean).argmax(1) == labels).double().mean())
    assert rows["corrupted_accuracy_3", 1] == pytest.approx(float(torch.stack(accuracies).mean()), abs=1e-3)
    of_all = [rows[f"corrupted_accuracy_{level}", 1] or 0 for level in (1, 3, 5)]
    assert rows["corrupted_accuracy", 1] == pytest.approx(sum(of_all) / 3)
    grid = found.sheets["corrupted"]["ema"]
    both = [rows["corrupted_accuracy", seed] or 0 for seed in range(2)]
    assert sum(grid.values()) / len(grid) == pytest.approx(sum(both) / 2, abs=1e-4)


def test_what_is_said_of_corrupted_images() -> None:
    found = {
        "corrupted_accuracy": {"baseline": [0.6, 0.61, 0.62], "ema": [0.7, 0.72, 0.71]},
        "corrupted_ece": {"baseline": [0.2, 0.21, 0.22], "ema": [0.3, 0.32, 0.31]},
    }
    panel = corrupted(measured(found, sheets={"corrupted": {"baseline": {"fog": 0.6}, "ema": {"fog": 0.7}}}))
    assert panel
    assert "by accuracy, better beyond noise: ema (+0.1000" in panel.sentence
    assert "by ECE, worse beyond noise: ema (+0.1000" in panel.sentence
    assert corrupted(measured(found)) is None
