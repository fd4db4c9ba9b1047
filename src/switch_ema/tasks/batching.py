"""The order of training examples: drawn from the epoch's seed alone, shared out among processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from switch_ema.bench.task import WHOLE, Shard
from switch_ema.errors import InputError


def shuffled(
    num_examples: int, batch_size: int, generator: torch.Generator, shard: Shard = WHOLE
) -> Iterator[tuple[Tensor, slice]]:
    """Yield the example numbers of each batch of one epoch; a last, smaller batch is dropped.

    The whole order is drawn at the call, on the CPU, so it is the same for every device and number of processes.

    Args:
        num_examples: Number of training examples.
        batch_size: Examples in a batch, over all processes.
        generator: A generator on the CPU, from the epoch's seed; drawn from once.
        shard: Which part of every batch to take.

    Returns:
        For each batch the numbers of this process's examples, int64 of shape (batch_size / world_size,), and where
        they stand in the epoch, a slice of 0 to `num_examples`: random numbers drawn for the whole epoch or
        batch are to be cut by it, so that they belong to the example and not to the process.

    Raises:
        InputError: The batch is larger than the training set, or its processes cannot share it equally.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> [(len(numbers), where) for numbers, where in shuffled(10, 4, generator)]
        [(4, slice(0, 4, None)), (4, slice(4, 8, None))]
    """
    if not 1 <= batch_size <= num_examples:
        raise InputError(f"batch size {batch_size}: write 1 to {num_examples}, the number of training examples")
    if batch_size % shard.world_size:
        raise InputError(f"batch size {batch_size}: write a multiple of {shard.world_size}, the number of processes")
    order = torch.randperm(num_examples, generator=generator)
    share = batch_size // shard.world_size
    first = shard.rank * share
    starts = range(first, num_examples - batch_size + first + 1, batch_size)
    return ((order[start : start + share], slice(start, start + share)) for start in starts)
