"""Accuracy and calibration of kept weights on corrupted images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from switch_ema.bench.kept import LAST
from switch_ema.bench.plots import bars, heatmap
from switch_ema.bench.stats import spread
from switch_ema.bench.studies.standing import gaps, values, verdicts
from switch_ema.bench.studies.study import Measured, Panel, Reading
from switch_ema.bench.wording import decimals_for, show_difference, show_spread

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from switch_ema.bench.results import Row
    from switch_ema.bench.studies.trained import Trained
    from switch_ema.tasks.classification import Classification

SEVERITIES = (1, 3, 5)
"""Severities, 1 (weak) to 5 (strong), at which every corruption is measured."""
ACCURACY, ECE = "corrupted_accuracy", "corrupted_ece"

_TEXT = (
    "Test images with noise, blur, weather and digital corruptions after the constructions of CIFAR-10-C, made here in "
    "three of five severities, the same for every method and seed; the mean over all corruptions, of the weights after "
    "the last epoch, each method at its own best learning rate. Strengths are those for photographs of 32 pixels: on "
    "smaller or grey images they are not comparable with reported ones. ECE has 15 bins of equal width and no "
    "temperature."
)


def measure_corrupted(trained: Trained) -> Measured:
    """Measure every method's last weights on corrupted test images; nothing where the task has no images.

    Args:
        trained: A comparison that kept its last weights.

    Returns:
        Rows of `ACCURACY` and `ECE`, means over all corruptions, and of both at each severity, such as
        ``corrupted_accuracy_3``; the mean accuracy over seeds and severities by method and corruption.
    """
    from switch_ema.analysis.corruptions import CORRUPTIONS
    from switch_ema.tasks.classification import Classification

    kept = trained.solutions(LAST)
    task = trained.task(kept[0].seed)
    if not isinstance(task, Classification):
        return Measured()
    models = [trained.model(each) for each in kept]
    found = {
        (name, level): _measure(task, trained.device, models, name, level)
        for name in CORRUPTIONS
        for level in SEVERITIES
    }
    rows: list[Row] = []
    for place, each in enumerate(kept):
        for index, (metric, higher) in enumerate(((ACCURACY, True), (ECE, False))):
            at = {level: [found[name, level][place][index] for name in CORRUPTIONS] for level in SEVERITIES}
            rows.append(trained.row(each, metric, _mean([value for of in at.values() for value in of]), higher))
            rows += [trained.row(each, f"{metric}_{level}", _mean(of), higher) for level, of in at.items()]
    grid = {
        method: {
            name: _rounded([found[name, level][n][0] for n, each in enumerate(kept) for level in SEVERITIES
                            if each.method == method])
            for name in CORRUPTIONS
        }
        for method in trained.results.methods
    }  # fmt: skip
    return Measured(rows, {"corrupted": grid})


def _measure(
    task: Classification, device: torch.device, models: list[nn.Module], name: str, severity: int
) -> list[tuple[float, float]]:
    """Return accuracy and ECE of every model on the test images with one corruption."""
    import torch

    from switch_ema.analysis.corruptions import corrupt

    said: list[list[Tensor]] = [[] for _ in models]
    labels: list[Tensor] = []
    with torch.no_grad():
        for images, batch in task.changed_batches("test", device, lambda x: corrupt(x, name, severity)):
            labels.append(batch)
            for of, model in zip(said, models, strict=True):
                of.append(model(images).float())
    true = torch.cat(labels)
    return [_scores(torch.cat(of), true) for of in said]


def _scores(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    from switch_ema.analysis.calibration import ece

    if not logits.isfinite().all():
        return math.nan, math.nan
    return (logits.argmax(1) == labels).double().mean().item(), ece(logits.double().softmax(1), labels)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _rounded(values: list[float]) -> float | None:
    mean = _mean(values)
    return round(mean, 5) if math.isfinite(mean) else None


def corrupted(arm: Reading) -> Panel | None:
    """Say which methods stay right, and as right as they say, on corrupted images; None where none were measured.

    Args:
        arm: A comparison with what `measure_corrupted` gave.
    """
    grid: dict[str, dict[str, Any]] = arm.sheets.get("corrupted", {})
    if not grid:
        return None
    results = arm.trained
    said, rows = [], {label: [label] for label in results.methods}
    for metric, higher, name in ((ACCURACY, True, "accuracy"), (ECE, False, "ECE")):
        found = {label: values(results, label, metric) for label in results.methods}
        decimals = decimals_for(value for of in found.values() for value in of.values())
        apart = gaps(results, metric)
        said.append(f"by {name}, {verdicts(apart, higher, decimals)}")
        for label, of in found.items():
            gap = show_difference(apart[label], decimals) if label in apart else ""
            rows[label] += [show_spread(spread(of.values()), decimals), gap]
    groups = ["as it is", *(f"severity {level}" for level in SEVERITIES)]
    names = [results.metric, *(f"{ACCURACY}_{level}" for level in SEVERITIES)]
    series = [(label, [spread(values(results, label, name).values()) for name in names]) for label in results.methods]
    kinds = list(next(iter(grid.values())))
    plots = [
        bars("Test accuracy, mean over the corruptions", "test accuracy", groups, series),
        heatmap("Test accuracy by corruption", "", "", [kind.replace("_", " ") for kind in kinds], list(grid),
                [[of[kind] for kind in kinds] for of in grid.values()], unit="accuracy"),
    ]  # fmt: skip
    sentence = f"{arm.title}, corrupted test images, against plain training: {'; '.join(said)}."
    head = ["Method", "Accuracy", "Minus plain training's", "ECE", "Minus plain training's"]
    return Panel(f"Corrupted images: {arm.title}", sentence, _TEXT, plots, (head, list(rows.values())))
