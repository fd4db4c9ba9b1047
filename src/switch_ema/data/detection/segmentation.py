"""Masks as COCO files store them: polygons, and run-length codes, compressed or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from switch_ema.data.detection.library import coco_library
from switch_ema.data.detection.records import DefectError, check_inside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Outline = tuple[NDArray[np.float64], ...] | NDArray[np.int64]


@dataclass(frozen=True)
class Outlines:
    """Masks as `parse` returns them.

    Attributes:
        parts: For each object its polygons, each x1, y1, x2, y2, ... in pixels; or the lengths of its runs.
    """

    parts: tuple[Outline, ...]

    def bitmaps(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return 1 where an object is and 0 elsewhere, of shape (n, height, width)."""
        if not self.parts:
            return np.zeros((0, height, width), np.uint8)
        library = coco_library().mask
        codes = []
        for part in self.parts:
            if isinstance(part, tuple):
                codes.append(library.merge(library.frPyObjects([p.tolist() for p in part], height, width)))
            else:
                runs = {"size": [height, width], "counts": part.tolist()}
                codes.append(library.frPyObjects(runs, height, width))
        return np.ascontiguousarray(library.decode(codes).transpose(2, 0, 1))


def parse(segmentation: Any, height: int, width: int) -> Outline:
    """Check the ``segmentation`` of a COCO annotation.

    Args:
        segmentation: A list of polygons, or a dictionary with ``size`` and ``counts``: lengths of runs of zeros and
            ones in turn, down the columns, as a list or as COCO's text code.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        The polygons, or the lengths of the runs.

    Raises:
        DefectError: It is not valid.
    """
    if isinstance(segmentation, dict):
        return _runs(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise DefectError("no segmentation, where others have one")
    return tuple(_polygon(polygon, height, width) for polygon in segmentation)


def _polygon(polygon: Any, height: int, width: int) -> NDArray[np.float64]:
    if not isinstance(polygon, list) or not {*map(type, polygon)} <= {int, float}:
        raise DefectError("a polygon is no list of numbers x1, y1, x2, y2, ...")
    if len(polygon) % 2:
        raise DefectError(f"a polygon has {len(polygon)} numbers, not two for each point")
    if len(polygon) < 6:
        raise DefectError(f"a polygon has {len(polygon) // 2} points, fewer than 3")
    try:
        points = np.array(polygon, np.float64)
    except OverflowError:
        points = np.array([np.inf])
    if not np.isfinite(points).all():
        raise DefectError("a polygon has a number that is not finite")
    low, high = points.reshape(-1, 2).min(0).tolist(), points.reshape(-1, 2).max(0).tolist()
    check_inside("a polygon", (*low, *high), height, width)
    return points


def _runs(code: dict[str, Any], height: int, width: int) -> NDArray[np.int64]:
    if code.get("size") != [height, width]:
        raise DefectError(
            f"an RLE of size {code.get('size')}, which is not the image's [height, width] = [{height}, {width}]"
        )
    counts = code.get("counts")
    if isinstance(counts, str):
        counts = _decoded(counts)
    if not isinstance(counts, list) or {*map(type, counts)} != {int} or min(counts) < 0:
        raise DefectError("an RLE whose counts are neither whole numbers from 0 nor COCO's text code")
    if sum(counts) != height * width:
        raise DefectError(f"an RLE whose counts add up to {sum(counts)}, not to height x width = {height * width}")
    return np.array(counts, np.int64)


def _decoded(text: str) -> list[int]:
    """Return the counts behind COCO's text code.

    It has groups of 5 bits, the lowest first; from the 4th on, a count is stored less the one before the last. Decoded
    here because not every version of the libraries notices what is wrong, and some then read beyond the text.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            raise DefectError("an RLE that is not in COCO's text code")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise DefectError("an RLE that breaks off in COCO's text code")
    return counts
