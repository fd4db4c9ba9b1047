"""Rotated handwritten digits: the digits that come with scikit-learn, each turned by one fixed angle.

The angle is uniform in [-60, 60) degrees: within that range digits tell how they are turned. On the full circle a 6
turned by 180 degrees is a 9, and 0, 1 and 8 look the same upside down, so that no model can be right; that range, an
option, is for losses that wrap around.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from switch_ema.data import digits
from switch_ema.data.numbertable import NumberTable
from switch_ema.data.splits import SPLIT_SEED

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SIZE = 16
"""Side in pixels, unless told."""

_LIMIT = 60.0
_INNER = 0.75  # share of the side that the upright digit takes: only its outermost corners can turn out of sight
_WHITE = 16  # largest grey value of scikit-learn's digits


def tables(image_size: int | None, full_circle: bool) -> dict[str, NumberTable]:
    """Turn the digits; the same digit is turned by the same angle in every run.

    Args:
        image_size: Side of the images in pixels; None is 16.
        full_circle: Draw the angles from [0, 360) instead of [-60, 60).

    Returns:
        One table, under ``train``; its targets are degrees, counter-clockwise.
    """
    table = digits.tables("", None)["train"]
    shares = np.random.default_rng([SPLIT_SEED, 1]).random(len(table.labels))
    degrees = 360 * shares if full_circle else _LIMIT * (2 * shares - 1)
    size = image_size or IMAGE_SIZE

    def read(rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        grey = np.rint(table.read(rows)[..., 0] * (255 / _WHITE)).astype(np.uint8)
        turned = [_turn(image, angle, size) for image, angle in zip(grey, degrees[rows].tolist(), strict=True)]
        return np.stack(turned)[..., None], np.ones(len(rows), np.bool_)

    return {"train": NumberTable(degrees, read)}


def _turn(image: NDArray[np.uint8], angle: float, size: int) -> NDArray[np.uint8]:
    border = round((1 - _INNER) / 2 * size)  # the same on all sides: a digit off the centre would tell its angle
    inner = size - 2 * border
    canvas = Image.new("L", (size, size))
    canvas.paste(Image.fromarray(image).resize((inner, inner), Image.Resampling.BICUBIC), (border, border))
    return np.asarray(canvas.rotate(angle, Image.Resampling.BILINEAR), np.uint8)
