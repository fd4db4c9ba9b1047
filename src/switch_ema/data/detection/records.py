"""What the readers of annotation files share: checks, what they found to be wrong, and what they return."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from switch_ema.data.detection.scenes import Masks, Objects
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from switch_ema.data.detection.segmentation import Outline

REMEDY = "or write --skip-invalid true to leave such objects and images out and count them"

_ROUNDING = 1.001  # pixels that a box may stick out, and be clipped
_log = logging.getLogger(__name__)


class DefectError(Exception):
    """An object or an image is not valid; the message says why."""


class Found(NamedTuple):
    """A valid object: its box x1, y1, x2, y2 in pixels, its class, and the rest of `Objects`."""

    box: tuple[float, float, float, float]
    label: int
    crowd: bool
    area: float
    outline: Outline | None = None


@dataclass(frozen=True)
class Picture:
    """An image of an annotation file.

    Attributes:
        id: Its name or number in the file.
        path: The image file; None where it is missing.
        height: In pixels.
        width: In pixels.
        objects: The objects on it.
    """

    id: int | str
    path: str | None
    height: int
    width: int
    objects: Objects


@dataclass(frozen=True)
class Records:
    """All that the annotation files of a data set say.

    Attributes:
        splits: The images of ``train``, and of ``val`` and ``test`` where the data have them.
        class_names: Name of each class.
        has_masks: Whether the objects have masks.
    """

    splits: Mapping[str, Sequence[Picture]]
    class_names: tuple[str, ...]
    has_masks: bool


class Findings:
    """Counts what is not valid, and keeps the first message."""

    def __init__(self) -> None:
        self.objects = 0
        self.images = 0
        self._first = ""

    def object(self, message: str) -> None:
        """Note an object."""
        self.objects += 1
        self._first = self._first or message

    def image(self, message: str) -> None:
        """Note an image."""
        self.images += 1
        self._first = self._first or message

    def refuse(self) -> None:
        """Raise an error for the first that was noted, if any was.

        Raises:
            InputError: Something was noted.
        """
        if self._first:
            total = self.objects + self.images
            more = f"; {self._counts()} are not valid" if total > 1 else ""
            raise InputError(f"{self._first}{more}; correct {'them' if more else 'it'}, {REMEDY}")

    def warn(self, name: str) -> None:
        """Say in the log what is left out of the data set of this name, if anything is."""
        if self._first:
            _log.warning("%s: left out %s as not valid; the first: %s", name, self._counts(), self._first)

    def _counts(self) -> str:
        parts = (("object", self.objects), ("image", self.images))
        return " and ".join(f"{count} {what}{'s' * (count > 1)}" for what, count in parts if count)


def number(value: Any, what: str) -> float:
    """Return a finite number of a JSON file.

    Raises:
        DefectError: It is none.
    """
    if type(value) not in (int, float):
        raise DefectError(f"{what} {value!r} is not a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise DefectError(f"{what} {value!r} is not a finite number")
    return found


def side(value: Any, what: str) -> int:
    """Return the height or width of an image.

    Raises:
        DefectError: It is not a whole number from 1.
    """
    found = number(value, what)
    if found < 1 or found != int(found):
        raise DefectError(f"{what} {value!r} is not a whole number of pixels from 1")
    return int(found)


def clip(box: tuple[float, float, float, float], height: int, width: int) -> tuple[float, float, float, float]:
    """Check a box, and cut off what sticks out of the image by rounding.

    Args:
        box: x1, y1, x2, y2 in pixels.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        The box within the image.

    Raises:
        DefectError: It has no area, or sticks out by more than a pixel.

    Example:
        >>> clip((-0.5, 2.0, 10.0, 8.5), 8, 10)
        (0.0, 2.0, 10.0, 8.0)
    """
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        raise DefectError(f"a box of {x2 - x1:g}x{y2 - y1:g} pixels, without area")
    check_inside("a box", box, height, width)
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if np.float32(x2) <= np.float32(x1) or np.float32(y2) <= np.float32(y1):
        raise DefectError("a box without area inside the image")
    return x1, y1, x2, y2


def check_inside(what: str, box: Sequence[float], height: int, width: int) -> None:
    """Refuse what sticks out of the image by more than a pixel.

    Raises:
        DefectError: It does.
    """
    x1, y1, x2, y2 = box
    if min(x1, y1) < -_ROUNDING or x2 > width + _ROUNDING or y2 > height + _ROUNDING:
        raise DefectError(
            f"{what} from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}) sticks out of the image of {width}x{height} pixels"
        )


def as_objects(found: Sequence[Found], masks: Masks | None) -> Objects:
    """Gather the objects on one image."""
    return Objects(
        np.array([item.box for item in found], np.float32).reshape(-1, 4),
        np.array([item.label for item in found], np.int64),
        np.array([item.crowd for item in found], np.bool_),
        np.array([item.area for item in found], np.float32),
        masks,
    )
