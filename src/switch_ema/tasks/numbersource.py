"""Data with numeric targets for tasks: kept in memory if they fit, else read from disk as they are needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from switch_ema.data.numberset import load_numbers
from switch_ema.data.numberstreams import decoded_number_bytes, index_numbers
from switch_ema.errors import InputError
from switch_ema.tasks import imagesource
from switch_ema.tasks.images import ImageBatches
from switch_ema.tasks.policies import augmentation
from switch_ema.tasks.streamed import StreamBatches
from switch_ema.tasks.tables import TableBatches

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from switch_ema.data.numbers import NumberSource
    from switch_ema.tasks.images import Augment
    from switch_ema.tasks.regression_options import Chosen

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class NumberBatches:
    """A data set with a numeric target, wherever its inputs are.

    Attributes:
        batches: Makes batches of the inputs, with training images augmented.
        targets: What to predict, for each split, float64 of shape (n,), in the target's unit.
        channels: Channels of the images, or number of features.
        size: Side of the images in pixels; 0 for vectors.
        skipped: Number of corrupt images left out; those of images on disk are not known.
    """

    batches: ImageBatches | StreamBatches | TableBatches
    targets: dict[str, NDArray[np.float64]]
    channels: int
    size: int
    skipped: int = 0


def read_numbers(source: NumberSource, chosen: Chosen) -> NumberBatches:
    """Read a data set, or the list of its images.

    Args:
        source: What `switch_ema.tasks.regression_options.check` returned.
        chosen: The task's options.

    Raises:
        InputError: The data are wrong, or images that stay on disk have no size to be scaled to.
    """
    if _on_disk(source, chosen):
        return _streamed(source, chosen)
    found = load_numbers(
        source, train_size=chosen.train_size, image_size=chosen.image_size, full_circle=chosen.angular,
        skip_corrupt=chosen.skip_corrupt,
    )  # fmt: skip
    parts = {split: getattr(found, split) for split in _SPLITS}
    inputs = {split: torch.from_numpy(part.inputs) for split, part in parts.items()}
    targets = {split: part.targets for split, part in parts.items()}
    mean, std = found.input_mean, found.input_std
    if source.is_table:
        return NumberBatches(TableBatches(inputs, mean, std), targets, len(mean), 0)
    size = inputs["train"].shape[1]
    batches = ImageBatches(inputs, mean, std, _augment(chosen, size, mean, std))
    return NumberBatches(batches, targets, len(mean), size, found.skipped)


def _on_disk(source: NumberSource, chosen: Chosen) -> bool:
    if source.format != "csv-images" or chosen.stream == "false":
        return False
    sizes = {"train_size": chosen.train_size, "image_size": chosen.image_size}
    return chosen.stream == "true" or decoded_number_bytes(source, **sizes) > imagesource.IN_MEMORY


def _streamed(source: NumberSource, chosen: Chosen) -> NumberBatches:
    if chosen.image_size is None:
        raise InputError(f"{source.name} is read from disk while training; write --image-size, such as 224")
    found = index_numbers(
        source, train_size=chosen.train_size, image_size=chosen.image_size, skip_corrupt=chosen.skip_corrupt
    )
    augment = _augment(chosen, chosen.image_size, found.mean, found.std)
    batches = StreamBatches(
        found.streams, chosen.image_size, found.mean, found.std, augment,
        workers=min(chosen.workers, os.cpu_count() or 1), skip_corrupt=chosen.skip_corrupt,
    )  # fmt: skip
    return NumberBatches(batches, found.targets, len(found.mean), chosen.image_size)


def _augment(chosen: Chosen, size: int, mean: Sequence[float], std: Sequence[float]) -> Augment:
    return augmentation(chosen, size, mean, std, auto="crop", padding=1 / 16)
