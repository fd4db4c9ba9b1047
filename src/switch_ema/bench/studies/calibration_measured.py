"""Calibration of kept weights: scores as trained and with a temperature fitted on validation, and what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from switch_ema.bench.studies.standing import logits, standing
from switch_ema.bench.studies.study import Measured

if TYPE_CHECKING:
    from torch import Tensor

    from switch_ema.analysis.calibration import Reliability
    from switch_ema.bench.kept import Kept
    from switch_ema.bench.results import Row
    from switch_ema.bench.settings import Settings
    from switch_ema.bench.studies.trained import Trained

SCORES = {
    "ece": "ECE, bins of equal width",
    "ece_mass": "ECE, bins of equal mass",
    "adaptive_ece": "adaptive ECE",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
}
"""What is measured, as trained and scaled; lower is better for all."""
SCALED, WRONGLY = "_scaled", "_wrongly_scaled"
"""What follows a score's name: with a temperature, and with one that was fitted on labels some of which are wrong."""
BINS, DRAWN_BINS = 15, 10
DRAWN = {"": "as trained", SCALED: "with temperature"}
"""What of it reliability diagrams show."""
_NAN = math.nan


def measure_calibration(trained: Trained) -> Measured:
    """Measure the calibration of every method's weights on test.

    Args:
        trained: A comparison that kept its best weights.

    Returns:
        Rows of `SCORES` as trained and scaled, of the temperatures and the accuracy, nan for what cannot be had;
        diagrams over all seeds together by point, method and suffix: confidence, accuracy and count of every bin.
    """
    from switch_ema.analysis.calibration import calibration, reliability

    noise = trained.settings.task_options.get("label_noise")
    suffixes = ["", SCALED, WRONGLY] if noise else ["", SCALED]
    rows: list[Row] = []
    diagrams: dict[str, dict[str, dict[str, list[Reliability]]]] = {}
    for kept in standing(trained):
        found = {f"{score}{suffix}": _NAN for suffix in suffixes for score in SCORES} | {"accuracy": _NAN}
        val, test = logits(trained, kept, "val"), logits(trained, kept, "test")
        temperatures = _temperatures(trained.settings, kept, *val) if val and test else {}
        for suffix, temperature in temperatures.items():
            if test is None or not math.isfinite(temperature):
                continue
            scaled = test[0].double() / temperature
            scores = calibration(scaled, test[1], BINS)
            found |= {f"{score}{suffix}": getattr(scores, score) for score in SCORES}
            found |= {"accuracy": scores.accuracy} | ({f"temperature{suffix}": temperature} if suffix else {})
            if suffix in DRAWN:
                drawn = diagrams.setdefault(kept.which, {}).setdefault(kept.method, {}).setdefault(suffix, [])
                drawn.append(reliability(scaled.softmax(1), test[1], DRAWN_BINS))
        rows += [trained.row(kept, name, value, _direction(name)) for name, value in found.items()]
    pooled = {
        which: {method: {suffix: _pooled(each) for suffix, each in of.items()} for method, of in methods.items()}
        for which, methods in diagrams.items()
    }
    return Measured(rows, {"diagrams": pooled})


def _direction(name: str) -> bool | None:
    return None if name.startswith("temperature") else name == "accuracy"


def _temperatures(settings: Settings, kept: Kept, said: Tensor, labels: Tensor) -> dict[str, float]:
    """Return 1, the temperature that suits validation, and that of labels as wrong as those of training."""
    found = {"": 1.0, SCALED: _temperature(said, labels)}
    if settings.task_options.get("label_noise"):
        found[WRONGLY] = _temperature(said, _made_wrong(labels, said.shape[1], settings, kept.seed))
    return found


def _temperature(said: Tensor, labels: Tensor) -> float:
    """Return the temperature that suits held-out labels best; nan where there is none, as where all are named right."""
    from switch_ema.analysis.temperature import fit_temperature
    from switch_ema.errors import InputError

    try:
        return fit_temperature(said, labels).temperature
    except InputError:
        return _NAN


def _made_wrong(labels: Tensor, classes: int, settings: Settings, seed: int) -> Tensor:
    """Make labels of validation wrong as those of training are."""
    import torch

    from switch_ema.data.splits import flip_labels

    options = settings.task_options
    pair = options.get("noise_kind") == "pair-flip"
    return torch.from_numpy(flip_labels(labels.numpy(), options["label_noise"], classes, seed, pair=pair))


def _pooled(each: Sequence[Reliability]) -> list[list[Any]]:
    """Join the diagrams of several seeds, whose bins have the same edges: the mean over all their predictions."""
    counts = [sum(column) for column in zip(*(diagram.count.tolist() for diagram in each), strict=True)]
    shown: list[list[Any]] = []
    for part in ("confidence", "accuracy"):
        sums = [(diagram.count * getattr(diagram, part).nan_to_num()).tolist() for diagram in each]
        totals = [sum(column) for column in zip(*sums, strict=True)]
        shown.append([round(total / n, 5) if n else None for total, n in zip(totals, counts, strict=True)])
    return [*shown, counts]
