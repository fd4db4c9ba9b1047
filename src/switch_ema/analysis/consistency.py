"""Whether models trained alike say alike: how often, and by how much, their predictions differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import final

import torch
from torch import Tensor

from switch_ema.analysis.predictions import checked_probabilities
from switch_ema.errors import InputError


@final
@dataclass(frozen=True)
class Consistency:
    """How far several models are apart, pair by pair.

    `churn` and `js` are symmetric float64 matrices (models, models) on the CPU with zeros on the diagonal; 1 - `churn`
    is the agreement. Means and sample standard deviations (n - 1; None for a single pair) are over the pairs of
    different models. Pairs that share a model are not independent: do not divide the deviation by the root of their
    number.
    """

    churn: Tensor
    js: Tensor
    churn_mean: float
    churn_std: float | None
    js_mean: float
    js_std: float | None


def consistency(probabilities: Sequence[Tensor] | Tensor) -> Consistency:
    """Compare every two of several models on the same examples.

    Args:
        probabilities: Those of each model, from two models: floats (n, classes) whose rows sum to 1, or all of them
            as one tensor (models, n, classes).

    Returns:
        Matrices of `churn` and mean `js_divergence`, their means and standard deviations over the pairs.

    Raises:
        InputError: Fewer than two models, other examples or classes, or no probabilities.

    Example:
        >>> found = consistency(torch.tensor([[[0.9, 0.1]], [[0.6, 0.4]], [[0.4, 0.6]]]))
        >>> found.churn.tolist()
        [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
        >>> round(found.churn_mean, 4), round(found.churn_std, 4)
        (0.6667, 0.5774)

    References:
        Morales-Brotons, Vogels, Hendrikx: Exponential Moving Average of Weights in Deep Learning: Dynamics and
        Benefits, arXiv:2411.18704, 2024 (section 4.3; its code computes another divergence, see `js_divergence`).
    """
    if len(probabilities) < 2:
        raise InputError(
            f"consistency: {len(probabilities)} models cannot be compared; give the predictions of at least 2"
        )
    checked = [checked_probabilities(each) for each in probabilities]
    for other in checked[1:]:
        _check_alike(checked[0], other)
    pairs = list(combinations(range(len(checked)), 2))
    churns = torch.stack([_churn(checked[i], checked[j]) for i, j in pairs]).cpu()
    divergences = torch.stack([_js(checked[i], checked[j]).mean() for i, j in pairs]).cpu()
    churn_mean, churn_std = _spread(churns)
    js_mean, js_std = _spread(divergences)
    return Consistency(
        churn=_matrix(churns, pairs, len(checked)),
        js=_matrix(divergences, pairs, len(checked)),
        churn_mean=churn_mean,
        churn_std=churn_std,
        js_mean=js_mean,
        js_std=js_std,
    )


def churn(first: Tensor, second: Tensor) -> float:
    """Return the share of examples of which two models name different classes, mean [argmax p != argmax q].

    Args:
        first: Probabilities of one model, floats (n, classes) whose rows sum to 1.
        second: Those of the other model for the same examples.

    Raises:
        InputError: They are no such thing.

    Example:
        >>> churn(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[0.6, 0.4], [0.7, 0.3]]))
        0.5

    References:
        Milani Fard, Cormier, Canini, Gupta: Launch and Iterate: Reducing Prediction Churn, NeurIPS 2016.
    """
    return _churn(*_checked_pair(first, second)).item()


def js_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of every example's predictions, in nats: 0 if equal, at most ln 2 = 0.693.

        JS = KL(p || m) / 2 + KL(q || m) / 2    with m = (p + q) / 2

    This is the definition of arXiv:2411.18704, whose reported values of up to 0.85 it cannot give: the code behind them
    normalises over the batch in place of the classes, and takes KL(m || p). Compare directions with it, not values.

    Args:
        first: Probabilities of one model, floats (n, classes) whose rows sum to 1.
        second: Those of the other model for the same examples.

    Returns:
        float64 (n,), where the predictions are. Its square root is a distance.

    Raises:
        InputError: They are no such thing.

    Example:
        >>> js_divergence(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
        tensor([0.6931, 0.0000], dtype=torch.float64)

    References:
        Lin: Divergence Measures Based on the Shannon Entropy, IEEE Transactions on Information Theory 37, 1991.
    """
    return _js(*_checked_pair(first, second))


def _checked_pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    first, second = checked_probabilities(first), checked_probabilities(second)
    _check_alike(first, second)
    return first, second


def _check_alike(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise InputError(
            f"probabilities: shapes {tuple(first.shape)} and {tuple(second.shape)} differ; "
            "predict the same examples with every model"
        )


def _churn(p: Tensor, q: Tensor) -> Tensor:
    return (p.argmax(1) != q.argmax(1)).double().mean()


def _js(p: Tensor, q: Tensor) -> Tensor:
    total = p + q
    most = 1 - torch.finfo(p.dtype).eps  # at 1 the logarithm of what is next to nothing would be infinite
    tilt = ((p - q) / total.where(total > 0, 1)).clamp(-most, most)  # p / m = 1 + tilt: exact where p and q are close
    return (p * tilt.log1p() + q * (-tilt).log1p()).sum(1).div(2).clamp_min(0)


def _matrix(values: Tensor, pairs: Sequence[tuple[int, int]], size: int) -> Tensor:
    matrix = values.new_zeros(size, size)
    rows, columns = torch.tensor(pairs).T
    matrix[rows, columns] = matrix[columns, rows] = values
    return matrix


def _spread(values: Tensor) -> tuple[float, float | None]:
    return values.mean().item(), values.std().item() if len(values) > 1 else None
