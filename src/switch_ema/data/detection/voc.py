"""Annotations in Pascal VOC's XML format.

Corners are pixels counted from 1 and belong to the box: xmin = 1, xmax = 10 is the box from 0 to 10. Objects marked
``difficult`` are not to be found, as in the VOC evaluation: they become regions to be ignored (`Objects.crowd`). Masks
are those of ``SegmentationObject/``: the k-th object of an XML file is painted with the number k; 255 is no object.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from switch_ema.data.detection.layout import Listing, voc_lists
from switch_ema.data.detection.records import (
    DefectError,
    Findings,
    Found,
    Picture,
    Records,
    as_objects,
    clip,
    number,
    side,
)
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from numpy.typing import NDArray

_ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Painted:
    """Masks in one image file, in which each object has its own value.

    Attributes:
        file: The image file, of palette mode.
        values: The value of each object.
    """

    file: str
    values: tuple[int, ...]

    def bitmaps(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return 1 where an object is and 0 elsewhere, of shape (n, height, width)."""
        try:
            with Image.open(self.file) as image:
                painted = np.array(image, np.uint8)
        except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
            raise InputError(f"{self.file}: not a readable image ({error}); copy or download it again") from error
        if painted.shape != (height, width):
            raise InputError(
                f"{self.file}: shape {painted.shape}, but its photograph has {(height, width)}; replace it"
            )
        values = np.array(self.values, np.uint8).reshape(-1, 1, 1)
        return np.asarray(painted == values, np.uint8)


def read(path: str, masks: bool, findings: Findings) -> Records:
    """Read and check the annotations of all splits.

    Args:
        path: The folder of one year, with ``Annotations/``.
        masks: Also read the masks where the folder has ``SegmentationObject/``; then the splits are those of
            ``ImageSets/Segmentation/``, whose images have masks.
        findings: Takes the objects and images that are not valid.

    Returns:
        The images and their objects; classes are those on the training images, in alphabetical order.

    Raises:
        InputError: A list of images is missing or names none, or no training image has an object.
    """
    has_masks = masks and os.path.isdir(os.path.join(path, "SegmentationObject"))
    lists = voc_lists(path, "Segmentation" if has_masks else "Main")
    names = {split: _names(file) for split, file in lists.items()}
    reader = _Reader(path, has_masks, findings)
    trees = {split: {name: reader.tree(name) for name in of_split} for split, of_split in names.items()}
    classes = sorted({_text(item, "name") for tree in trees["train"].values() for item in _items(tree)} - {""})
    if not classes:
        raise InputError(f"{lists['train']}: no object on any of these images; is it the right list?")
    labels = {name: label for label, name in enumerate(classes)}
    splits = {
        split: [reader.picture(name, tree, labels) for name, tree in of_split.items()]
        for split, of_split in trees.items()
    }
    return Records(splits, tuple(classes), has_masks)


class _Reader:
    """Turns XML files into pictures."""

    def __init__(self, path: str, masks: bool, findings: Findings) -> None:
        self.path = path
        self.masks = masks
        self.findings = findings
        self.images = Listing((os.path.join(path, "JPEGImages"),))
        self.painted = Listing((os.path.join(path, "SegmentationObject"),))

    def tree(self, name: str) -> Element | None:
        """Return the content of an annotation file; one that cannot be read is noted."""
        try:
            return ElementTree.parse(self._file(name)).getroot()
        except (ElementTree.ParseError, ValueError, FileNotFoundError) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else f"not an XML file ({error})"
            self.findings.image(f"{self._file(name)}: image {name}: {reason}")
            return None

    def picture(self, name: str, tree: Element | None, labels: dict[str, int]) -> Picture:
        """Return an image and its valid objects; one that is not valid has no path."""
        try:
            if tree is not None:
                return self._picture(name, tree, labels)
        except DefectError as defect:
            self.findings.image(f"{self._file(name)}: image {name}: {defect}")
        return Picture(name, None, 1, 1, as_objects([], None))

    def _picture(self, name: str, tree: Element, labels: dict[str, int]) -> Picture:
        height, width = (side(_number(tree, f"size/{key}"), key) for key in ("height", "width"))
        image = next(filter(None, (self.images.find(name + ending) for ending in _ENDINGS)), None)
        if image is None:
            raise DefectError(f"no image file {name}.jpg in {self.images.folders[0]}")
        painted = self.painted.find(f"{name}.png") if self.masks else None
        if self.masks and painted is None:
            raise DefectError(f"no masks {name}.png in {self.painted.folders[0]}")
        found, values = [], []
        for position, item in enumerate(_items(tree), 1):
            try:
                found.append(_object(item, labels, height, width))
                values.append(position)
            except DefectError as defect:
                self.findings.object(f"{self._file(name)}: object {position} of image {name}: {defect}")
        masks = Painted(painted, tuple(values)) if painted is not None else None
        return Picture(name, image, height, width, as_objects(found, masks))

    def _file(self, name: str) -> str:
        return os.path.join(self.path, "Annotations", f"{name}.xml")


def _object(item: Element, labels: dict[str, int], height: int, width: int) -> Found:
    name = _text(item, "name")
    if name not in labels:
        raise DefectError(f"its name {name!r} is no class of the training images")
    x1, y1, x2, y2 = (_number(item, f"bndbox/{corner}") for corner in _CORNERS)
    box = clip((x1 - 1, y1 - 1, x2, y2), height, width)
    difficult = _text(item, "difficult") or "0"
    if difficult not in ("0", "1"):
        raise DefectError(f"difficult {difficult!r} is neither 0 nor 1")
    return Found(box, labels[name], difficult == "1", (box[2] - box[0]) * (box[3] - box[1]))


def _names(file: str) -> list[str]:
    """Return the first word of each line."""
    try:
        with open(file, encoding="utf-8-sig") as stream:
            names = [line.split()[0] for line in stream if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text in UTF-8 ({error}); save it as one") from error
    if not names:
        raise InputError(f"{file}: no image is named in it; write one name a line")
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice:
        raise InputError(f"{file}: image {twice} is named twice; remove one of the lines")
    return names


def _items(tree: Element | None) -> list[Element]:
    return [] if tree is None else tree.findall("object")


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: Element, path: str) -> float:
    text = _text(element, path)
    if not text:
        raise DefectError(f"it has no {path}")
    try:
        value: float | str = float(text)
    except ValueError:
        value = text
    return number(value, path)
