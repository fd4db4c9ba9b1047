"""Image data sets for tasks: kept in memory if they fit, else read from disk as they are needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from switch_ema.data.images import Images, load
from switch_ema.data.streams import Stream, decoded_bytes, index
from switch_ema.errors import InputError
from switch_ema.tasks.images import Augment, ImageBatches
from switch_ema.tasks.streamed import StreamBatches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from switch_ema.data.catalog import Source

IN_MEMORY = 8 * 2**30
"""Bytes of decoded images up to which a data set is kept in memory."""


@dataclass(frozen=True)
class ImageSource:
    """A labelled image data set, wherever its images are.

    Attributes:
        train: Training images; has `labels`, and `rows` of the training file.
        val: Validation images.
        test: Test images.
        class_names: Name of each class.
        mean: Mean of each channel, on the scale 0 to 255.
        std: Standard deviation of each channel.
        white: The highest value of a pixel: that of the training images, or 255 where these stay on disk.
        source_labels: Labels of all rows of the training file.
        size: Side of the images in pixels.
        batches: Makes batches of them, with training images augmented.
    """

    train: Images | Stream
    val: Images | Stream
    test: Images | Stream
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float
    source_labels: NDArray[np.int64]
    size: int
    batches: Callable[[Augment], ImageBatches | StreamBatches]


def read_images(
    source: Source,
    *,
    train_size: int | None,
    image_size: int | None,
    skip_corrupt: bool,
    stream: str,
    workers: int,
    val_share: float | None = None,
) -> ImageSource:
    """Read a data set, or the list of its images.

    Args:
        source: What `switch_ema.data.catalog.locate` found.
        train_size: Number of training images; None takes all.
        image_size: Side in pixels to scale and crop the images to; None keeps them.
        skip_corrupt: Leave out images that cannot be read.
        stream: ``true`` leaves the images on disk, ``false`` reads all at once, ``auto`` decides by `IN_MEMORY`.
        workers: Processes that read images from disk.
        val_share: Share of the training images to hold out for validation; None takes 10 %, at most 5,000.

    Raises:
        InputError: The data are wrong, or images that stay on disk have no size to be scaled to.
    """
    sizes = {"train_size": train_size, "image_size": image_size}
    large = stream == "true"
    if stream == "auto" and source.format != "digits":
        large = decoded_bytes(source, **sizes, val_share=val_share) > IN_MEMORY
    if not large:
        found = load(source, **sizes, val_share=val_share, skip_corrupt=skip_corrupt)
        parts = {"train": found.train, "val": found.val, "test": found.test}
        storage = {split: torch.from_numpy(part.images) for split, part in parts.items()}
        return ImageSource(
            **parts,
            class_names=found.class_names,
            mean=found.mean,
            std=found.std,
            white=float(found.train.images.max()),
            source_labels=found.source_labels,
            size=found.train.images.shape[1],
            batches=lambda augment: ImageBatches(storage, found.mean, found.std, augment),
        )
    if image_size is None:
        raise InputError(f"{source.name} is read from disk while training; write --image-size, such as 224")
    listed = index(source, **sizes, val_share=val_share, skip_corrupt=skip_corrupt)
    streams = {"train": listed.train, "val": listed.val, "test": listed.test}
    return ImageSource(
        **streams,
        class_names=listed.class_names,
        mean=listed.mean,
        std=listed.std,
        white=255.0,
        source_labels=listed.source_labels,
        size=image_size,
        batches=lambda augment: StreamBatches(
            streams, image_size, listed.mean, listed.std, augment,
            workers=min(workers, os.cpu_count() or 1), skip_corrupt=skip_corrupt,
        ),
    )  # fmt: skip
