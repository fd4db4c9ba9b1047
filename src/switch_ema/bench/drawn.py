"""The batches on which losses around some weights are measured: few, always the same, drawn from all of the data."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from switch_ema.bench.task import Part, Task

NAMES: dict[Part, str] = {"train": "training", "val": "validation", "test": "test"}
"""What the parts of the data are called in sentences."""

_BATCH = 256


def measured_batches(
    task: Task, part: Part, device: torch.device, num_batches: int, batch_size: int
) -> tuple[list[Any], str]:
    """Return batches that the task's loss takes, and what they are in words.

    Pairs of inputs and targets, not augmented, are drawn from the whole part, so that data in the order of their
    classes do no harm. A task without such batches gives those that it trains on.

    Args:
        task: The task.
        part: Which part of its data.
        device: Where the batches are to be.
        num_batches: How many at most.
        batch_size: Examples in a batch that is trained on; the others have 256.

    Raises:
        InputError: The task has no batches of this part.
    """
    if part == "train" and type(task).fixed_batches is Task.fixed_batches:
        batches = [*islice(task.train_batches(batch_size, 0, device), num_batches)]
        return batches, f"{len(batches)} batches of {batch_size} training examples, as this task trains on them"
    inputs, targets, count = _draw(task.fixed_batches(part, device), num_batches * _BATCH)
    words = f"all {count:,}" if len(inputs) == count else f"{len(inputs):,} of {count:,}"
    return [*zip(inputs.split(_BATCH), targets.split(_BATCH), strict=True)], f"{words} {NAMES[part]} examples"


def _draw(batches: Iterable[tuple[Tensor, Tensor]], size: int) -> tuple[Tensor, Tensor, int]:
    """Return inputs and targets of `size` random examples in random order, all alike likely, and how many there are."""
    generator = torch.Generator().manual_seed(0)
    kept: list[Tensor] = []
    count = 0
    for inputs, targets in batches:
        lots = torch.rand(len(inputs), dtype=torch.float64, generator=generator)
        drawn = [lots, inputs, targets]
        kept = [torch.cat(parts) for parts in zip(kept, drawn, strict=True)] if kept else drawn
        chosen = kept[0].topk(min(size, len(kept[0]))).indices  # in the order of their lots, which is random
        kept = [part[chosen.to(part.device)] for part in kept]
        count += len(inputs)
    return kept[1], kept[2], count
