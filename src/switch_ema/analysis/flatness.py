"""Average-case flatness: how far the loss rises on average when the weights are disturbed, and how wide a minimum is.

The paper on Switch EMA says "flatness" for the WIDTH of a minimum and "sharpness" for its DEPTH (the loss at it), and
defines neither by a formula. Here flatness is a measured quantity, the mean increase of the loss under random
perturbations of a given size, and the width is the size at which that mean reaches a threshold;
`switch_ema.analysis.sharpness` measures the largest increase.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from switch_ema.analysis.directions import random_direction
from switch_ema.analysis.objective import Direction, Objective
from switch_ema.analysis.weights import dot
from switch_ema.errors import InputError, unknown

Perturbation = Literal["gaussian", "filter"]
_PERTURBATIONS: tuple[Perturbation, ...] = ("gaussian", "filter")


@dataclass(frozen=True)
class Flatness:
    """The mean increase of the loss under random perturbations of one size.

    Attributes:
        radius: Size of the perturbations, relative to the weights.
        perturbation: What is drawn (see `average_flatness`).
        loss: Loss at the weights themselves.
        increase: Mean of L(w + radius d) - L(w) over the directions d; infinite where the loss overflows.
        standard_error: Of that mean; infinite where the mean is.
        num_directions: Number of directions.
    """

    radius: float
    perturbation: Perturbation
    loss: float
    increase: float
    standard_error: float
    num_directions: int


@dataclass(frozen=True)
class Width:
    """How wide a minimum is.

    Attributes:
        threshold: The increase of the loss that ends it.
        radius: Where the mean increase reaches the threshold or, if it does not, the largest radius measured, which the
            width is at least.
        reached: Whether the threshold is reached.
    """

    threshold: float
    radius: float
    reached: bool


def average_flatness(
    objective: Objective,
    radii: Sequence[float],
    *,
    perturbation: Perturbation = "gaussian",
    num_directions: int = 20,
    seed: int = 0,
    chunk: int | None = None,
) -> list[Flatness]:
    """Measure the mean increase of the loss under random perturbations of several sizes.

    E_d[L(w + r d) - L(w)], for every radius r on the same directions d (common random numbers), so that the curve over
    r is smooth and models are compared on equal terms. ``gaussian``: d = (||w|| / sqrt(n)) g with g normal and n
    weights, so that a perturbation has r times the norm of the weights; at the minimum of a quadratic with Hessian A
    the mean is r^2 ||w||^2 tr(A) / (2 n). ``filter``: each filter of g is given the norm of the weights' own, and
    biases and norm layers stay (see `switch_ema.analysis.directions.random_direction`), so that the scale of layers
    does not matter.

    Args:
        objective: Model, loss and data.
        radii: Sizes above 0, relative to the weights, in any order, such as 0.05.
        perturbation: ``gaussian`` or ``filter``.
        num_directions: Number of random directions, from 2 on.
        seed: Draws the directions, on the CPU.
        chunk: Points evaluated at once (see `Objective.along`).

    Returns:
        One result for each radius, from the smallest on.

    Raises:
        InputError: An argument is out of range, all weights are 0, or no weight has filters.

    References:
        Li, Xu, Taylor, Studer, Goldstein: Visualizing the Loss Landscape of Neural Nets, arXiv:1712.09913, 2017 (filter
        normalization).

    Example:
        >>> from torch import nn
        >>> from switch_ema.analysis.objective import supervised
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> batches = [(torch.ones(4, 1), torch.full((4, 1), 2.0))]  # the loss is (w - 2)^2
        >>> objective = Objective(model, supervised(nn.functional.mse_loss), batches)
        >>> small, large = average_flatness(objective, [0.1, 0.2])
        >>> round(large.increase / small.increase, 3)
        4.0
    """
    if perturbation not in _PERTURBATIONS:
        raise unknown("perturbation", perturbation, _PERTURBATIONS)
    if not radii or not all(0 < radius < math.inf for radius in radii):
        raise InputError(f"radii {[*radii]}: write sizes above 0, such as [0.01, 0.05]")
    if num_directions < 2:
        raise InputError(f"num_directions {num_directions}: write at least 2, for a standard error")
    sizes = sorted(radii)
    coefficients = torch.tensor(sizes, dtype=torch.float64)[:, None]
    losses = [
        objective.along(coefficients, [direction], chunk=chunk)
        for direction in _directions(objective, perturbation, num_directions, seed)
    ]
    increases = (torch.stack(losses) - objective.value()).nan_to_num(nan=math.inf, posinf=math.inf)
    means = increases.mean(0)
    errors = (increases.std(0) / math.sqrt(num_directions)).nan_to_num(nan=math.inf)
    return [
        Flatness(radius, perturbation, objective.value(), mean, error, num_directions)
        for radius, mean, error in zip(sizes, means.tolist(), errors.tolist(), strict=True)
    ]


def width(measured: Sequence[Flatness], threshold: float) -> Width:
    """Return the largest radius up to which the mean increase of the loss stays below a threshold.

    Between two radii, and from radius 0 with increase 0, the square root of the increase is taken to be linear in the
    radius, which is exact at the minimum of a quadratic.

    Args:
        measured: What `average_flatness` returned, on one kind of perturbation.
        threshold: An increase of the loss above 0, in the unit of the loss.

    Returns:
        The width, which tells "not reached within the radii measured" apart.

    Raises:
        InputError: Nothing was measured, or the threshold is out of range.

    Example:
        >>> measured = [Flatness(r, "gaussian", 0.0, r * r, 0.0, 10) for r in (1.0, 2.0)]
        >>> width(measured, 2.25), width(measured, 9.0).reached
        (Width(threshold=2.25, radius=1.5, reached=True), False)
    """
    if not measured:
        raise InputError("no flatness was measured; pass what average_flatness returned")
    if not 0 < threshold < math.inf:
        raise InputError(f"threshold {threshold:g}: write an increase of the loss above 0, such as 0.1")
    level = math.sqrt(threshold)
    radius, root = 0.0, 0.0
    for each in sorted(measured, key=lambda each: each.radius):
        ahead = math.sqrt(max(each.increase, 0.0))
        if ahead >= level:
            share = (level - root) / (ahead - root)  # 0 if the loss overflows there
            return Width(threshold, radius + share * (each.radius - radius), True)
        radius, root = each.radius, ahead
    return Width(threshold, radius, False)


def _directions(objective: Objective, perturbation: Perturbation, count: int, seed: int) -> Iterator[Direction]:
    weights = objective.parameters
    size = math.sqrt(dot(weights, weights))
    if not size:
        raise InputError("all weights are 0, and radii are relative to them; pass a model that has been initialised")
    scale = size / math.sqrt(sum(weight.numel() for weight in weights.values()))
    seeds = torch.randint(2**62, (count,), generator=torch.Generator().manual_seed(seed))
    for each in seeds.tolist():
        if perturbation == "filter":
            yield random_direction(weights, seed=each)
        else:
            drawn = random_direction(weights, seed=each, normalization="none", biases_and_norms=True)
            yield {name: scale * move for name, move in drawn.items()}
