"""What the tests of integrations share: a small network, its data, and the same training as a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema import Averager

Batch = tuple[Tensor, Tensor]


def network(seed: int = 0) -> nn.Sequential:
    """A network with float and integer buffers."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 200), nn.BatchNorm1d(200), nn.ReLU(), nn.Linear(200, 100), nn.Linear(100, 2))


def batches(number: int = 5, seed: int = 1) -> list[Batch]:
    draw = torch.Generator().manual_seed(seed)
    return [(torch.randn(6, 4, generator=draw), torch.randint(2, (6,), generator=draw)) for _ in range(number)]


class Loader:
    """Batches in order; goes on in the middle of an epoch when it is asked to."""

    def __init__(self, data: list[Batch]) -> None:
        self.data = data
        self.given = 0
        self.begin = 0

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Batch]:
        self.given, self.begin = self.begin, 0
        for batch in self.data[self.given :]:
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given % len(self.data)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.begin = state["given"]


@dataclass
class Plain:
    """A plain loop's outcome."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    averager: Averager
    seen: list[dict[str, Any]]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def plain_loop(
    method: Callable[[nn.Module], Averager], *, epochs: int = 3, number: int = 5, accumulate: int = 1
) -> Plain:
    """Train by hand; `seen` has the average at the end of each epoch."""
    model = network()
    optimizer = sgd(model)
    averager = method(model)
    averager.attach(optimizer)
    seen = []
    for _ in range(epochs):
        for i, (x, y) in enumerate(batches(number), start=1):
            (nn.functional.cross_entropy(model(x), y) / accumulate).backward()
            if i % accumulate == 0 or i == number:
                optimizer.step()
                optimizer.zero_grad()
        averager.end_epoch()
        seen.append(averager.averaged_state_dict())
    return Plain(model, optimizer, averager, seen)


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Compare nested states bit for bit."""
    if isinstance(one, Tensor):
        assert isinstance(other, Tensor), where
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    else:
        assert one == other, where
