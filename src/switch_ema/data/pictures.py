"""Images for tasks that need no classes: every set of labelled images, and folders of images as they are.

What is needed to find them needs the standard library only, so that a wrong path is refused at once.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from switch_ema.data.catalog import DATASETS, FOLDER_FORMATS, FORMATS, Source, locate
from switch_ema.data.folder import image_names
from switch_ema.data.lists import lines
from switch_ema.data.root import data_root
from switch_ema.data.table import Table, table_of_files
from switch_ema.errors import InputError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]
    Bytes = NDArray[np.uint8]

_log = logging.getLogger(__name__)

PICTURE_SETS = {
    **DATASETS,
    "celeba": "CelebA-Align, 202,599 faces, colour, cropped to squares, from $SEMA_DATA/celeba",
}
"""The named data sets, each with one line that describes it."""

_DIGITS_WHITE = 16
_PARTITION = "list_eval_partition.txt"
_SPLITS = {"0": "train", "1": "val", "2": "test"}


@dataclass(frozen=True)
class Pictures:
    """Three splits of square images of one size, with 1 (grey) or 3 (RGB) channels.

    Attributes:
        train: Training images, uint8 of shape (n, size, size, channels).
        val: Validation images; none of them is a training image.
        test: Test images.
        labelled: Whether the data name a class for every image.
        white: Largest value that a pixel can have: 255, but 16 in scikit-learn's digits.
    """

    train: Bytes
    val: Bytes
    test: Bytes
    labelled: bool
    white: int = 255


def locate_pictures(spec: str) -> Source:
    """Find a data set and check what can be checked in milliseconds.

    Args:
        spec: A name from `PICTURE_SETS`, or the path of a folder: of labelled images (see
            `switch_ema.data.catalog.FORMATS`), or with image files directly or in its only folder.

    Returns:
        Where the data lie; the format is ``flat`` for images without classes.

    Raises:
        InputError: Nothing is there, or it is not a data set.

    Example:
        >>> locate_pictures("digits").format
        'digits'
    """
    if spec == "celeba":
        return Source(spec, "flat", _celeba())
    if spec not in DATASETS and not os.path.exists(spec):
        hint = f"or the path of a folder with image files, or with {FORMATS}"
        raise unknown("data set or folder", spec, PICTURE_SETS, hint=hint)
    flat = _flat(spec) if spec not in DATASETS and os.path.isdir(spec) else None
    return Source(spec, "flat", flat) if flat else locate(spec)


def _celeba() -> str:
    root = data_root()
    path = os.path.join(root, "celeba")
    flat = _flat(path) if os.path.isdir(path) else None
    if flat is None:
        raise InputError(
            f"data set 'celeba' not found: no images in {os.path.join(path, 'img_align_celeba')}; set SEMA_DATA to the "
            "folder that holds celeba/, which should have img_align_celeba/*.jpg; or write --data digits"
        )
    return flat


def _flat(path: str) -> str | None:
    """Return the folder with the images, which is this one or its only folder; None where there are classes."""
    try:
        folders = [entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")]
        if len(folders) == 1 and folders[0] not in _SPLITS.values():
            inner = os.path.join(path, folders[0])
            if any(image_names(inner)):
                return inner
        known = any(format_.found(path) for format_ in FOLDER_FORMATS.values())
        return path if not known and any(image_names(path)) else None
    except OSError as error:
        raise InputError(
            f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions"
        ) from error


@lru_cache(maxsize=2)
def load_pictures(
    source: Source, *, train_size: int | None = None, image_size: int | None = None, skip_corrupt: bool = False
) -> Pictures:
    """Read a data set and divide it; several seeds in one process read it once.

    Images without classes are divided by CelebA's list_eval_partition.txt, where that lies in their folder or beside
    it; else 20 % are held out for test and 10 % of the rest, at most 5,000, for validation, always the same ones.

    Args:
        source: What `locate_pictures` found.
        train_size: Number of training images; None takes all.
        image_size: Scale the shorter side to this and crop the centre; None keeps the images, if all are equal squares.
        skip_corrupt: Leave out images that cannot be read, count them, and say so in the log; False refuses them.

    Returns:
        The three splits. The arrays are shared: do not write.

    Raises:
        InputError: Something in the files is wrong.
    """
    from switch_ema.data.images import equal_shapes, load

    if source.format != "flat":
        found = load(source, train_size=train_size, image_size=image_size, skip_corrupt=skip_corrupt)
        white = _DIGITS_WHITE if source.format == "digits" else 255
        return Pictures(found.train.images, found.val.images, found.test.images, labelled=True, white=white)
    names = sorted(image_names(source.path))
    table = table_of_files(source.path, source.path, [(name, -1) for name in names], (), image_size)
    read = {
        split: _read(table, rows, split, skip_corrupt)
        for split, rows in _divided(source, names, train_size).items()
    }  # fmt: skip
    equal = equal_shapes(read, source.name)
    return Pictures(equal["train"], equal["val"], equal["test"], labelled=False)


def _divided(source: Source, names: list[str], train_size: int | None) -> dict[str, Rows]:
    """Return the rows of each split."""
    import numpy as np

    from switch_ema.data.splits import divide

    found = _partition(source.path, names)
    train = found.pop("train", np.arange(len(names)))
    missing = [split for split in ("test", "val") if split not in found]
    parts = divide(np.zeros(len(train), np.int64), missing, train_size=train_size, where=source.name)
    return {**{split: train[rows] for split, rows in parts.items()}, **found}


def _partition(path: str, names: list[str]) -> dict[str, Rows]:
    """Read CelebA's list of splits; empty where there is none."""
    import numpy as np

    places = (os.path.join(folder, _PARTITION) for folder in (path, os.path.dirname(os.path.abspath(path))))
    file = next(filter(os.path.isfile, places), None)
    if file is None:
        return {}
    row_of = {name: row for row, name in enumerate(names)}
    rows: dict[str, list[int]] = {split: [] for split in _SPLITS.values()}
    for number, (name, split) in enumerate(lines(file, 2), 1):
        if split not in _SPLITS:
            raise InputError(f"{file} entry {number}: split {split!r}; write 0 (train), 1 (val) or 2 (test)")
        if name not in row_of:
            raise InputError(f"{file} entry {number}: no image {name} in {path}; copy the images again")
        rows[_SPLITS[split]].append(row_of.pop(name))
    if row_of:
        raise InputError(f"{os.path.join(path, next(iter(row_of)))}: not listed in {file}; remove it or the list")
    return {split: np.array(chosen) for split, chosen in rows.items() if chosen}


def _read(table: Table, rows: Rows, split: str, skip_corrupt: bool) -> Bytes:
    images, skipped = table.read_good(rows) if skip_corrupt else (table.read(rows), [])
    if skipped:
        _log.warning("%s: left out %d images of its %s split that cannot be read", table.where, len(skipped), split)
    return images
