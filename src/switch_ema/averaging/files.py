"""Files that are whole or not there at all, and a checksum over what tensor files hold. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, final


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader finds the old one or the whole new one, also after a crash.

    The content goes to a temporary file in the same folder, which is flushed to disk and then takes the name. A link
    stays a link: the file it points to is replaced.

    Args:
        path: The file.
        write: Writes the content; it may seek.

    Raises:
        OSError: If the disk is full or the folder cannot be written; the old file is untouched then, and nothing else
            is left behind.
    """
    path = path.resolve()
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:  # unlike tempfile, with the permissions of any other new file
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # only then can a folder be opened and its new entry be made durable
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@final
class Checksum:
    """SHA-256 over what a tensor file says about itself, and the name, type, shape and bytes of each of its tensors.

    It is one of content: it does not depend on how the file is laid out.

    Args:
        about: What the file says about itself; anything that JSON can hold.
    """

    LENGTH = 64

    def __init__(self, about: Mapping[str, Any]) -> None:
        self._hash = hashlib.sha256()
        self._add_line(dict(about))

    def add_tensor(self, name: str, dtype: str, shape: Sequence[int]) -> None:
        """Start a tensor; its bytes follow by `add_bytes`. The order of tensors is part of the sum."""
        self._add_line([name, dtype, list(shape)])

    def add_bytes(self, data: bytearray | memoryview) -> None:
        """Add some of the bytes of the tensor that was started last."""
        self._hash.update(data)

    def hexdigest(self) -> str:
        """Return the sum so far, as `LENGTH` hexadecimal digits."""
        return self._hash.hexdigest()

    def _add_line(self, content: Any) -> None:
        self._hash.update(json.dumps(content, sort_keys=True).encode() + b"\n")
