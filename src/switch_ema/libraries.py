"""Libraries that a part cannot do without, looked for before they are needed and without importing them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re

from switch_ema.errors import MissingLibraryError


def require(what: str, *libraries: str, extra: str = "bench") -> None:
    """Refuse a request for which a library is missing or too old.

    Args:
        what: What needs them, such as ``model gpt``.
        libraries: Names to import them by, with the oldest version that will do where that matters: ``optax>=0.2``.
        extra: The extra of this package that installs them.

    Raises:
        MissingLibraryError: One is not installed, or too old.

    Example:
        >>> require("text classification", "json", "no_such_library")
        Traceback (most recent call last):
        ...
        switch_ema.errors.MissingLibraryError: text classification needs no_such_library, which is not installed; run: pip install "switch-ema[bench]"
    """  # noqa: E501
    for library in libraries:
        name, _, oldest = library.partition(">=")
        line = f'pip install --upgrade "switch-ema[{extra}]"' if oldest else f'pip install "switch-ema[{extra}]"'
        if importlib.util.find_spec(name) is None:
            raise MissingLibraryError(f"{what} needs {library}, which is not installed; run: {line}")
        if oldest and numbers(found := _version(name)) < numbers(oldest):
            raise MissingLibraryError(f"{what} needs {library}, found {found}; run: {line}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # installed by another name; to find it takes a second
        [distribution, *_] = importlib.metadata.packages_distributions()[name]
        return importlib.metadata.version(distribution)


def numbers(version: str) -> tuple[int, ...]:
    """Return the release part of a version: 2.11.0rc1 is (2, 11, 0)."""
    return tuple(int(number) for number in re.findall(r"(?:^|\.)(\d+)", version))
