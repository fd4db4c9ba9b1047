"""A labelled image data set that stays on disk: its rows are opened one at a time, also by worker processes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data.decode import UnreadableImageError, as_array, fit
from switch_ema.data.images import moments
from switch_ema.data.parts import Part, find_parts
from switch_ema.data.splits import SPLIT_SEED
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from switch_ema.data.catalog import Source
    from switch_ema.data.table import Table

_log = logging.getLogger(__name__)
_STATISTICS_SAMPLE = 2000
_SIZE_SAMPLE = 32


@dataclass(frozen=True)
class Stream:
    """The images of one split, to be opened one at a time; can be pickled, and then holds no image.

    Attributes:
        table: Where the images are.
        rows: Which rows of the table belong to the split, int64 of shape (n,), sorted.
        mode: ``RGB`` or ``L``, for all images alike.
    """

    table: Table
    rows: NDArray[np.int64]
    mode: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each image, of shape (n,); -1 where nobody has named it."""
        return self.table.labels[self.rows]

    def open(self, position: int) -> Image:
        """Read and decode one image, without scaling it.

        Args:
            position: Which image of the split, 0 to ``len(self) - 1``.

        Returns:
            The image, in `mode`.

        Raises:
            UnreadableImageError: It is damaged or not there; one that skips such images catches and counts this.
            InputError: It has more than 8 bits a channel, or its file is damaged as a whole.
        """
        return self.table.open(int(self.rows[position])).convert(self.mode)


@dataclass(frozen=True)
class StreamSet:
    """Three splits of images on disk, the same rows as `switch_ema.data.images.load` would read.

    Attributes:
        train: Training images.
        val: Validation images; none of them is a training image.
        test: Test images.
        class_names: Name of each class.
        mean: Mean of each channel over a sample of training images, on the scale 0 to 255.
        std: Standard deviation of each channel over the same sample.
        source_labels: Labels of all rows of the training file, which `train.rows` count.
        decoded_bytes: What the three splits would take in memory (see `decoded_bytes`).
        unlabeled: Images for self-supervised pre-training, where the data have them.
    """

    train: Stream
    val: Stream
    test: Stream
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source_labels: NDArray[np.int64]
    decoded_bytes: int
    unlabeled: Stream | None = None


@lru_cache(maxsize=2)
def index(
    source: Source,
    *,
    train_size: int | None = None,
    image_size: int | None = None,
    skip_corrupt: bool = False,
    val_share: float | None = None,
) -> StreamSet:
    """Read the labels of a data set and divide its rows, but leave the images where they are.

    Mean and standard deviation come from a fixed sample of at most 2,000 training images. The images are grey if all
    of the sample are, else RGB.

    Args:
        source: What `switch_ema.data.catalog.locate` found.
        train_size: Number of training images; None takes all.
        image_size: Side that the images will be scaled and cropped to; only for the statistics and `decoded_bytes`.
        skip_corrupt: Leave damaged images out of the sample, and say so in one warning of the log; False refuses them.
        val_share: Share of the training images to hold out for validation; None takes 10 %, at most 5,000.

    Returns:
        The three splits.

    Raises:
        InputError: Something in the files is wrong, as far as it shows without decoding all images.
    """
    found = find_parts(source, train_size, image_size, val_share)
    counts = channel_counts(found.train, image_size, skip_corrupt, source.name)
    mean, std = moments(counts)
    mode = "L" if len(counts) == 1 else "RGB"
    train, val, test = (Stream(part.table, part.rows, mode) for part in (found.train, found.val, found.test))
    rest = found.unlabeled
    unlabeled = None if rest is None else Stream(rest.table, rest.rows, mode)
    size = estimated_bytes((found.train, found.val, found.test), image_size)
    return StreamSet(train, val, test, found.class_names, mean, std, found.train.table.labels, size, unlabeled)


@lru_cache(maxsize=2)
def decoded_bytes(
    source: Source, *, train_size: int | None = None, image_size: int | None = None, val_share: float | None = None
) -> int:
    """Estimate what `switch_ema.data.images.load` would need in memory, from a fixed sample of 32 images per split.

    Several seeds in one process ask once, as with `index`.

    Args:
        source: What `switch_ema.data.catalog.locate` found.
        train_size: Number of training images; None takes all.
        image_size: Side that the images will be scaled and cropped to; None keeps them.
        val_share: Share of the training images to hold out for validation; None takes 10 %, at most 5,000.

    Returns:
        Bytes of the training, validation and test images: exact where all images have one size.

    Raises:
        InputError: Something in the files is wrong.
    """
    found = find_parts(source, train_size, image_size, val_share)
    return estimated_bytes((found.train, found.val, found.test), image_size)


def estimated_bytes(parts: Iterable[Part], image_size: int | None) -> int:
    """Estimate what the images of some splits take in memory, from a fixed sample of 32 of each."""
    pixels, channels = 0.0, 1
    for part in parts:
        areas = []
        for row in _sample(part, _SIZE_SAMPLE).rows.tolist():
            try:
                image = part.table.open(row)
            except UnreadableImageError:  # reading will name it
                continue
            channels = max(channels, len(image.getbands()))
            areas.append((image_size or image.width) * (image_size or image.height))
        pixels += len(part.rows) * float(np.mean(areas)) if areas else 0.0
    return round(pixels * channels)


def _sample(part: Part, size: int) -> Part:
    """Choose some rows, the same ones in every run."""
    if len(part.rows) <= size:
        return part
    chosen = np.random.default_rng(SPLIT_SEED).choice(len(part.rows), size, replace=False)
    return Part(part.table, part.rows[np.sort(chosen)])


def channel_counts(part: Part, image_size: int | None, skip_corrupt: bool, name: str) -> list[NDArray[np.int64]]:
    """Count the pixels of each value in a fixed sample of at most 2,000 images.

    Args:
        part: The images.
        image_size: Side to scale and crop them to; None keeps them.
        skip_corrupt: Leave damaged images out, and say so in one warning of the log; False refuses them.
        name: Name of the data, for messages.

    Returns:
        One array (256,) if all images are grey, else one for each of three channels.

    Raises:
        InputError: An image is damaged, or all are.
    """
    part = _sample(part, _STATISTICS_SAMPLE)
    grey, colour = np.zeros(256, np.int64), np.zeros((3, 256), np.int64)
    skipped = 0
    for row in part.rows.tolist():
        try:
            image = fit(part.table.open(row), image_size)
        except UnreadableImageError as error:
            if not skip_corrupt:
                raise InputError(f"{error}; replace or remove it, or write --skip-corrupt") from error
            skipped += 1
            continue
        if image.mode == "L":
            grey += np.bincount(as_array(image).ravel(), minlength=256)
        else:
            colour += np.array(image.histogram()).reshape(3, 256)
    if skipped:
        _log.warning("%s: %d of %d sampled images cannot be read", name, skipped, len(part.rows))
    if skipped == len(part.rows):
        raise InputError(f"{name}: no readable image among {skipped}; copy or download the data again")
    return list(colour + grey) if colour.any() else [grey]
