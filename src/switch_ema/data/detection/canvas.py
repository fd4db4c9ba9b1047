"""Handwritten digits on a canvas, with boxes and masks: the digits that come with scikit-learn, no download.

A scene has 64x64 grey pixels with noise, and one to four digits, each a scan of 8x8 enlarged 1.5 to 3 times. A mask is
the ink, where the enlarged scan has a third of the full grey value or more; a box fits tightly round the ink. Ink never
lies on ink.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from switch_ema.data import digits
from switch_ema.data.detection.scenes import DetectionSet, Objects, Scenes
from switch_ema.data.numberparts import hold_out
from switch_ema.data.splits import SPLIT_SEED, divide

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 64
"""Height and width of a scene in pixels."""

COUNTS = {"train": 400, "val": 30, "test": 60}
"""Number of scenes of each split."""

_MOST = 4
_SCALES = (1.5, 3.0)
_WHITE = 16  # largest grey value of scikit-learn's digits
_INK = 85
_TRIES = 20
_OVERLAP = 0.15  # largest share of a box that one other box may cover


@dataclass(frozen=True)
class Bitmaps:
    """Masks as they are.

    Attributes:
        stored: uint8 of shape (n, height, width).
    """

    stored: NDArray[np.uint8]

    def bitmaps(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return 1 where an object is and 0 elsewhere, of shape (n, height, width), which must be their size."""
        if self.stored.shape[1:] != (height, width):
            raise ValueError(f"masks of {self.stored.shape[1:]} pixels asked for as {(height, width)}")
        return self.stored


def make(train_size: int | None = None) -> DetectionSet:
    """Make the scenes; they are the same in every run.

    The digits are divided as the classification task divides them, so that no scan is in two splits.

    Args:
        train_size: Number of training scenes, a fixed subset; None takes all of `COUNTS`.

    Returns:
        The three splits, with masks; the ten classes are named 0 to 9.

    Raises:
        InputError: `train_size` is out of range.

    Example:
        >>> scenes = make(train_size=5).train
        >>> len(scenes), scenes.image(0).shape
        (5, (64, 64, 3))
    """
    table = digits.tables("", None)["train"]
    made = {}
    for number, (split, rows) in enumerate(sorted(divide(table.labels, ["test", "val"]).items())):
        scans = np.rint(table.read(rows)[..., 0] * (255 / _WHITE)).astype(np.uint8)
        kept = hold_out(COUNTS[split], [], train_size if split == "train" else None, "digits-canvas")["train"]
        made[split] = _scenes(scans, table.labels[rows], np.random.default_rng([SPLIT_SEED, 2, number]), kept, split)
    names = tuple(str(label) for label in range(10))
    return DetectionSet(made["train"], made["val"], made["test"], names, has_masks=True, skipped=0)


def _scenes(
    scans: NDArray[np.uint8],
    labels: NDArray[np.int64],
    generator: np.random.Generator,
    kept: NDArray[np.int64],
    split: str,
) -> Scenes:
    drawn = [_scene(scans, labels, generator) for _ in range(COUNTS[split])]
    images = np.stack([drawn[row][0] for row in kept])
    return Scenes(
        tuple(int(row) for row in kept),
        np.full((len(kept), 2), SIDE, np.int64),
        [drawn[row][1] for row in kept],
        np.repeat(images[..., None], 3, axis=3),
    )


def _scene(
    scans: NDArray[np.uint8], labels: NDArray[np.int64], generator: np.random.Generator
) -> tuple[NDArray[np.uint8], Objects]:
    canvas = generator.normal(24, 8, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    boxes: list[tuple[int, int, int, int]] = []
    masks: list[NDArray[np.uint8]] = []
    taken = np.zeros((SIDE, SIDE), np.bool_)
    found: list[int] = []
    for row in generator.choice(len(scans), generator.integers(1, _MOST + 1), replace=False):
        digit = _enlarged(scans[row], generator.uniform(*_SCALES))
        height, width = digit.shape
        ink = digit >= _INK
        for _ in range(_TRIES):
            y, x = (int(generator.integers(0, SIDE - size + 1)) for size in digit.shape)
            box = (x, y, x + width, y + height)
            place = np.s_[y : y + height, x : x + width]
            if all(_covered(box, other) <= _OVERLAP for other in boxes) and not (taken[place] & ink).any():
                canvas[place] = np.maximum(canvas[place], digit)
                taken[place] |= ink
                mask = np.zeros((SIDE, SIDE), np.uint8)
                mask[place] = ink
                boxes.append(box)
                masks.append(mask)
                found.append(int(labels[row]))
                break
    stored = np.stack(masks)
    areas = stored.sum((1, 2)).astype(np.float32)
    crowd = np.zeros(len(found), np.bool_)
    return canvas, Objects(np.array(boxes, np.float32), np.array(found, np.int64), crowd, areas, Bitmaps(stored))


def _enlarged(scan: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Enlarge a scan and cut off what is beyond its ink."""
    size = round(scale * len(scan))
    digit = np.asarray(Image.fromarray(scan).resize((size, size), Image.Resampling.BILINEAR), np.uint8)
    rows, columns = (np.flatnonzero((digit >= _INK).any(axis)) for axis in (1, 0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _covered(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Return which share of the smaller box the other one covers."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return max(width, 0) * max(height, 0) / smaller
