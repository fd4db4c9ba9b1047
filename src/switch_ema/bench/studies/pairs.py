"""Averages over all pairs of seeds, with intervals that know that pairs which share a seed are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from scipy.special import stdtrit

from switch_ema.bench.stats import TIE, Difference, Spread, spread

Matrix = Sequence[Sequence[float]]
"""Symmetric: an entry for each two seeds."""


def pair_values(matrix: Matrix) -> list[float]:
    """Return the value of every pair."""
    return [matrix[i][j] for i, j in combinations(range(len(matrix)), 2)]


def pair_spread(matrix: Matrix) -> Spread:
    """Summarize the values of all pairs; `n` counts pairs."""
    return spread(pair_values(matrix))


def between(first: Matrix, other: Matrix) -> Matrix:
    """Return one matrix less another of the same seeds."""
    return [[a - b for a, b in zip(row, less, strict=True)] for row, less in zip(first, other, strict=True)]


def over_pairs(matrix: Matrix) -> Difference:
    """Return the mean over all pairs of seeds with a 95 % jackknife interval; `n` counts seeds.

    With c_i the mean over the pairs that have seed i, and t that of all, the mean without seed i is
    (n t - 2 c_i)/(n - 2), and so

        se^2 = (n - 1)/n sum_i (2 (c_i - t)/(n - 2))^2,  interval t +- t(0.975, n - 1) se

    On average it is too wide rather than too narrow, for few seeds by much; taking the n (n - 1)/2 pairs for
    independent would be far too narrow. There is no interval below three seeds, nor where all c_i are the same.

    Args:
        matrix: A value for each two seeds, such as their churn, or a difference of it.

    Example:
        >>> found = over_pairs([[0, 1, 2], [1, 0, 3], [2, 3, 0]])
        >>> found.mean, round(found.high - found.low, 3)
        (2.0, 9.937)

    References:
        Efron, Stein: The Jackknife Estimate of Variance, Annals of Statistics 9, 1981.
    """
    seeds = len(matrix)
    mean = pair_spread(matrix).mean
    if mean is None or seeds < 3:
        return Difference(seeds, mean, None, None)
    shares = [math.fsum(value for j, value in enumerate(row) if j != i) / (seeds - 1) for i, row in enumerate(matrix)]
    squares = math.fsum((2 * (share - mean) / (seeds - 2)) ** 2 for share in shares)
    error = math.sqrt((seeds - 1) / seeds * squares)
    if error < TIE * abs(mean):
        return Difference(seeds, mean, None, None)
    half = float(stdtrit(seeds - 1, 0.975)) * error
    return Difference(seeds, mean, mean - half, mean + half)
