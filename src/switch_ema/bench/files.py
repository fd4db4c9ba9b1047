"""Files of the bench, written whole or not at all, and folders that may be in use for something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from switch_ema.averaging.files import write_atomically
from switch_ema.bench.integrity import FORMAT, read_sealed, seal
from switch_ema.errors import InputError

ANEW = "delete the folder or choose another --out"
"""What to do about damage that nothing repairs."""
_READ = (1, FORMAT)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, with the checksum of its content."""
    write_json(path, seal(content))


def read_own(path: Path, missing: str) -> dict[str, Any]:
    """Read a JSON file that `write_sealed` wrote for a comparison.

    Args:
        path: The file.
        missing: What it means that there is none, for the message.

    Raises:
        InputError: It is missing, damaged, or of a format that is not known.
    """
    if not path.is_file():
        raise InputError(f"{missing}; name the folder that 'sema compare --out' wrote")
    try:
        content = read_sealed(path)
    except ValueError:
        raise InputError(f"{path} is damaged; {ANEW}") from None
    if content.get("format") not in _READ:
        raise InputError(
            f"{path} has format {content.get('format')!r}, this version reads {FORMAT}; choose another --out"
        )
    return content


def is_free(folder: Path) -> bool:
    """Return whether a folder is not there, or holds hidden files alone."""
    if not folder.is_dir():
        return not folder.exists()
    return all(path.name.startswith(".") for path in folder.iterdir())


def refuse_other(folder: Path, what: str, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse a folder that holds what was asked for with other settings.

    Args:
        folder: The folder.
        what: What it holds: `"comparison"`, `"study"` or `"search"`.
        there: The settings of what it holds, as they were read.
        asked: The settings that are asked for; anything that JSON can hold.

    Raises:
        InputError: A setting differs.
    """
    asked = json.loads(json.dumps(asked))  # as they would be read: tuples as lists, keys as texts
    for name in sorted(set(there) | set(asked)):
        if there.get(name) != asked.get(name):
            difference = f"{name.replace('_', '-')}: {there.get(name)!r} there, {asked.get(name)!r} asked"
            raise InputError(f"--out {folder} holds another {what} ({difference}); choose another --out")
