"""Images that stay on disk: worker processes open, crop and resize them; everything else happens on the device."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from switch_ema.bench.task import WHOLE, Shard
from switch_ema.data.decode import UnreadableImageError, as_array, fit
from switch_ema.data.streams import Stream
from switch_ema.errors import InputError
from switch_ema.tasks.augment.base import Draws, ToFloat, cut
from switch_ema.tasks.augment.crop import ResizedCrop
from switch_ema.tasks.batching import shuffled
from switch_ema.tasks.images import Augment, ImageBatches

_log = logging.getLogger(__name__)
_EVERYTHING = slice(None)


class _Wanted(NamedTuple):
    """An image to read: its position in the split, and the numbers drawn for its crop."""

    position: int
    draws: tuple[Any, ...] = ()


class _Read(NamedTuple):
    """An image as it was read, uint8 (h, w, c), with the position it comes from; None where it cannot be read."""

    pixels: NDArray[np.uint8] | None
    position: int


class StreamBatches:
    """Makes batches like `ImageBatches`, of images that are read when they are needed.

    Args:
        streams: The images of each split.
        size: Side in pixels to which they are scaled and cropped.
        mean: Mean of each channel, on the scale 0 to 255.
        std: Standard deviation of each channel.
        augment: What happens to training images; `ResizedCrop` is done by the workers, with Pillow.
        workers: Number of processes that read; 0 reads in this one.
        skip_corrupt: Whether an image that cannot be read is left out, in training by taking the next one instead.
    """

    def __init__(
        self,
        streams: dict[str, Stream],
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Augment,
        *,
        workers: int,
        skip_corrupt: bool = False,
    ) -> None:
        self._streams = streams
        self._size = size
        self._augment = augment
        self._workers = workers
        self._skip = skip_corrupt
        self._finish = ImageBatches({}, mean, std)

    def epoch(
        self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE, split: str = "train"
    ) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """Yield one epoch of shuffled, augmented batches; see `ImageBatches.epoch`."""
        stream = self._streams[split]
        generator = torch.Generator().manual_seed(seed)
        order = list(shuffled(len(stream), batch_size, generator, shard))
        crop, change = self._augment.draw(len(stream), generator)
        return self._epoch(stream, order, crop, cut(change, _EVERYTHING, device), device)

    def _epoch(
        self, stream: Stream, order: list[tuple[Tensor, slice]], crop: Draws, change: Draws, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor, slice]]:
        step = self._augment
        in_worker = step.crop if isinstance(step.crop, ResizedCrop) else None
        reading = _Reading(stream, self._size, in_worker, replace=self._skip)
        wanted = ([*map(_Wanted, n.tolist(), _rows(crop, at) if in_worker else [()] * len(n))] for n, at in order)
        for read, (_, where) in zip(self._load(reading, wanted), order, strict=True):
            _refuse_unreadable(stream, read)
            batch, numbers = _stacked(read, device)
            if step.crop and not in_worker:
                batch = step.crop(batch, cut(crop, where, device))
            if step.change:
                batch = step.change(ToFloat()(batch, ()), cut(change, where, device))
            yield self._finish.normalised(batch), numbers, where

    def held_out(self, split: str, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, slice | Tensor]]:
        """Yield all readable images of a split in their order, normalised, with their positions (n,)."""
        stream = self._streams[split]
        reading = _Reading(stream, self._size, None, replace=False)
        starts = range(0, len(stream), batch_size)
        wanted = ([_Wanted(k) for k in range(start, min(start + batch_size, len(stream)))] for start in starts)
        skipped = 0
        for read in self._load(reading, wanted):
            good = [each for each in read if each.pixels is not None]
            skipped += len(read) - len(good)
            if not self._skip:
                _refuse_unreadable(stream, read)
            if good:
                batch, numbers = _stacked(good, device)
                yield self._finish.normalised(batch), numbers
        if skipped == len(stream):
            raise InputError(f"{split}: none of its {skipped} images can be read; copy or download the data again")
        if skipped:
            _log.warning("%s: left out %d images that cannot be read", split, skipped)

    def _load(self, reading: _Reading, wanted: Iterator[list[_Wanted]]) -> Iterator[list[_Read]]:
        return iter(
            DataLoader(
                reading,
                batch_sampler=_Once(wanted),
                num_workers=self._workers,
                collate_fn=list,
                persistent_workers=False,
            )
        )


@dataclass(frozen=True)
class _Once:
    """What to read, batch after batch, as the data loader wants to have it."""

    batches: Iterator[list[_Wanted]]

    def __iter__(self) -> Iterator[list[_Wanted]]:
        return self.batches


class _Reading(Dataset[_Read]):
    """Opens, crops and resizes one image.

    Args:
        stream: The images.
        size: Side of the results.
        crop: Random crop; None takes the middle.
        replace: Whether the next readable image stands in for one that cannot be read.
    """

    def __init__(self, stream: Stream, size: int, crop: ResizedCrop | None, *, replace: bool) -> None:
        self._stream = stream
        self._size = size
        self._crop = crop
        self._replace = replace

    def __getitem__(self, wanted: _Wanted) -> _Read:
        position = wanted.position
        for _ in range(len(self._stream) if self._replace else 1):
            try:
                image = self._stream.open(position)
            except UnreadableImageError:
                position = (position + 1) % len(self._stream) if self._replace else position
            else:
                return _Read(as_array(self._cropped(image, wanted.draws)), position)
        return _Read(None, position)

    def _cropped(self, image: Image.Image, drawn: tuple[Any, ...]) -> Image.Image:
        if self._crop is None:
            return fit(image, self._size)
        draws = tuple(torch.tensor([numbers]) for numbers in drawn)
        top, left, height, width = (float(side) for side in self._crop.boxes(draws, image.height, image.width)[:4])
        kind = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[self._crop.interpolation]
        part = image.resize((self._size, self._size), kind, box=(left, top, left + width, top + height))
        return ImageOps.mirror(part) if draws[3].item() else part


def _rows(draws: Draws, where: slice) -> Iterator[tuple[Any, ...]]:
    """Yield the random numbers of each image as plain lists, which are cheap to send to a worker."""
    return zip(*(numbers[where].tolist() for numbers in draws), strict=True)


def _stacked(read: list[_Read], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the images, (n, h, w, c), and their positions, (n,), on the device."""
    pixels = torch.from_numpy(np.stack([each.pixels for each in read if each.pixels is not None]))
    if device.type == "cuda":
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=True), torch.tensor([each.position for each in read]).to(device)


def _refuse_unreadable(stream: Stream, read: list[_Read]) -> None:
    for each in read:
        if each.pixels is None:
            try:
                stream.open(each.position)
            except UnreadableImageError as error:
                raise InputError(f"{error}; replace or remove it, or write --skip-corrupt") from None
            raise InputError(f"image {each.position} of a split cannot be read now and then; is the disk healthy?")
