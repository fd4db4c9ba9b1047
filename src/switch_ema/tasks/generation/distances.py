"""Distances between two sets of images, by their features: exact, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROWS = 1000  # of the kernel's matrix at a time


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Return the squared Fréchet distance of two normal distributions, fitted to two sets of features.

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^(1/2) S2 S1^(1/2))^(1/2))

    with means m and covariances S (divided by n - 1). On features of the Inception network this is FID.

    Args:
        first: float64 of shape (n, features), n at least 2.
        second: float64 of shape (m, features), m at least 2.

    Returns:
        The distance, 0 or above but for rounding.

    Example:
        >>> frechet_distance(torch.tensor([[0.0], [2.0]]).double(), torch.tensor([[3.0], [5.0]]).double())
        9.0

    References:
        Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs Trained by a Two Time-Scale Update Rule Converge to a
        Local Nash Equilibrium, arXiv:1706.08500, 2017 (eq. 6).
    """
    shift = (first.mean(0) - second.mean(0)).square().sum()
    one, other = _root(first), _root(second)
    overlap = torch.linalg.svdvals(one @ other.T).sum()
    return float(shift + one.square().sum() + other.square().sum() - 2 * overlap)


def _root(features: Tensor) -> Tensor:
    """Return R with R^T R the covariance; the trace of the formula's last root is the nuclear norm of R1 R2^T.

    Nothing is squared, so no digits are lost where there are fewer images than features.
    """
    upper: Tensor = torch.linalg.qr(features - features.mean(0), mode="r").R
    return upper / math.sqrt(len(features) - 1)


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy of two sets of features under a cubic kernel.

        k(x, y) = (x . y / features + 1)^3
        mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j) - 2 mean over i, j of k(x_i, y_j)

    On features of the Inception network this is KID, over all pairs in place of random subsets.

    Args:
        first: float64 of shape (n, features), n at least 2.
        second: float64 of shape (m, features), m at least 2.

    Returns:
        The distance; about 0, also below, for two sets from one distribution.

    Example:
        >>> kernel_distance(torch.zeros(2, 1).double(), torch.ones(2, 1).double())
        7.0

    References:
        Binkowski, Sutherland, Arbel, Gretton: Demystifying MMD GANs, arXiv:1801.01401, 2018 (section 4).
    """
    return _mean_kernel(first, None) + _mean_kernel(second, None) - 2 * _mean_kernel(first, second)


def _mean_kernel(first: Tensor, second: Tensor | None) -> float:
    """Average the kernel over all pairs; within one set, over those of different members."""
    other = first if second is None else second
    total = sum(_kernel(part @ other.T, first.shape[1]).sum() for part in first.split(_ROWS))
    if second is not None:
        return float(total) / (len(first) * len(second))
    own = _kernel(first.square().sum(1), first.shape[1]).sum()
    return float(total - own) / (len(first) * (len(first) - 1))


def _kernel(products: Tensor, features: int) -> Tensor:
    return (products / features + 1) ** 3
