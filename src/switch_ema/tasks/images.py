"""Images that lie on the device as one tensor of bytes, and batches of them: cropped, changed, normalised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switch_ema.bench.task import WHOLE, Shard
from switch_ema.tasks.augment.base import Augmentation, Draws, ToFloat, cut
from switch_ema.tasks.augment.crop import ResizedCrop, ShiftFlip
from switch_ema.tasks.batching import shuffled

_EVERYTHING = slice(None)


@dataclass(frozen=True)
class Augment:
    """What happens to training images.

    Attributes:
        crop: How they are cropped; None leaves them.
        change: What happens to them afterwards, as floats (n, c, h, w) in [0, 1]; None for nothing.
    """

    crop: ShiftFlip | ResizedCrop | None = None
    change: Augmentation | None = None

    def draw(self, count: int, generator: torch.Generator) -> tuple[Draws, Draws]:
        """Draw all random numbers of `count` images, for both steps."""
        crop, change = (step.draw(count, generator) if step else () for step in (self.crop, self.change))
        return crop, change


class ImageBatches:
    """Makes batches of stored images. Its tensors move to the device that they are asked for on, and stay there.

    Args:
        images: Storage of each split, uint8 (N, h, w, c).
        mean: Mean of each channel, on the scale 0 to 255.
        std: Standard deviation of each channel.
        augment: What happens to training images.

    Example:
        >>> batches = ImageBatches({"train": torch.zeros(10, 8, 8, 1, dtype=torch.uint8)}, (127.5,), (64.0,))
        >>> images, numbers, where = next(batches.epoch(4, seed=0, device=torch.device("cpu")))
        >>> images.shape, where
        (torch.Size([4, 1, 8, 8]), slice(0, 4, None))
    """

    def __init__(
        self,
        images: dict[str, Tensor],
        mean: Sequence[float],
        std: Sequence[float],
        augment: Augment = Augment(),
    ) -> None:
        self._images = dict(images)
        self._mean, self._std = torch.tensor(mean), torch.tensor(std)
        self._augment = augment

    def epoch(
        self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE, split: str = "train"
    ) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """Yield one epoch of shuffled, augmented batches.

        All random numbers are drawn at once on the CPU, so they are the same for every device and number of processes.

        Args:
            batch_size: Images in a batch, over all processes.
            seed: Decides order and augmentation; torch's global random generator is left alone.
            device: Where the batches are made.
            shard: Which part of every batch to take.
            split: Whose images.

        Returns:
            For each batch the images (n, c, h, w), normalised, their numbers (n,) on the device, and their places in
            the epoch (see `shuffled`).

        Raises:
            InputError: The batch size does not fit.
        """
        images = self.on(device, split)
        generator = torch.Generator().manual_seed(seed)
        order = shuffled(len(images), batch_size, generator, shard)
        crop, change = (cut(draws, _EVERYTHING, device) for draws in self._augment.draw(len(images), generator))
        return self._batches(images, order, crop, change)

    def _batches(
        self, images: Tensor, order: Iterator[tuple[Tensor, slice]], crop: Draws, change: Draws
    ) -> Iterator[tuple[Tensor, Tensor, slice]]:
        step = self._augment
        for chosen, where in order:
            numbers = chosen.to(images.device, non_blocking=True)
            mine = cut(crop, where, images.device)
            if isinstance(step.crop, ShiftFlip):
                batch = step.crop.gather(images, numbers, mine)
            else:
                batch = images.index_select(0, numbers)
                batch = step.crop(batch, mine) if step.crop else batch
            if step.change:
                unit = batch if batch.is_floating_point() else ToFloat()(batch, ())
                batch = step.change(unit, cut(change, where, images.device))
            yield self.normalised(batch), numbers, where

    def held_out(self, split: str, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, slice | Tensor]]:
        """Yield all images of a split in their order, normalised, with an index that picks their labels."""
        images = self.on(device, split)
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            yield self.normalised(images[part]), part

    def normalised(self, images: Tensor) -> Tensor:
        """Map bytes (n, h, w, c), or floats (n, c, h, w) in [0, 1], to floats (n, c, h, w) with mean 0 and variance 1.

        Bytes become a tensor that is stored channels-last, which convolutions are faster on.
        """
        mean, std = self._mean, self._std = self._mean.to(images.device), self._std.to(images.device)
        if images.is_floating_point():
            return ((images - mean[:, None, None] / 255) * (255 / std[:, None, None])).contiguous(
                memory_format=torch.channels_last
            )
        return ((images.float() - mean) / std).permute(0, 3, 1, 2)

    def on(self, device: torch.device, split: str) -> Tensor:
        """Return the storage of a split on the device, where it stays."""
        self._images[split] = self._images[split].to(device)
        return self._images[split]
