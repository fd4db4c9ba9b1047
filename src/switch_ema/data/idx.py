"""Folders with the four files of MNIST or Fashion-MNIST in IDX format, plain or gzipped.

An IDX file is two zero bytes, one for the type, one for the number of dimensions, the sizes as big-endian 32-bit
integers, then the values.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from typing import TYPE_CHECKING, BinaryIO

from switch_ema.data.arrays import Pixels
from switch_ema.data.table import Table
from switch_ema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PREFIX = {"train": "train", "test": "t10k"}
_DIMENSIONS = {"images": 3, "labels": 1}
_UNSIGNED_BYTE = 8


def found(path: str) -> bool:
    """Say whether the folder, or raw/, MNIST/raw/ or FashionMNIST/raw/ in it, holds any of the four files."""
    return bool(_holders(path))


def check(path: str) -> None:
    """Check that all four files are there and as long as their headers say.

    Raises:
        InputError: A file is missing, empty, truncated or of another shape, images and labels differ in number, or
            two data sets lie side by side.
    """
    if len(holders := _holders(path)) > 1:
        raise InputError(f"{path}: two data sets in it; give {holders[0]} or {holders[1]}")
    for split in _PREFIX:
        images, labels = (_file(path, split, what) for what in _DIMENSIONS)
        shape = _shape(images, _DIMENSIONS["images"])
        (count,) = _shape(labels, _DIMENSIONS["labels"])
        if shape[0] != count:
            raise InputError(f"{labels}: {count} labels for the {shape[0]} images of {images}; copy both files again")


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """Read the four files.

    Args:
        path: The folder.
        image_size: Side to scale and crop the images to; None keeps them.

    Returns:
        The tables ``train`` and ``test``.

    Raises:
        InputError: A compressed file is damaged.
    """
    return {split: _table(path, split, image_size) for split in _PREFIX}


def _table(path: str, split: str, image_size: int | None) -> Table:
    import numpy as np

    file = _file(path, split, "labels")
    labels = _values(file, _DIMENSIONS["labels"]).astype(np.int64)
    images = _values(_file(path, split, "images"), _DIMENSIONS["images"])[..., None]
    return Table(file, labels, (), Pixels(images, image_size))


def _holders(path: str) -> list[str]:
    """List the folders that hold any of the four files."""
    usual = ("", "raw", os.path.join("MNIST", "raw"), os.path.join("FashionMNIST", "raw"))
    return [
        folder
        for folder in (os.path.join(path, below) if below else path for below in usual)
        if any(
            os.path.isfile(file) for split in _PREFIX for what in _DIMENSIONS for file in _names(folder, split, what)
        )
    ]


def _names(folder: str, split: str, what: str) -> list[str]:
    """List the usual spellings of a file's name."""
    stem = os.path.join(folder, f"{_PREFIX[split]}-{what}")
    kind = f"idx{_DIMENSIONS[what]}-ubyte"
    return [f"{stem}{dot}{kind}{end}" for dot in "-." for end in ("", ".gz")]


def _file(path: str, split: str, what: str) -> str:
    names = _names((_holders(path) or [path])[0], split, what)
    for name in names:
        if os.path.isfile(name):
            return name
    raise InputError(f"{names[0]}: no such file, plain or .gz; MNIST data are four files, this one is missing")


def _open(file: str) -> gzip.GzipFile | BinaryIO:
    return gzip.open(file) if file.endswith(".gz") else open(file, "rb")


def _shape(file: str, dimensions: int) -> tuple[int, ...]:
    """Read the sizes from the header and check them against the length of the file."""
    if os.path.getsize(file) == 0:
        raise InputError(f"{file}: the file is empty; copy or download it again")
    try:
        with _open(file) as stream:
            header = stream.read(4 + 4 * dimensions)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{file}: not a whole gzip file; copy or download it again") from error
    if header[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise InputError(f"{file}: not an IDX file of bytes with {dimensions} dimension(s); is it the right file?")
    sizes = tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, 4 + 4 * dimensions, 4))
    length, promised = _length(file), 4 + 4 * dimensions + math.prod(sizes)
    if length != promised:
        shape = "x".join(map(str, sizes))
        raise InputError(f"{file}: {length} bytes where its header ({shape}) promises {promised}; copy it again")
    if math.prod(sizes) == 0:
        raise InputError(f"{file}: no images in it (shape {'x'.join(map(str, sizes))}); is it the right file?")
    return sizes


def _length(file: str) -> int:
    """Return the length of the content; a gzip file has it in its last four bytes, so nothing need be unpacked."""
    if not file.endswith(".gz"):
        return os.path.getsize(file)
    with open(file, "rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return int.from_bytes(stream.read(4), "little")


def _values(file: str, dimensions: int) -> NDArray[np.uint8]:
    import numpy as np

    sizes = _shape(file, dimensions)
    try:
        with _open(file) as stream:
            content = stream.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{file}: damaged ({error}); copy or download it again") from error
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(sizes)
