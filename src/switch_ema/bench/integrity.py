"""Files that tell whether they are as they were written. Standard library only.

JSON files carry a SHA-256 over the rest of their content; of a file that grows, the sum over its first bytes is noted
elsewhere. This is against damage, not against someone who means to deceive.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

FORMAT = 2
"""Of files with a checksum; those of format 1 have none, and are read as they are."""

BLOCK = 1 << 20
_KEY = "checksum"


class Extent(NamedTuple):
    """The first bytes of a file that grows.

    Attributes:
        size: How many.
        checksum: SHA-256 over them in hexadecimal digits; empty where nobody took it.
    """

    size: int
    checksum: str


NOTHING = Extent(0, hashlib.sha256().hexdigest())


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its format and the checksum over all of it.

    Args:
        content: Anything that JSON can hold.

    Example:
        >>> sealed = seal({"epochs": 3})
        >>> unseal(json.dumps(sealed))
        {'format': 2, 'epochs': 3}
        >>> unseal(json.dumps(sealed | {"epochs": 4}))
        Traceback (most recent call last):
        ...
        ValueError: not as it was written
    """
    whole = {"format": FORMAT, **content}
    return {**whole, _KEY: _checksum(whole)}


def unseal(text: str) -> dict[str, Any]:
    """Return a JSON object without its checksum, after comparing it.

    Args:
        text: What `seal` returned, as JSON; or an object of format 1, which has no checksum.

    Raises:
        ValueError: It is no JSON object, or is not as it was written.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    checksum = content.pop(_KEY, None)
    if (checksum is not None or content.get("format") == FORMAT) and checksum != _checksum(content):
        raise ValueError("not as it was written")
    return content


def measure_extent(file: BinaryIO, size: int) -> tuple[Extent, Any]:
    """Return the extent of the first bytes of a file, and the running sum over them, to go on with.

    Args:
        file: Opened for reading in binary, at its start.
        size: How many bytes; the extent has fewer where the file has fewer.
    """
    running, left = hashlib.sha256(), size
    while left and (data := file.read(min(left, BLOCK))):
        running.update(data)
        left -= len(data)
    return Extent(size - left, running.hexdigest()), running


def extent_of(text: str) -> Extent:
    """Return the extent of a text in UTF-8."""
    data = text.encode()
    return Extent(len(data), hashlib.sha256(data).hexdigest())


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a JSON file that was written sealed; see `unseal`."""
    return unseal(path.read_text(encoding="utf-8"))


def _checksum(content: Mapping[str, Any]) -> str:
    """Return the sum over the text, in the order of the keys: reading JSON keeps it, and turns keys into texts."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
