"""What published data sets share: lists of images, read with the line's number in every complaint, and their folder."""

from __future__ import annotations

import os

from switch_ema.errors import InputError


def lines(file: str, fields: int, separator: str | None = None) -> list[tuple[str, ...]]:
    """Read the fields of every line that is not blank.

    Args:
        file: A text file.
        fields: How many fields a line has; the last one takes the rest of it.
        separator: What stands between fields; None for any white space.

    Returns:
        The fields of each line.

    Raises:
        InputError: The file is missing, empty or no text, or a line has fewer fields.
    """
    if not os.path.isfile(file):
        raise InputError(f"{file}: no such file; copy or download it again")
    found = []
    try:
        with open(file, encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line := line.strip():
                    parts = tuple(line.split(separator, fields - 1))
                    if len(parts) < fields:
                        raise InputError(f"{file} line {number}: {line[:60]!r}; it needs {fields} fields")
                    found.append(parts)
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text file ({error.reason}); copy or download it again") from error
    if not found:
        raise InputError(f"{file}: the file is empty; copy or download it again")
    return found


def numbered(file: str) -> dict[str, str]:
    """Read lines of a number and a text, as ``17 images/a.jpg``.

    Args:
        file: A text file.

    Returns:
        Maps each number, as text, to what follows it.

    Raises:
        InputError: As `lines`, or a number comes twice.
    """
    pairs = lines(file, 2)
    found = {pair[0]: pair[1] for pair in pairs}
    if len(found) < len(pairs):
        raise InputError(f"{file}: {len(pairs)} lines but only {len(found)} different numbers; copy it again")
    return found


def inside(file: str, name: str) -> str:
    """Return a path that a list gives for an image, after checking that it stays below the data set's folder.

    Args:
        file: The list, for messages.
        name: The path as listed.

    Returns:
        The path.

    Raises:
        InputError: It is absolute or leads upwards.
    """
    if os.path.isabs(name) or ".." in name.split("/"):
        raise InputError(f"{file}: lists the image {name!r}, which is outside of the data set; is it the right file?")
    return name


def holder(path: str, folder: str) -> str | None:
    """Return the folder that holds a published folder, which is what torchvision wants.

    Args:
        path: The folder that holds it, or the published folder itself.
        folder: Its name, such as ``stanford_cars``.

    Returns:
        The folder, or None if `path` is neither.
    """
    if os.path.isdir(os.path.join(path, folder)):
        return path
    whole = os.path.abspath(path)
    return os.path.dirname(whole) if os.path.basename(whole) == folder and os.path.isdir(whole) else None
