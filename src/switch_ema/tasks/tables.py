"""Batches of vectors that lie on the device as one tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from switch_ema.bench.task import WHOLE, Shard
from switch_ema.tasks.batching import shuffled


class TableBatches:
    """Makes batches of vectors, normalised, like `switch_ema.tasks.images.ImageBatches` of images.

    Args:
        features: Vectors of each split, float64 (N, features).
        mean: Mean of each feature.
        std: Standard deviation of each feature.

    Example:
        >>> batches = TableBatches({"train": torch.rand(10, 3).double()}, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))
        >>> next(batches.epoch(4, seed=0, device=torch.device("cpu")))[0].shape
        torch.Size([4, 3])
    """

    def __init__(self, features: Mapping[str, Tensor], mean: Sequence[float], std: Sequence[float]) -> None:
        center, spread = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        self._features = {split: ((values - center) / spread).float() for split, values in features.items()}

    def epoch(
        self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE
    ) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """Yield one epoch of shuffled batches; see `switch_ema.tasks.images.ImageBatches.epoch`."""
        features = self._on(device, "train")
        order = shuffled(len(features), batch_size, torch.Generator().manual_seed(seed), shard)
        moved = ((chosen.to(device), where) for chosen, where in order)
        return ((features[numbers], numbers, where) for numbers, where in moved)

    def held_out(self, split: str, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, slice]]:
        """Yield all vectors of a split in their order, with an index that picks their targets."""
        features = self._on(device, split)
        for start in range(0, len(features), batch_size):
            part = slice(start, start + batch_size)
            yield features[part], part

    def _on(self, device: torch.device, split: str) -> Tensor:
        """Return the vectors of a split on the device, where they stay."""
        self._features[split] = self._features[split].to(device)
        return self._features[split]
