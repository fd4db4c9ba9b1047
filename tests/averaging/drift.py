"""A model of one float64 weight that moves as it is told."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from switch_ema import Averager


class Point(nn.Module):
    """One weight, at 0."""

    def __init__(self, at: float = 0.0) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at, dtype=torch.float64))

    @property
    def here(self) -> float:
        return float(self.at.detach())

    def put(self, at: float) -> None:
        with torch.no_grad():
            self.at.fill_(at)


def average_of(averager: Averager) -> float:
    """Read the one averaged weight."""
    return float(averager.averaged_state_dict()["at"])


def walk(point: Point, averager: Averager, path: Sequence[float]) -> list[float]:
    """Put the point at each place in turn, updating after each; return the averages."""
    averages = []
    for place in path:
        point.put(place)
        averager.update()
        averages.append(average_of(averager))
    return averages


def drift(point: Point, averager: Averager, steps: int) -> None:
    """Move the point by 1 a step, from wherever a switch has put it."""
    for _ in range(steps):
        point.put(point.here + 1.0)
        averager.update()
