"""STL-10 as it is published: stl10_binary/ with 96x96 images, column after column, and labels from 1."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from switch_ema.data.arrays import Records, count_records
from switch_ema.data.table import Table
from switch_ema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SIDE = 96
_RECORD = 3 * _SIDE**2
_FOLDER = "stl10_binary"
_LABELLED = ("train", "test")
_NAMES = "class_names.txt"


def found(path: str) -> bool:
    """Say whether the folder, or stl10_binary/ in it, holds any of the image files."""
    return _folder(path) is not None


def check(path: str) -> None:
    """Check the files by their sizes; unlabeled_X.bin may be absent.

    Raises:
        InputError: A file is missing, empty or truncated, or images and labels differ in number.
    """
    folder = _folder(path) or path
    for split in _LABELLED:
        images, labels = (os.path.join(folder, f"{split}_{part}.bin") for part in "Xy")
        counts = count_records(images, _RECORD), count_records(labels, 1)
        if counts[0] != counts[1]:
            raise InputError(f"{labels}: {counts[1]} labels for the {counts[0]} images of {images}; copy both again")
    if os.path.isfile(file := os.path.join(folder, "unlabeled_X.bin")):
        count_records(file, _RECORD)


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """Read the labels; the images are mapped, not read.

    Args:
        path: The folder.
        image_size: Side to scale and crop the images to; None keeps 96.

    Returns:
        The tables ``train`` and ``test``, and ``unlabeled`` where unlabeled_X.bin is there.

    Raises:
        InputError: A file is missing, empty or truncated.
    """
    import numpy as np

    folder = _folder(path) or path
    found = {split: _labels(os.path.join(folder, f"{split}_y.bin")) for split in _LABELLED}
    if os.path.isfile(file := os.path.join(folder, "unlabeled_X.bin")):
        found["unlabeled"] = np.full(count_records(file, _RECORD), -1)
    names = _class_names(os.path.join(folder, _NAMES))
    return {split: _table(folder, split, labels, names, image_size) for split, labels in found.items()}


def _table(folder: str, split: str, labels: NDArray[np.int64], names: tuple[str, ...], image_size: int | None) -> Table:
    images = os.path.join(folder, f"{split}_X.bin")
    records = Records(((images, len(labels)),), _SIDE, header=0, column_major=True, image_size=image_size)
    where = images if split == "unlabeled" else os.path.join(folder, f"{split}_y.bin")
    return Table(where, labels, names, records)


def _labels(file: str) -> NDArray[np.int64]:
    import numpy as np

    return np.fromfile(file, np.uint8).astype(np.int64) - 1


def _class_names(file: str) -> tuple[str, ...]:
    if not os.path.isfile(file):
        return ()
    with open(file, encoding="utf-8") as stream:
        return tuple(line.strip() for line in stream if line.strip())


def _folder(path: str) -> str | None:
    for folder in (path, os.path.join(path, _FOLDER)):
        if any(os.path.isfile(os.path.join(folder, f"{split}_X.bin")) for split in (*_LABELLED, "unlabeled")):
            return folder
    return None
