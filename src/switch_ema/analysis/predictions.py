"""What predictions of classes, and the labels beside them, must look like to be measured."""

from __future__ import annotations

import torch
from torch import Tensor

from switch_ema.errors import InputError

_ROUNDING = 1e-2  # by how much the sum of a row of bfloat16 probabilities may miss 1


def checked_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return logits in float64; refuse what are no logits, or labels that do not belong to them."""
    _check_scores("logits", logits)
    _check_labels(labels, logits)
    logits = logits.detach().double()
    if logits.min() >= 0 and (logits.sum(1) - 1).abs().max() < 1e-6:
        raise InputError(
            "logits: they are from 0 to 1 and sum to 1, so they are probabilities; "
            "write probabilities.clamp_min(1e-30).log()"
        )
    return logits


def checked_probabilities(probabilities: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return probabilities in float64, their rows divided by their sums; refuse what are no probabilities."""
    _check_scores("probabilities", probabilities)
    if labels is not None:
        _check_labels(labels, probabilities)
    probabilities = probabilities.detach().double()
    sums = probabilities.sum(1, keepdim=True)
    if probabilities.min() < 0 or (sums - 1).abs().max() > _ROUNDING:
        raise InputError(
            "probabilities: they must be 0 or more and sum to 1 in every row; for logits write logits.softmax(1)"
        )
    return probabilities / sums


def _check_scores(what: str, scores: Tensor) -> None:
    if not scores.is_floating_point() or scores.ndim != 2 or len(scores) < 1 or scores.shape[1] < 2:
        raise InputError(
            f"{what}: write floats of shape (examples, classes), at least one example and two classes, "
            f"not {str(scores.dtype).removeprefix('torch.')} of shape {tuple(scores.shape)}"
        )
    if not scores.isfinite().all():
        bad = int((~scores.isfinite().all(1)).nonzero()[0])
        raise InputError(f"{what}: not finite in row {bad}; leave out such examples, or clamp zeros before a logarithm")


def _check_labels(labels: Tensor, scores: Tensor) -> None:
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.shape != scores.shape[:1]:
        raise InputError(
            f"labels: write integers of shape ({len(scores)},), one class for each prediction, "
            f"not {str(labels.dtype).removeprefix('torch.')} of shape {tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= scores.shape[1]:
        raise InputError(f"labels: {low if low < 0 else high} is no class; write 0 to {scores.shape[1] - 1}")
