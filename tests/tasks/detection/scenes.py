"""Scenes made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from switch_ema.data.detection.canvas import Bitmaps
from switch_ema.data.detection.scenes import Objects, Scenes

SIDE = 200
"""Height and width of a scene in pixels."""

Masks = NDArray[np.uint8]


def rectangles(boxes: NDArray[np.float32]) -> Masks:
    """Fill boxes."""
    masks = np.zeros((len(boxes), SIDE, SIDE), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().astype(int), strict=True):
        mask[top:bottom, left:right] = 1
    return masks


def objects(*rows: Sequence[float], crowd: Sequence[int] = (), masks: Masks | None = None) -> Objects:
    """Make objects of rows x1, y1, x2, y2, label; `crowd` numbers those that are crowds. Their masks fill the boxes."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    boxes = table[:, :4]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) if masks is None else masks.sum((1, 2)).astype(np.float32)
    crowds = np.isin(np.arange(len(table)), list(crowd))
    return Objects(
        boxes, table[:, 4].astype(np.int64), crowds, areas, Bitmaps(rectangles(boxes) if masks is None else masks)
    )


def scenes(*each: Objects) -> Scenes:
    """Make scenes of noise."""
    pictures = np.random.default_rng(0).integers(0, 256, (len(each), SIDE, SIDE, 3), np.uint8)
    sizes = np.full((len(each), 2), SIDE, np.int64)
    return Scenes(tuple(range(len(each))), sizes, each, pictures)
