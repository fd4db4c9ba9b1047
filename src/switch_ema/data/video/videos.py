"""Videos in three splits: sequences that are cut from stored frames, or recipes for generated ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data import digits, idx
from switch_ema.data.decode import resize
from switch_ema.data.splits import divide
from switch_ema.data.video import npyfile
from switch_ema.data.video.catalog import Source, canvas
from switch_ema.data.video.moving import Generated
from switch_ema.data.video.recorded import Recorded, read_clips, read_npy, read_published
from switch_ema.data.video.windows import Frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

COUNTS = {"moving-digits": (256, 80), "moving-mnist": (10_000, 10_000)}
"""Generated training and test sequences, unless told."""

_DIGIT = {"moving-digits": 12 / 32, "moving-mnist": 28 / 64}  # side of a digit as a share of the canvas
_MOST_VAL = 1000
_WHITE = 16  # largest grey value of scikit-learn's digits

Sequences = Recorded | Generated
"""The sequences of a split."""


@dataclass(frozen=True)
class Videos:
    """Three splits of sequences of one length and size.

    Attributes:
        train: Training sequences.
        val: Validation sequences, of other clips or digits.
        test: Test sequences, of other clips or digits.
    """

    train: Sequences
    val: Sequences
    test: Sequences


@lru_cache(maxsize=2)
def load(
    source: Source,
    length: int,
    *,
    frames: Frames = None,
    train_size: int | None = None,
    test_size: int | None = None,
    image_size: int | None = None,
) -> Videos:
    """Read a data set and divide it; several seeds in one process read it once. The arrays are shared: do not write.

    Of generated sequences, training and validation use different digits of MNIST's training file, the test split
    those of its test file; scikit-learn's digits are divided in three. There are as many validation as test
    sequences, but at most 1,000. Stored clips are cut into sequences that do not overlap (see
    `switch_ema.data.video.windows.cut`); a split that is not there is held out of the training clips, 20 % for the
    test and 10 % of the rest for validation.

    Args:
        source: What `switch_ema.data.video.catalog.locate` found.
        length: Frames in a sequence, those to predict from and those to predict.
        frames: How many frames to take of each stored clip (see `switch_ema.data.video.windows.Frames`).
        train_size: Number of training sequences; None takes all, or as many as `COUNTS` says.
        test_size: Number of test sequences; None takes all, or as many as `COUNTS` says.
        image_size: Side of the frames in pixels; stored ones are scaled and cropped, generated digits grow and shrink
            with it. None keeps the former, and takes 32 for moving-digits and 64 for moving-mnist.

    Returns:
        The three splits, the same whatever the run's seed.

    Raises:
        InputError: Something in the files is wrong, or there are fewer sequences than asked for.

    Example:
        >>> from switch_ema.data.video.catalog import locate
        >>> videos = load(locate("moving-digits"), 10)
        >>> len(videos.train), len(videos.test), videos.test.shape
        (256, 80, (1, 32, 32))
    """
    usual = canvas(source)
    if usual is not None:
        return _generated(source, length, train_size, test_size, image_size or usual)
    read = read_clips if source.format == "clips" else read_npy
    splits = read(source.path, length, frames, image_size)
    return Videos(
        splits["train"].some(train_size, "train_size"), splits["val"], splits["test"].some(test_size, "test_size")
    )


def _generated(source: Source, length: int, train_size: int | None, test_size: int | None, size: int) -> Videos:
    train, test = (given or usual for given, usual in zip((train_size, test_size), COUNTS[source.format], strict=True))
    cast = _cast(source, max(1, round(_DIGIT[source.format] * size)))
    counts = {"train": train, "val": min(test, _MOST_VAL), "test": test}
    made = {split: Generated(cast[split], split, count, length, size) for split, count in counts.items()}
    if not source.test_file:
        return Videos(**made)
    published = read_published(source.test_file, length, None if size == npyfile.PUBLISHED_SIZE else size)
    return Videos(made["train"], made["val"], published.some(test_size, "test_size"))


def _cast(source: Source, side: int) -> dict[str, NDArray[np.uint8]]:
    """Return the digits of each split, scaled to a side."""
    if source.format == "moving-digits":
        table = digits.tables("", None)["train"]
        parts = divide(table.labels, ("test", "val"), where="digits")
        images = {split: np.rint(table.read(rows) * (255 / _WHITE)).astype(np.uint8) for split, rows in parts.items()}
    else:
        tables = idx.tables(source.path, None)
        parts = divide(tables["train"].labels, ("val",), where=source.path)
        images = {split: tables["train"].read(rows) for split, rows in parts.items()}
        images["test"] = tables["test"].read(np.arange(len(tables["test"].labels)))
    return {split: resize(found, side)[..., 0] for split, found in images.items()}
