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


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state atomically.

    Args:
        path: The file; one that is there is replaced.
        state: Tensors, numbers and texts in plain containers.

    Raises:
        OSError: The disk is full or the folder cannot be written; the file that was there is untouched then.
    """

    def write(file: BinaryIO) -> None:
        summed = _Summed(file)
        try:
            torch.save(dict(state), cast(BinaryIO, summed))
        except RuntimeError:
            if summed.error is not None:  # torch's writer says only that it could not write
                raise summed.error from None
            raise
        file.write(summed.running.hexdigest().encode())

    write_atomically(path, write)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a state after comparing the checksum; nothing in it is unpickled but tensors and plain containers.

    Args:
        path: What `write_checkpoint` wrote.
        device: Where its tensors go.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not as it was written.
    """
    with path.open("rb") as file:
        size = max(0, os.fstat(file.fileno()).st_size - _DIGITS)
        extent, _ = measure_extent(file, size)
        if file.read() != extent.checksum.encode():
            raise ValueError(f"{path} is not as it was written")
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


class _Summed:
    """A file for `torch.save` that sums what is written and remembers what went wrong."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.running = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.running.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
