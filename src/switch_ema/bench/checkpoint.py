"""The checkpoint of a training run: a torch file with a checksum at its end, written whole or not at all.

`torch.load` does not compare the checksums of the zip archive it reads, so a flipped bit would become another weight.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from switch_ema.averaging.files import write_atomically
from switch_ema.bench.integrity import measure_extent

_DIGITS = 64  # of SHA-256; a zip archive may be followed by something else


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> str:
    """Write a state atomically.

    Args:
        path: The file; one that is there is replaced.
        state: Tensors, numbers and texts in plain containers.

    Returns:
        The checksum: SHA-256 in hexadecimal digits.

    Raises:
        OSError: The disk is full or the folder cannot be written; the file that was there is untouched then.
    """
    running = hashlib.sha256()

    def write(file: BinaryIO) -> None:
        summed = _Summed(file, running)
        try:
            torch.save(dict(state), cast(BinaryIO, summed))
        except RuntimeError:
            if summed.error is not None:  # torch's writer says only that it could not write
                raise summed.error from None
            raise
        file.write(running.hexdigest().encode())

    write_atomically(path, write)
    return running.hexdigest()


def read_checkpoint(path: Path, device: torch.device, checksum: str | None = None) -> dict[str, Any]:
    """Read a state after comparing the checksum; nothing in it is unpickled but tensors and plain containers.

    Args:
        path: What `write_checkpoint` wrote.
        device: Where its tensors go.
        checksum: What `write_checkpoint` returned, where it is known from elsewhere.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not as it was written, or another one.
    """
    with path.open("rb") as file:
        size = max(0, os.fstat(file.fileno()).st_size - _DIGITS)
        extent, _ = measure_extent(file, size)
        if file.read() != extent.checksum.encode() or checksum not in (None, extent.checksum):
            raise ValueError(f"{path} is not as it was written")
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


class _Summed:
    """A file for `torch.save` that sums what is written and remembers what went wrong."""

    def __init__(self, file: BinaryIO, running: Any) -> None:
        self._file = file
        self._running = running
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self._running.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
