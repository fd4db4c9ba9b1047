"""A task of your own for `sema compare`: which of two interleaved spirals is a point on?

    sema compare examples/my_task.py:Spirals --optimizer adam --lr 0.01 --noise 0.1

Copy this file and change it: any model, loss and metric will do. The arguments of the constructor become options of the
command. `seed` draws what belongs to the problem; initial weights and the order of the batches are seeded by the bench.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from switch_ema.bench.task import WHOLE, Metric, Shard, Split, Task
from switch_ema.tasks.batching import shuffled

Batch = tuple[Tensor, Tensor]


class Spirals(Task):
    """Name the spiral that a point lies on."""

    name = "spirals"
    data = "generated"
    model = "mlp"
    metrics = (Metric("accuracy", higher_is_better=True), Metric("loss", higher_is_better=False))

    def __init__(self, *, seed: int, points: int = 600, noise: float = 0.05, width: int = 64) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.num_train = points
        self.width = width
        self.splits = {
            split: spirals(n, noise, generator) for split, n in (("train", points), ("val", 500), ("test", 1000))
        }

    def build_model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(2, self.width), nn.Tanh(), nn.Linear(self.width, self.width), nn.Tanh(), nn.Linear(self.width, 1)
        )

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        points, labels = (part.to(device) for part in self.splits["train"])
        generator = torch.Generator().manual_seed(seed)
        for numbers, _ in shuffled(self.num_train, batch_size, generator, shard):
            yield points[numbers.to(device)], labels[numbers.to(device)]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        points, labels = batch
        return binary_cross_entropy_with_logits(model(points).squeeze(1), labels)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        points, labels = (part.to(device) for part in self.splits[split])
        logits = model(points).squeeze(1).float()
        right = (logits > 0) == (labels > 0.5)
        return {
            "accuracy": right.float().mean().item(),
            "loss": binary_cross_entropy_with_logits(logits, labels).item(),
        }


def spirals(count: int, noise: float, generator: torch.Generator) -> Batch:
    """Draw points (count, 2) on two spirals, and which one, 0.0 or 1.0 (count,)."""
    labels = torch.randint(2, (count,), generator=generator).float()
    radius = torch.rand(count, generator=generator).sqrt()
    angle = 3 * math.pi * radius + math.pi * labels
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return points + noise * torch.randn(count, 2, generator=generator), labels


if __name__ == "__main__":
    torch.manual_seed(0)
    task = Spirals(seed=0)
    network = task.build_model()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for epoch in range(60):
        for batch in task.train_batches(50, epoch, torch.device("cpu")):
            optimizer.zero_grad()
            task.loss(network, batch).backward()
            optimizer.step()
    accuracy = task.evaluate(network.eval(), "test", torch.device("cpu"))["accuracy"]
    print(f"test accuracy {accuracy:.3f}")
    assert accuracy > 0.9
