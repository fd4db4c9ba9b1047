"""A labelled image data set in memory, divided into training, validation and test images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data.parts import Part, find_parts
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from switch_ema.data.catalog import Source

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Images:
    """Images of one split.

    Attributes:
        images: uint8 of shape (n, height, width, channels).
        labels: int64 of shape (n,); -1 where nobody has named the class.
        rows: Which rows of the file they are, int64 of shape (n,), sorted.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """Three splits of square images of one size, with 1 (grey) or 3 (RGB) channels.

    Attributes:
        train: Training images.
        val: Validation images; none of them is a training image.
        test: Test images.
        class_names: Name of each class.
        mean: Mean of each channel of the training images, on the scale 0 to 255.
        std: Standard deviation of each channel of the training images.
        source_labels: Labels of all rows of the training file, which `train.rows` count.
        unlabeled: Images for self-supervised pre-training, where the data have them and they were asked for.
        skipped: Number of images left out because they cannot be read.
    """

    train: Images
    val: Images
    test: Images
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source_labels: NDArray[np.int64]
    unlabeled: Images | None = None
    skipped: int = 0


@lru_cache(maxsize=2)
def load(
    source: Source,
    *,
    train_size: int | None = None,
    image_size: int | None = None,
    skip_corrupt: bool = False,
    unlabeled: bool = False,
    val_share: float | None = None,
) -> ImageSet:
    """Read a data set and divide it; several seeds in one process read it once.

    A split that the data lack is held out of the training images (see `switch_ema.data.splits.divide`). Only the
    images of the splits are decoded, so a small `train_size` is read quickly. The arrays are shared: do not write.

    Args:
        source: What `switch_ema.data.catalog.locate` found.
        train_size: Number of training images; None takes all.
        image_size: Scale the shorter side to this and crop the centre; None keeps the images, if all are equal squares.
        skip_corrupt: Leave out images that cannot be read, count them, and say so in one warning of the log; False
            refuses them. The splits are drawn before, so the other images stay where they are.
        unlabeled: Also read the images without labels, where the data have them.
        val_share: Share of the training images to hold out for validation; None takes 10 %, at most 5,000.

    Returns:
        The three splits.

    Raises:
        InputError: Something in the files is wrong.
    """
    found = find_parts(source, train_size, image_size, val_share)
    wanted = {"train": found.train, "val": found.val, "test": found.test}
    if unlabeled and found.unlabeled is not None:
        wanted["unlabeled"] = found.unlabeled
    parts = _read(wanted, skip_corrupt)
    skipped = sum(len(wanted[split].rows) - len(part.rows) for split, part in parts.items())
    if skipped:
        _check_complete(parts, found.class_names, source.name)
        _log.warning("%s: left out %d images that cannot be read", source.name, skipped)
    pixels = equal_shapes({split: part.images for split, part in parts.items()}, source.name)
    parts = {split: replace(part, images=pixels[split]) for split, part in parts.items()}
    mean, std = channel_statistics(pixels["train"])
    return ImageSet(
        parts["train"],
        parts["val"],
        parts["test"],
        found.class_names,
        mean,
        std,
        found.train.table.labels,
        parts.get("unlabeled"),
        skipped,
    )


def _read(wanted: dict[str, Part], skip_corrupt: bool) -> dict[str, Images]:
    """Read every table once, for all splits that come from it."""
    read: dict[str, Images] = {}
    for table in {id(part.table): part.table for part in wanted.values()}.values():
        mine = {split: part.rows for split, part in wanted.items() if part.table is table}
        rows = np.concatenate(list(mine.values()))
        images, skipped = table.read_good(rows) if skip_corrupt else (table.read(rows), [])
        kept = np.delete(np.arange(len(rows)), skipped)
        bounds = np.searchsorted(kept, np.cumsum([len(part) for part in mine.values()])[:-1])
        for split, part, chosen in zip(mine, np.split(images, bounds), np.split(rows[kept], bounds), strict=True):
            read[split] = Images(part, table.labels[chosen], chosen)
    return read


def _check_complete(parts: dict[str, Images], class_names: tuple[str, ...], name: str) -> None:
    """Refuse a set that lacks something after images were left out."""
    for split, part in parts.items():
        if not len(part.rows):
            raise InputError(f"{name}: no readable image in its {split} split; copy or download the data again")
    absent = sorted(set(range(len(class_names))) - set(parts["train"].labels.tolist()))
    if absent:
        raise InputError(f"{name}: no readable training image of class {class_names[absent[0]]!r}; add some")


def equal_shapes(images: Mapping[str, NDArray[np.uint8]], name: str) -> dict[str, NDArray[np.uint8]]:
    """Make all splits RGB when one is, and refuse images that are not equal squares.

    Args:
        images: For each split an array (n, height, width, 1 or 3).
        name: Name of the data, for messages.

    Raises:
        InputError: The images are not squares of one size.
    """
    sizes = {part.shape[1:3] for part in images.values()}
    if len(sizes) > 1 or len(set(max(sizes))) > 1:
        listed = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise InputError(f"{name}: images of {listed} pixels; give --image-size to make them equal squares")
    channels = max(part.shape[3] for part in images.values())
    return {
        split: part if part.shape[3] == channels else np.repeat(part, channels, axis=3)
        for split, part in images.items()
    }


def channel_statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, from counts of the 256 values: exact, and without a copy."""
    return moments([np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[3])])


def moments(counts: list[NDArray[np.int64]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation of each channel from the counts of its 256 values.

    Args:
        counts: For each channel how many pixels have each value, of shape (256,).

    Returns:
        The means, and the standard deviations with 1 in place of 0, so that a constant channel stays zero.
    """
    values = np.arange(256)
    means = [float(np.average(values, weights=count)) for count in counts]
    spreads = [
        float(np.sqrt(np.average((values - mean) ** 2, weights=count)))
        for mean, count in zip(means, counts, strict=True)
    ]
    return tuple(means), tuple(spread or 1.0 for spread in spreads)
