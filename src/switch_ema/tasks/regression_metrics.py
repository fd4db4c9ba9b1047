"""Errors of predicted numbers, on the line and on the circle."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from switch_ema.bench.task import Metric

_FLOOR = 1e-6  # smallest error, as a share of the targets' standard deviation, that the geometric mean tells from 0


def metrics(angular: bool) -> tuple[Metric, ...]:
    """Return what `measure` measures; correlations are left out on the circle, where they mean nothing."""
    errors = tuple(Metric(name, higher_is_better=False) for name in ("mae", "rmse", "gmae"))
    correlations = tuple(Metric(name, higher_is_better=True) for name in ("pearson", "spearman"))
    return errors if angular else errors + correlations


def measure(predictions: Tensor, targets: Tensor, period: float | None, spread: float) -> dict[str, float]:
    """Compare predictions with targets. With e = prediction - target, wrapped around if there is a period:

        mae = mean |e|    rmse = sqrt(mean e^2)    gmae = exp(mean log max(|e|, 1e-6 spread))

    and Pearson's and Spearman's correlation of predictions and targets, if there is no period.

    Args:
        predictions: Floats of shape (n,), on the CPU.
        targets: Floats of shape (n,), of the same type.
        period: After how much the target comes round again, such as 360 for degrees; None for what is no angle.
        spread: Standard deviation of the training targets, above 0: it bounds what one exact hit does to gmae.

    Returns:
        Values under the names of `metrics`. Correlations are nan where predictions or targets are all equal, or not
        finite; the errors are not finite where predictions are not.

    Example:
        >>> got = measure(torch.tensor([359.0, 180.0]), torch.tensor([1.0, 172.0]), 360.0, 1.0)
        >>> {name: round(value, 4) for name, value in got.items()}
        {'mae': 5.0, 'rmse': 5.831, 'gmae': 4.0}
    """  # noqa: D415
    errors = predictions - targets
    if period is not None:
        errors = wrapped(errors, period)
    sizes = errors.abs()
    values = {
        "mae": sizes.mean().item(),
        "rmse": sizes.square().mean().sqrt().item(),
        "gmae": sizes.clamp(min=_FLOOR * spread).log().mean().exp().item(),
    }
    return values if period is not None else values | _correlations(predictions, targets)


def wrapped(differences: Tensor, period: float) -> Tensor:
    """Map differences to the shortest way round: (d + p/2) mod p - p/2.

    Example:
        >>> wrapped(torch.tensor([359.0, -180.0, 90.0]), 360.0)
        tensor([  -1., -180.,   90.])
    """
    return torch.remainder(differences + period / 2, period) - period / 2


def _correlations(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    if not predictions.isfinite().all() or predictions.unique().numel() == 1 or targets.unique().numel() == 1:
        return {"pearson": math.nan, "spearman": math.nan}
    with warnings.catch_warnings():  # of nearly equal predictions, which it cannot tell apart
        warnings.simplefilter("ignore")
        pairs = predictions.numpy(), targets.numpy()
        return {"pearson": float(pearsonr(*pairs).statistic), "spearman": float(spearmanr(*pairs).statistic)}
