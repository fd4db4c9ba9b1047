"""Loss landscapes: the loss along a line, over a plane, and between two solutions.

Directions come from `switch_ema.analysis.directions`. Landscapes of several methods can be laid over each other when
they are measured along the same directions; `project` gives the place of every solution in the plane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switch_ema.analysis.objective import Direction, Objective
from switch_ema.analysis.weights import difference
from switch_ema.errors import InputError, unknown


@dataclass(frozen=True)
class Line:
    """The loss along a line.

    Attributes:
        positions: Where, in lengths of the direction; from 0 to 1 between two solutions.
        losses: Mean loss at each position; infinite or nan where the model overflows.
    """

    positions: list[float]
    losses: list[float]


@dataclass(frozen=True)
class Plane:
    """The loss over a plane.

    Attributes:
        xs: Coordinates along the first direction.
        ys: Coordinates along the second direction.
        losses: Mean loss, one row for each y with one number for each x; infinite or nan where the model overflows.
    """

    xs: list[float]
    ys: list[float]
    losses: list[list[float]]


def line(objective: Objective, direction: Direction, radii: Sequence[float], *, chunk: int | None = None) -> Line:
    """Measure the loss along one direction: L(w + r d) for every radius r.

    Args:
        objective: Model, loss and data.
        direction: By name, in any length.
        radii: Any finite numbers, in lengths of the direction; 0 is the model itself.
        chunk: Points evaluated at once (see `Objective.along`).

    Returns:
        The losses.

    Raises:
        InputError: There are no radii, one is not finite, or the direction does not fit the model.

    References:
        Goodfellow, Vinyals, Saxe: Qualitatively characterizing neural network optimization problems, arXiv:1412.6544,
        2014.

    Example:
        >>> from torch import nn
        >>> from switch_ema.analysis.objective import supervised
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> objective = Objective(model, supervised(nn.functional.mse_loss), [(torch.ones(4, 1), torch.zeros(4, 1))])
        >>> line(objective, {"weight": torch.ones(1, 1)}, [-1.0, 0.0, 2.0]).losses  # r^2
        [1.0, 0.0, 4.0]
    """
    _check("radii", radii)
    losses = objective.along(torch.tensor(radii, dtype=torch.float64)[:, None], [direction], chunk=chunk)
    return Line([*radii], losses.tolist())


def plane(
    objective: Objective,
    directions: Sequence[Direction],
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    chunk: int | None = None,
) -> Plane:
    """Measure the loss over a plane: L(w + x d_1 + y d_2) for every x and y.

    Args:
        objective: Model, loss and data.
        directions: Two, by name, which need not be orthogonal.
        xs: Any finite numbers, in lengths of the first direction.
        ys: Any finite numbers, in lengths of the second direction.
        chunk: Points evaluated at once (see `Objective.along`).

    Returns:
        The losses, by row and column.

    Raises:
        InputError: There are not two directions, no xs or ys, one is not finite, or a direction does not fit the model.

    References:
        Li, Xu, Taylor, Studer, Goldstein: Visualizing the Loss Landscape of Neural Nets, arXiv:1712.09913, 2017.

    Example:
        >>> from torch import nn
        >>> from switch_ema.analysis.objective import supervised
        >>> model = nn.Linear(1, 1)
        >>> _ = [nn.init.zeros_(parameter) for parameter in model.parameters()]
        >>> objective = Objective(model, supervised(nn.functional.mse_loss), [(torch.ones(4, 1), torch.zeros(4, 1))])
        >>> directions = [{"weight": torch.ones(1, 1)}, {"bias": torch.ones(1)}]
        >>> plane(objective, directions, [0.0, 1.0, 2.0], [0.0, 1.0]).losses  # (x + y)^2
        [[0.0, 1.0, 4.0], [1.0, 4.0, 9.0]]
    """
    if len(directions) != 2:
        raise InputError(f"a plane has 2 directions, not {len(directions)}")
    _check("xs", xs)
    _check("ys", ys)
    first, second = (torch.tensor(values, dtype=torch.float64) for values in (xs, ys))
    points = torch.cartesian_prod(second, first).flip(1)
    losses = objective.along(points, directions, chunk=chunk).reshape(len(ys), len(xs))
    return Plane([*xs], [*ys], losses.tolist())


def interpolation(
    objective: Objective,
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    num_points: int = 25,
    *,
    chunk: int | None = None,
) -> Line:
    """Measure the loss along the straight line between two solutions: L((1 - t) start + t end).

    The statistics of BatchNorm are interpolated with the weights if the solutions hold them. They need not fit the
    weights in between, so that a barrier may be theirs alone: an objective with ``batchnorm="train"`` tells.

    Args:
        objective: Model, loss and data; the model's own weights stand in for names that are missing in both solutions.
        start: Weights by name, such as a state dict.
        end: Weights by the same names.
        num_points: Number of points at equal distances, both ends included, from 2 on.
        chunk: Points evaluated at once (see `Objective.along`).

    Returns:
        The losses at t from 0 to 1.

    Raises:
        InputError: There are fewer than 2 points, or the solutions do not fit each other or the model.

    References:
        Goodfellow, Vinyals, Saxe: Qualitatively characterizing neural network optimization problems, arXiv:1412.6544,
        2014.

    Example:
        >>> from torch import nn
        >>> from switch_ema.analysis.objective import supervised
        >>> model = nn.Linear(1, 1, bias=False)
        >>> objective = Objective(model, supervised(nn.functional.mse_loss), [(torch.ones(4, 1), torch.zeros(4, 1))])
        >>> start, end = {"weight": torch.tensor([[-1.0]])}, {"weight": torch.tensor([[1.0]])}
        >>> [round(loss, 6) for loss in interpolation(objective, start, end, 5).losses]
        [1.0, 0.25, 0.0, 0.25, 1.0]
    """
    if num_points < 2:
        raise InputError(f"num_points {num_points}: write at least 2, for both ends")
    for name in start:
        if name not in objective.names:
            raise unknown("weight", name, objective.names, hint="pass solutions of the objective's model")
    difference(end, start)  # refuses solutions of different models
    own = {name: tensor for name, tensor in objective.model.state_dict().items() if name in start}
    times = torch.linspace(0, 1, num_points, dtype=torch.float64)
    ends = [difference(start, own), difference(end, own)]
    losses = objective.along(torch.stack([1 - times, times], dim=1), ends, chunk=chunk)
    return Line(times.tolist(), losses.tolist())


def barrier(losses: Sequence[float]) -> float:
    """Return the height of the loss barrier on the straight line between two solutions.

    max_t [L(t) - ((1 - t) L(0) + t L(1))] over t in [0, 1]: how far the loss rises above the line that joins the ends,
    as Entezari et al. define it. 0 means that the solutions are linearly connected. (Frankle et al. subtract the mean
    of the ends, which is the same for ends of equal loss.)

    Args:
        losses: At equal distances from one end to the other, both included, such as `interpolation` gives.

    Returns:
        The height, 0 or more, in the unit of the loss; infinite where the loss overflows on the way.

    Raises:
        InputError: There are fewer than 2 losses, or one at an end is not finite.

    References:
        Frankle, Dziugaite, Roy, Carbin: Linear Mode Connectivity and the Lottery Ticket Hypothesis, arXiv:1912.05671,
        2019 (ICML 2020).
        Entezari, Sedghi, Saukh, Neyshabur: The Role of Permutation Invariance in Linear Mode Connectivity of Neural
        Networks, arXiv:2110.06296, 2021 (ICLR 2022).

    Example:
        >>> barrier([1.0, 4.0, 2.0])  # 4 - (1 + 2) / 2
        2.5
    """
    if len(losses) < 2 or not (math.isfinite(losses[0]) and math.isfinite(losses[-1])):
        raise InputError(f"losses {[*losses]}: write at least 2, with finite ones at both ends")
    start, end, last = losses[0], losses[-1], len(losses) - 1
    rises = (loss - (start + (end - start) * k / last) for k, loss in enumerate(losses))
    return max(0.0, *(math.inf if math.isnan(rise) else rise for rise in rises))


def _check(what: str, values: Sequence[float]) -> None:
    if not len(values) or not all(map(math.isfinite, values)):
        raise InputError(f"{what} {[*values]}: write at least one finite number")
