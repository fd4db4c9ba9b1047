"""What the options of tasks accept: readers of their texts, checked without importing torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from switch_ema.errors import FieldError, suggestion

Reader = Callable[[str], Any]
"""Turns the text of a value into the value, or raises a `ValueError` that says what to write."""


@dataclass(frozen=True)
class Option:
    """An option of a task.

    Attributes:
        about: One line that describes it.
        read: Reader of its text.
    """

    about: str
    read: Reader


def read_options(options: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check values, which may be texts, and return them in their own types; None stands for "not given".

    Args:
        options: The options there are.
        given: Values by name.

    Raises:
        FieldError: A name is unknown or a value out of range.

    Example:
        >>> read_options({"size": Option("side in pixels", whole)}, {"size": "32"})
        {'size': 32}
    """
    values = {}
    for name, value in given.items():
        if name not in options:
            raise FieldError(name, f"is no option here{suggestion(name, options)}")
        if value is None:
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        try:
            values[name] = options[name].read(text)
        except ValueError as error:
            raise FieldError(name, f"{text or 'without a value'}: {error}") from None
    return values


def whole(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("write a whole number of at least 1")
    return int(text)


def count(text: str) -> int:
    """Read a whole number of at least 0."""
    if not text.isdecimal():
        raise ValueError("write a whole number of at least 0")
    return int(text)


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise ValueError("write a share from 0 to 1, such as 0.4")
    return value


def positive(text: str) -> float:
    """Read a finite number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise ValueError("write a number above 0, such as 0.5")
    return value


def nonnegative(text: str) -> float:
    """Read a finite number of at least 0."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise ValueError("write a number of at least 0, such as 0.2")
    return value


def flag(text: str) -> bool:
    """Read true or false."""
    if text not in ("true", "false"):
        raise ValueError("write true or false")
    return text == "true"


def words(text: str) -> str:
    """Read any text that is not empty."""
    if not text:
        raise ValueError("write a value")
    return text


def one_of(*choices: str) -> Reader:
    """Make a reader of one of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"write one of {', '.join(choices)}")
        return text

    return read


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
