"""Images with a number each that stay on disk, for data sets that do not fit into memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from switch_ema.data.images import moments
from switch_ema.data.numberparts import find_number_parts
from switch_ema.data.parts import Part
from switch_ema.data.streams import Stream, channel_counts, estimated_bytes
from switch_ema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from switch_ema.data.numberparts import NumberPart
    from switch_ema.data.numbers import NumberSource


@dataclass(frozen=True)
class NumberStreams:
    """Three splits of images on disk, the same rows as `switch_ema.data.numberset.load_numbers` would read.

    Attributes:
        streams: The images of ``train``, ``val`` and ``test``.
        targets: What to predict from each image of a split, float64 of shape (n,), in the target's unit.
        mean: Mean of each channel over a sample of training images, on the scale 0 to 255.
        std: Standard deviation of each channel over the same sample.
    """

    streams: dict[str, Stream]
    targets: dict[str, NDArray[np.float64]]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@lru_cache(maxsize=2)
def index_numbers(
    source: NumberSource, *, train_size: int | None = None, image_size: int | None = None, skip_corrupt: bool = False
) -> NumberStreams:
    """Read the targets of a .csv file with images and divide its rows, but leave the images where they are.

    Mean and standard deviation come from a fixed sample of at most 2,000 training images. The images are grey if all
    of the sample are, else RGB.

    Args:
        source: What `switch_ema.data.numbers.locate_numbers` found, with its target.
        train_size: Number of training images; None takes all.
        image_size: Side that the images will be scaled and cropped to; only for the statistics.
        skip_corrupt: Leave damaged images out of the sample, and say so in one warning of the log; False refuses them.

    Returns:
        The three splits.

    Raises:
        InputError: Something in the files is wrong, as far as it shows without decoding all images, or the data are
            no image files.
    """
    found = find_number_parts(source, train_size=train_size, image_size=image_size)
    parts = _file_parts(found, source.name)
    counts = channel_counts(parts["train"], image_size, skip_corrupt, source.name)
    mean, std = moments(counts)
    mode = "L" if len(counts) == 1 else "RGB"
    streams = {split: Stream(part.table, part.rows, mode) for split, part in parts.items()}
    return NumberStreams(streams, {split: part.targets for split, part in found.items()}, mean, std)


@lru_cache(maxsize=2)
def decoded_number_bytes(source: NumberSource, *, train_size: int | None = None, image_size: int | None = None) -> int:
    """Estimate what the images of a .csv file need in memory (see `switch_ema.data.streams.decoded_bytes`).

    Raises:
        InputError: Something in the files is wrong, or the data are no image files.
    """
    found = find_number_parts(source, train_size=train_size, image_size=image_size)
    return estimated_bytes(_file_parts(found, source.name).values(), image_size)


def _file_parts(found: dict[str, NumberPart], name: str) -> dict[str, Part]:
    parts = {}
    for split, part in found.items():
        if part.table.files is None:
            raise InputError(f"{name} is no list of image files, which alone can stay on disk; leave out --stream")
        parts[split] = Part(part.table.files, part.rows)
    return parts
