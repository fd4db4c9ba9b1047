"""Batches of sequences: those of an epoch, and those that are held out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from switch_ema.bench.task import WHOLE, Shard, Split
from switch_ema.data.video.moving import NUM_DIGITS, Generated, Scenes
from switch_ema.data.video.recorded import Recorded
from switch_ema.data.video.videos import Sequences, Videos
from switch_ema.tasks.batching import shuffled

Batch = tuple[Tensor, Tensor]
"""Past frames, (n, inputs, channels, height, width), and those that follow, (n, outputs, channels, height, width)."""


class Batches:
    """Makes batches of sequences, pixels in 0..1, where the network is.

    Args:
        videos: The sequences.
        inputs: Frames to predict from; the others are to be predicted.
        fresh: Whether an epoch's sequences are generated from its seed; False takes the same ones in every epoch.
    """

    def __init__(self, videos: Videos, inputs: int, fresh: bool) -> None:
        self._inputs = inputs
        self._fresh = fresh and isinstance(videos.train, Generated)
        self._train = videos.train
        self._held_out: dict[Split, _Reader] = {"val": _Reader(videos.val), "test": _Reader(videos.test)}

    def epoch(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Yield an epoch's batches, which depend on its seed alone; a last, smaller one is dropped.

        Order and, of fresh sequences, digits and directions are drawn at once on the CPU for the whole epoch; each
        process takes its slice of every batch.

        Args:
            batch_size: Sequences in a batch, over all processes.
            seed: Decides what is drawn; torch's global random generator is left alone.
            device: Where the batches are made.
            shard: Which slice of every batch to take.

        Returns:
            An iterator over batches.

        Raises:
            InputError: The batch is larger than the training set, or its processes cannot share it equally.
        """
        generator = torch.Generator().manual_seed(seed)
        order = shuffled(len(self._train), batch_size, generator, shard)
        shares = None
        if self._fresh:
            drawn = torch.rand((len(self._train), NUM_DIGITS, 4), generator=generator, dtype=torch.float64)
            shares = drawn.numpy()
        reader = _Reader(self._train, shares)
        return (self._split(reader(numbers.numpy(), device)) for numbers, _ in order)

    def held_out(
        self, split: Split, batch_size: int, device: torch.device, count: int | None = None
    ) -> Iterator[Batch]:
        """Yield every sequence of a split in order, or the first `count` of them."""
        reader = self._held_out[split]
        size = min(len(reader), count or len(reader))
        for start, stop in pairwise([*range(0, size, batch_size), size]):
            yield self._split(reader(np.arange(start, stop), device))

    def _split(self, sequences: Tensor) -> Batch:
        return sequences[:, : self._inputs], sequences[:, self._inputs :]


class _Reader:
    """Maps numbers of sequences to their frames, floats in 0..1 of shape (n, frames, channels, height, width)."""

    def __init__(
        self, sequences: Sequences, shares: np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None = None
    ) -> None:
        self._sequences = sequences
        if isinstance(sequences, Generated):
            self._scenes = sequences.scenes(shares)
            self._digits = torch.from_numpy(sequences.digits)

    def __len__(self) -> int:
        return len(self._sequences)

    def __call__(self, rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]], device: torch.device) -> Tensor:
        if isinstance(self._sequences, Recorded):
            frames = torch.from_numpy(self._sequences.read(rows)).to(device).movedim(-1, 2)
        else:
            self._digits = self._digits.to(device)
            wanted = Scenes(self._scenes.digits[rows], self._scenes.corners[rows])
            frames = paint(self._digits, wanted, self._sequences.size)
        return frames.float() / 255


def paint(digits: Tensor, scenes: Scenes, size: int) -> Tensor:
    """Draw moving digits on black canvases; where they overlap, the brighter pixel is seen.

    Args:
        digits: The digits, uint8 of shape (digits, side, side); the canvases are made on their device.
        scenes: Which of them are where, n sequences.
        size: Side of the canvas in pixels.

    Returns:
        uint8 of shape (n, frames, 1, size, size).

    Example:
        >>> import numpy as np
        >>> scenes = Scenes(np.array([[0, 1]]), np.array([[[[0, 0], [0, 1]]]]))
        >>> paint(torch.tensor([[[5]], [[7]]], dtype=torch.uint8), scenes, 2).tolist()
        [[[[[5, 7], [0, 0]]]]]
    """
    which, corners = (torch.from_numpy(array).to(digits.device) for array in (scenes.digits, scenes.corners))
    side = torch.arange(digits.shape[1], device=digits.device)
    inside = (side[:, None] * size + side).flatten()
    places = (corners[..., 0] * size + corners[..., 1])[..., None] + inside  # (n, frames, digits, pixels of a digit)
    canvas = torch.zeros((*corners.shape[:2], size * size), dtype=torch.uint8, device=digits.device)
    for number in range(which.shape[1]):
        own, place = digits[which[:, number]].flatten(1)[:, None], places[:, :, number]
        canvas.scatter_(2, place, torch.maximum(canvas.gather(2, place), own))
    return canvas.view(*corners.shape[:2], 1, size, size)
