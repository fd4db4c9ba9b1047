"""Worst-case sharpness: how far the loss can rise within a ball around the weights.

The paper on Switch EMA says "sharpness" for the DEPTH of a minimum (the loss at it) and "flatness" for its WIDTH, and
defines neither by a formula. Here sharpness is a measured quantity, the largest increase of the loss within a given
distance, as in sharpness-aware minimization; `switch_ema.analysis.flatness` measures the mean increase and the width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from switch_ema.analysis.objective import Objective
from switch_ema.analysis.weights import dot
from switch_ema.errors import InputError

Point = dict[str, Tensor]
"""Where in the ball a point is, by parameter, in units of the scale of each weight."""


@dataclass(frozen=True)
class Sharpness:
    """The largest increase of the loss that was found in a ball.

    Attributes:
        rho: Radius of the ball.
        adaptive: Whether the ball is measured relative to the size of each weight.
        loss: Loss at the centre.
        increase: Largest loss seen in the ball, less `loss`; never below 0, infinite where the loss overflows. It is a
            lower bound of the true maximum.
        one_step: Increase after the one gradient step to the border that SAM makes; it may be below 0.
    """

    rho: float
    adaptive: bool
    loss: float
    increase: float
    one_step: float


def worst_case_sharpness(
    objective: Objective, rhos: Sequence[float], *, adaptive: bool = False, num_steps: int = 10, seed: int = 0
) -> list[Sharpness]:
    """Measure how far the loss can rise within balls around the weights.

    max over ||eps / s|| <= rho of L(w + eps) - L(w), with s = 1, or s = |w| by elements in the adaptive form, which
    does not depend on the scale of the weights. From the best of three points on the border (SAM's, eps / s =
    rho u(s g) with the gradient g and u(x) = x / ||x||; the best of the smaller balls, scaled up; a random one, as
    there is no gradient at a minimum) it goes uphill by projected gradient ascent,
    eps / s <- project(eps / s + rho u(s g(w + eps))). The best point ever seen counts, those of smaller balls among
    them, so that the increase never falls as rho grows.

    Args:
        objective: Model, loss and data.
        rhos: Radii, above 0, in any order. The unit is that of the weights; SAM trains with 0.05 to 0.1, and with about
            ten times as much in the adaptive form.
        adaptive: Use the adaptive form.
        num_steps: Gradient steps in each ball, from 1 on; 1 is SAM's step alone.
        seed: Draws the random points.

    Returns:
        One result for each radius, from the smallest on.

    Raises:
        InputError: An argument is out of range.

    References:
        Foret, Kleiner, Mobahi, Neyshabur: Sharpness-Aware Minimization, arXiv:2010.01412, 2020 (p = 2).
        Kwon, Kim, Park, Choi: ASAM, arXiv:2102.11600, 2021 (by elements, without its eta).

    Example:
        >>> from torch import nn
        >>> from switch_ema.analysis.objective import supervised
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> batches = [(torch.ones(4, 1), torch.full((4, 1), 2.0))]  # the loss is (w - 2)^2
        >>> found = worst_case_sharpness(Objective(model, supervised(nn.functional.mse_loss), batches), [0.1, 0.5])
        >>> [(each.rho, round(each.increase, 4)) for each in found]
        [(0.1, 0.01), (0.5, 0.25)]
    """
    if not rhos or not all(0 < rho < math.inf for rho in rhos):
        raise InputError(f"rhos {[*rhos]}: write radii above 0, such as [0.05, 0.1]")
    if num_steps < 1:
        raise InputError(f"num_steps {num_steps}: write at least 1")
    ball = _Ball(objective, adaptive)
    uphill, anywhere = ball.uphill(), ball.random(seed)
    best = _Seen({name: torch.zeros_like(w) for name, w in uphill.items()}, 0.0)
    radius = 0.0  # of the ball that the best point was found in
    found = []
    for rho in sorted(rhos):
        starts = [_times(uphill, rho), _times(anywhere, rho), _times(best.point, rho / radius if radius else 1)]
        seen = [_Seen(*each) for each in zip(starts, ball.increases(starts), strict=True)]
        top = max([*seen, *ball.climb(max(seen, key=_increase), rho, num_steps - 1)], key=_increase)
        if top.increase > best.increase:
            best, radius = top, rho
        found.append(Sharpness(rho, adaptive, objective.value(), best.increase, seen[0].increase))
    return found


class _Seen(NamedTuple):
    """A point and the increase of the loss there."""

    point: Point
    increase: float


def _increase(seen: _Seen) -> float:
    return seen.increase


@final
class _Ball:
    """The surroundings of the weights, in units of their scale."""

    def __init__(self, objective: Objective, adaptive: bool) -> None:
        self._objective = objective
        self._centre = objective.parameters
        self._scale = {name: w.abs() if adaptive else torch.ones_like(w) for name, w in self._centre.items()}

    def increases(self, points: Sequence[Point]) -> list[float]:
        """Return the increase of the loss at each point; infinite where the loss overflows."""
        moves = [_product(point, self._scale) for point in points]
        losses = self._objective.along(torch.eye(len(points), dtype=torch.float64), moves)
        increases: list[float] = (losses - self._objective.value()).nan_to_num(nan=math.inf, posinf=math.inf).tolist()
        return increases

    def climb(self, start: _Seen, rho: float, num_steps: int) -> Iterator[_Seen]:
        """Yield the points of projected gradient ascent, until the loss overflows."""
        for _ in range(num_steps):
            if start.increase == math.inf:
                return
            uphill = self.uphill(start.point)
            ahead = {name: z + rho * uphill[name] for name, z in start.point.items()}
            point = _times(ahead, (rho / dot(ahead, ahead).sqrt()).clamp(max=1))
            start = _Seen(point, self.increases([point])[0])
            yield start

    def uphill(self, point: Point | None = None) -> Point:
        """Return the direction of steepest ascent at a point or at the centre, of length 1; 0 where it is flat."""
        eps = _product(point, self._scale) if point else {}
        gradient = self._objective.gradient({name: self._centre[name] + move for name, move in eps.items()})
        return _unit(_product(gradient, self._scale))

    def random(self, seed: int) -> Point:
        """Return a random point at distance 1."""
        generator = torch.Generator().manual_seed(seed)
        return _unit({name: torch.randn(w.shape, generator=generator).to(w) for name, w in self._centre.items()})


def _product(one: Point, other: Point) -> Point:
    return {name: value * other[name] for name, value in one.items()}


def _times(point: Point, factor: float | Tensor) -> Point:
    return {name: value * factor for name, value in point.items()}


def _unit(point: Point) -> Point:
    norm = dot(point, point).sqrt()
    return _times(point, torch.where(norm > 0, 1 / norm, 0.0))
