"""Batches of tokenized texts, each padded to its longest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from switch_ema.bench.task import WHOLE, Shard
from switch_ema.tasks.batching import shuffled

Padded = tuple[Tensor, Tensor]
"""Tokens (n, length) and the mask of those that are no padding (n, length), both int64."""


class TextBatches:
    """Makes batches out of tokens that lie on the device as one tensor.

    Args:
        texts: The tokens of each text of each split.
        pad: The token that fills up short texts.

    Example:
        >>> batches = TextBatches({"test": [[1, 7, 8, 2], [1, 2], [1, 5, 2]]}, pad=0)
        >>> (tokens, mask), numbers = next(batches.held_out("test", 2, torch.device("cpu")))
        >>> tokens.tolist(), mask.tolist(), numbers.tolist()
        ([[1, 2, 0], [1, 5, 2]], [[1, 1, 0], [1, 1, 1]], [1, 2])
    """

    def __init__(self, texts: Mapping[str, Iterable[Sequence[int]]], pad: int) -> None:
        self._tokens, self._lengths = {}, {}
        for split, found in texts.items():
            rows = [torch.tensor(row, dtype=torch.int32) for row in found]
            self._tokens[split] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
            self._lengths[split] = torch.tensor([len(row) for row in rows])

    def epoch(
        self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE
    ) -> Iterator[tuple[Padded, Tensor]]:
        """Yield one epoch of shuffled batches, with the numbers of their texts on the device.

        Raises:
            InputError: The batch is larger than the training set, or its processes cannot share it equally.
        """
        order = shuffled(len(self._lengths["train"]), batch_size, torch.Generator().manual_seed(seed), shard)
        return (self._batch("train", numbers, device) for numbers, _ in order)

    def held_out(self, split: str, batch_size: int, device: torch.device) -> Iterator[tuple[Padded, Tensor]]:
        """Yield all texts of a split, the shortest first, with their numbers on the device."""
        order = self._lengths[split].argsort(stable=True)
        return (self._batch(split, numbers, device) for numbers in order.split(batch_size))

    def _batch(self, split: str, numbers: Tensor, device: torch.device) -> tuple[Padded, Tensor]:
        self._tokens[split] = self._tokens[split].to(device)  # where they stay
        lengths = self._lengths[split][numbers]
        longest = int(lengths.max())  # known on the CPU, so that nothing waits for the device
        there = numbers.to(device)
        mask = torch.arange(longest) < lengths[:, None]
        return (self._tokens[split][there, :longest].long(), mask.long().to(device)), there
