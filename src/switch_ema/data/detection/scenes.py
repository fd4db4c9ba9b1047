"""Images with the objects on them, divided into training, validation and test scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Masks(Protocol):
    """The masks of the objects on one image, in whatever form they are stored."""

    def bitmaps(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return 1 where an object is and 0 elsewhere, of shape (n, height, width)."""


class Pictures(Protocol):
    """The images of one split, uint8 of shape (height, width, 3), by their number from 0."""

    def __getitem__(self, number: int, /) -> NDArray[np.uint8]:
        """Return one of them."""


@dataclass(frozen=True)
class Objects:
    """The objects on one image.

    Attributes:
        boxes: float32 of shape (n, 4): x1, y1, x2, y2 in pixels, ``0 <= x1 < x2 <= width``, and y alike.
        labels: int64 of shape (n,): classes, from 0.
        crowd: bool of shape (n,): whether it is not one object to be found but a region to be ignored: a crowd in COCO,
            a ``difficult`` object in Pascal VOC. Detections there are neither right nor wrong.
        areas: float32 of shape (n,), in pixels: what the file says (COCO: the area of the mask), or else that of the
            box. Small, medium and large objects are told apart by it.
        masks: Their masks; None where there are none or none were asked for.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float32]
    masks: Masks | None = None

    def bitmaps(self, height: int, width: int) -> NDArray[np.uint8]:
        """Decode the masks; they are decoded on every call.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.

        Returns:
            uint8 of shape (n, height, width): 1 where the object is, else 0.

        Raises:
            ValueError: There are no masks (see `DetectionSet.has_masks`).
            InputError: The masks are image files, and one is damaged.
        """
        if self.masks is None:
            raise ValueError("these objects have no masks; load data that have some with masks=True")
        return self.masks.bitmaps(height, width)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Scenes:
    """Images of one split and the objects on them; an image may have none.

    Attributes:
        ids: Name or number of each image, as in the file.
        sizes: int64 of shape (n, 2): height and width of each image in pixels.
        objects: The objects on each image.
        pictures: The images; `image` is the way to read them.
    """

    ids: tuple[int | str, ...]
    sizes: NDArray[np.int64]
    objects: Sequence[Objects]
    pictures: Pictures

    def image(self, i: int) -> NDArray[np.uint8]:
        """Return an image.

        Images of a split that takes less than 2 GiB are decoded once and stay in memory: do not write to them.

        Args:
            i: Its number, 0 to ``len(self) - 1``.

        Returns:
            uint8 of shape (height, width, 3), RGB.

        Raises:
            InputError: The file is damaged, or the image has another size than the annotations say.
        """
        return self.pictures[i]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class DetectionSet:
    """Three splits of images with objects.

    Attributes:
        train: Training scenes.
        val: Validation scenes; none of their images is a training image.
        test: Test scenes.
        class_names: Name of each class, by its label.
        has_masks: Whether the objects have masks; False where none were asked for, except for embedded data.
        skipped: Number of objects and images left out because they are not valid. Objects on an image that is left
            out are not counted.
    """

    train: Scenes
    val: Scenes
    test: Scenes
    class_names: tuple[str, ...]
    has_masks: bool
    skipped: int
