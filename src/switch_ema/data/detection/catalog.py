"""What `--data` accepts where objects are to be found: names of data sets, and folders whose format is detected.

Everything here needs the standard library only, so that a wrong path is refused at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from switch_ema.data.detection import layout
from switch_ema.data.root import data_root
from switch_ema.errors import InputError, unknown

DATASETS: Mapping[str, str] = {
    "digits-canvas": "490 scenes of 1 to 4 handwritten digits, 64x64, grey, with masks; from scikit-learn's digits",
    "bccd": "blood cells: 364 microscope images, 3 classes, boxes only, from $SEMA_DATA/bccd",
    "coco": "COCO 2017: 123,287 photographs, 80 classes, with masks, from $SEMA_DATA/coco",
    "voc": "Pascal VOC: photographs, 20 classes, from $SEMA_DATA/VOCdevkit/VOC2007, or else VOC2012 beside it",
}
"""The named data sets, each with one line that describes it."""

FORMATS = (
    "COCO files (annotations/instances_train.json, also _val and _test or with 2017 at the end, and the images in "
    "train/, images/ or directly), or Pascal VOC (Annotations/, JPEGImages/ and ImageSets/Main/train.txt)"
)
"""What a folder given to `--data` may hold."""

_FOLDERS = {
    "bccd": ("bccd",),
    "coco": ("coco",),
    "voc": (os.path.join("VOCdevkit", "VOC2007"), os.path.join("VOCdevkit", "VOC2012")),
}


@dataclass(frozen=True)
class Source:
    """A data set that was found and passed the cheap checks.

    Attributes:
        name: The name or path as the user gave it.
        format: ``canvas``, ``coco`` or ``voc``.
        path: The folder to read; empty for embedded data.
    """

    name: str
    format: str
    path: str


def locate(spec: str) -> Source:
    """Find a data set and check all that can be checked in milliseconds.

    Args:
        spec: A name from `DATASETS` or the path of a folder (see `FORMATS`). Named sets other than ``digits-canvas``
            lie below the folder in the environment variable ``SEMA_DATA`` (default ``../shared/data``).

    Returns:
        Where the data lie and how to read them.

    Raises:
        InputError: Nothing is there, or it is not a data set, or an annotation file is missing or empty.

    Example:
        >>> locate("digits-canvas")
        Source(name='digits-canvas', format='canvas', path='')
    """
    if spec == "digits-canvas":
        return Source(spec, "canvas", "")
    path = spec
    if spec in _FOLDERS:
        path = _named_folder(spec)
    elif os.path.isfile(path):
        raise InputError(f"{path}: this is a file; give the folder that holds it ({FORMATS})")
    elif not os.path.isdir(path):
        raise unknown("data set or folder", spec, DATASETS, hint=f"or the path of a folder with {FORMATS}")
    try:
        if voc := layout.voc_folder(path):
            layout.voc_lists(voc, "Main")
            return Source(spec, "voc", voc)
        if layout.is_coco(path):
            layout.coco_files(path)
            return Source(spec, "coco", path)
    except OSError as error:
        raise layout.unreadable(error, path) from error
    raise InputError(f"{path}: no data in a known format; the folder should hold {FORMATS}")


def _named_folder(name: str) -> str:
    root = data_root()
    for folder in _FOLDERS[name]:
        if os.path.isdir(path := os.path.join(root, folder)):
            return path
    first = _FOLDERS[name][0]
    raise InputError(
        f"data set {name!r} not found: no folder {os.path.join(root, first)}; set SEMA_DATA to the folder that holds "
        f"{first}, which should have {FORMATS}; or write --data digits-canvas"
    )
