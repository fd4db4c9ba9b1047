"""A labelled image data set in memory, divided into training, validation and test images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data import digits, folder, idx, parquet
from switch_ema.data.splits import divide
from switch_ema.data.table import Table
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from switch_ema.data.catalog import Source

_READERS = {"digits": digits.tables, "parquet": parquet.tables, "idx": idx.tables, "folder": folder.tables}


@dataclass(frozen=True)
class Images:
    """Images, uint8 of shape (n, height, width, channels), and their labels, int64 of shape (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


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
    """

    train: Images
    val: Images
    test: Images
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@lru_cache(maxsize=2)
def load(source: Source, *, train_size: int | None = None, image_size: int | None = None) -> ImageSet:
    """Read a data set and divide it; several seeds in one process read it once.

    A split that the data lack is held out of the training images (see `switch_ema.data.splits.divide`). Only the
    images of the splits are decoded, so a small `train_size` is read quickly. The arrays are shared: do not write.

    Args:
        source: What `switch_ema.data.catalog.locate` found.
        train_size: Number of training images; None takes all.
        image_size: Scale the shorter side to this and crop the centre; None keeps the images, if all are equal squares.

    Returns:
        The three splits.

    Raises:
        InputError: Something in the files is wrong.
    """
    tables = _READERS[source.format](source.path, image_size)
    train = tables.pop("train")
    names = _check_labels(train, tables)
    missing = [split for split in ("test", "val") if split not in tables]
    rows = divide(train.labels, missing, train_size=train_size, where=source.name)
    bounds = np.cumsum([len(part) for part in rows.values()])[:-1]
    images = np.split(train.read(np.concatenate(list(rows.values()))), bounds)
    parts = {split: Images(part, train.labels[rows[split]]) for split, part in zip(rows, images, strict=True)}
    for split, table in tables.items():
        parts[split] = Images(table.read(np.arange(len(table.labels))), table.labels)
    parts = _equal_shapes(parts, source.name)
    mean, std = _statistics(parts["train"].images)
    return ImageSet(parts["train"], parts["val"], parts["test"], names, mean, std)


def _check_labels(train: Table, others: dict[str, Table]) -> tuple[str, ...]:
    """Check that the labels are 0, 1, ... without gaps, and return the names of the classes."""
    present = np.unique(train.labels)
    names = train.class_names or tuple(str(k) for k in range(len(present)))
    tables = (train, *others.values())
    for table in tables:
        if not len(table.labels):
            raise InputError(f"{table.where}: no images in it; is it the right file?")
    if len(names) < 2:
        raise InputError(f"{train.where}: all images are of one class; classification needs at least two")
    for table in tables:
        for label in (int(table.labels.min()), int(table.labels.max())):
            if not 0 <= label < len(names):
                raise InputError(
                    f"{table.where}: label {label} out of range; {train.where} has {len(names)} classes: "
                    f"number the labels 0 to {len(names) - 1} without gaps"
                )
    if len(present) < len(names):
        absent = sorted(set(range(len(names))) - set(present.tolist()))[0]
        raise InputError(f"{train.where}: no image of class {names[absent]!r} (label {absent}); add some")
    return names


def _equal_shapes(parts: dict[str, Images], name: str) -> dict[str, Images]:
    """Make all splits RGB when one is, and refuse images that are not equal squares."""
    sizes = {part.images.shape[1:3] for part in parts.values()}
    if len(sizes) > 1 or len(set(max(sizes))) > 1:
        listed = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise InputError(f"{name}: images of {listed} pixels; give --image-size to make them equal squares")
    channels = max(part.images.shape[3] for part in parts.values())
    return {split: _with_channels(part, channels) for split, part in parts.items()}


def _with_channels(part: Images, channels: int) -> Images:
    if part.images.shape[3] == channels:
        return part
    return Images(np.repeat(part.images, channels, axis=3), part.labels)


def _statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, from counts of the 256 values: exact, and without a copy."""
    values = np.arange(256)
    counts = [np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[3])]
    means = [float(np.average(values, weights=count)) for count in counts]
    spreads = [
        float(np.sqrt(np.average((values - mean) ** 2, weights=count)))
        for mean, count in zip(means, counts, strict=True)
    ]
    return tuple(means), tuple(spread or 1.0 for spread in spreads)  # a constant channel stays zero
