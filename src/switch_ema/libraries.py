"""Libraries that a part cannot do without, looked for before they are needed and without importing them."""

from __future__ import annotations

import importlib.util

from switch_ema.errors import InputError


def require(what: str, *libraries: str) -> None:
    """Refuse a request for which a library is missing.

    Args:
        what: What needs them, such as ``model gpt``.
        libraries: Names to import them by.

    Raises:
        InputError: One is not installed.

    Example:
        >>> require("text classification", "json", "no_such_library")
        Traceback (most recent call last):
        ...
        switch_ema.errors.InputError: text classification needs no_such_library, which is not installed; run: pip install "switch-ema[bench]"
    """  # noqa: E501
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise InputError(f'{what} needs {library}, which is not installed; run: pip install "switch-ema[bench]"')
