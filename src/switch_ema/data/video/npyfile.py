"""Videos in .npy files: their headers, read with the standard library alone."""

from __future__ import annotations

import ast
import math
import os
from typing import Any

from switch_ema.errors import InputError

PUBLISHED = "mnist_test_seq.npy"
"""Name of the published test file of Moving-MNIST: uint8 of shape (20, 10000, 64, 64), time first."""

PUBLISHED_FRAMES, PUBLISHED_SIZE = 20, 64

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # by version of the format
_KINDS = ("|u1", "u1", "<u1", ">u1")


def check_published(file: str) -> tuple[int, ...]:
    """Check the header of the published test file of Moving-MNIST, or of one made like it.

    Args:
        file: The file.

    Returns:
        Its shape: (20, sequences, 64, 64).

    Raises:
        InputError: The file is damaged, or of another type or shape.
    """
    shape = _shape(file)
    if len(shape) != 4 or (shape[0], *shape[2:]) != (PUBLISHED_FRAMES, PUBLISHED_SIZE, PUBLISHED_SIZE):
        raise InputError(
            f"{file}: shape {_times(shape)}; {PUBLISHED} is 20xNx64x64, time first; put videos of another shape, "
            "(n, frames, height, width), into a folder as train.npy and test.npy"
        )
    return shape


def check_clips(file: str) -> tuple[int, int, int, int, int]:
    """Check the header of a file of clips.

    Args:
        file: The file, of shape (clips, frames, height, width) or (clips, frames, height, width, 1 or 3).

    Returns:
        Clips, frames, height, width and channels.

    Raises:
        InputError: The file is damaged, or of another type or shape.
    """
    shape = _shape(file)
    full = (*shape, 1) if len(shape) == 4 else shape
    if len(full) != 5 or full[-1] not in (1, 3):
        raise InputError(
            f"{file}: shape {_times(shape)}; write an array of shape (n, frames, height, width) or (n, frames, height, "
            "width, channels) with 1 or 3 channels"
        )
    clips, frames, height, width, channels = full
    return clips, frames, height, width, channels


def _shape(file: str) -> tuple[int, ...]:
    """Read the shape of a file of bytes in C order, and check the file's length against it."""
    with open(file, "rb") as stream:
        start = stream.read(8)
        if start[:6] != _MAGIC or len(start) < 8 or start[6] not in _LENGTH_BYTES:
            raise InputError(f"{file}: not a .npy file; write it with numpy.save")
        count = _LENGTH_BYTES[start[6]]
        text = stream.read(int.from_bytes(stream.read(count), "little"))
        header = _header(text, file)
        offset = stream.tell()
    if header["descr"] not in _KINDS:
        raise InputError(f"{file}: values of type {header['descr']}; save the pixels as uint8, from 0 to 255")
    shape: tuple[int, ...] = header["shape"]
    if header["fortran_order"]:
        raise InputError(f"{file}: stored in Fortran order; save numpy.ascontiguousarray of it")
    size, promised = os.path.getsize(file), offset + math.prod(shape)
    if size != promised:
        raise InputError(f"{file}: {size} bytes where its header ({_times(shape)}) promises {promised}; copy it again")
    if not math.prod(shape):
        raise InputError(f"{file}: shape {_times(shape)}: no frames in it; is it the right file?")
    return shape


def _header(text: bytes, file: str) -> dict[str, Any]:
    try:
        header: dict[str, Any] = ast.literal_eval(text.decode("latin1").strip())
        if not all(isinstance(size, int) for size in header["shape"]) or not {"descr", "fortran_order"} <= set(header):
            raise ValueError
    except (ValueError, SyntaxError, KeyError, TypeError):
        raise InputError(f"{file}: a .npy file with a damaged header; copy it again") from None
    return header


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "of a single number"
