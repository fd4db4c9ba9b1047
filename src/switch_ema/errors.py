"""The exceptions that mean: the user's input is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The user's input is wrong; the message says what, where, and what to write instead.

    The command line prints the message as one line and exits with 2.
    """


class FieldError(InputError):
    """One named value of the user's input is wrong.

    Args:
        field: Name of the value, as in `switch_ema.bench.settings.Settings` or among a task's options.
        problem: What is wrong with it, to be read after the name, such as ``"0: write at least 1"``.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type[FieldError], tuple[str, str]]:
        """Let it come back whole from another process."""
        return FieldError, (self.field, self.problem)


class MissingLibraryError(InputError, ImportError):
    """A library that something needs is not installed, or too old; the message has the line that installs it."""


def unknown(what: str, got: str, known: Iterable[str], *, hint: str = "") -> InputError:
    """Make the error for a name that is not among the known ones.

    Args:
        what: What the name stands for, such as ``"method"``.
        got: The name as given.
        known: The names that would be right.
        hint: One more clause for the end of the message.

    Returns:
        An error such as ``unknown method 'emma'; did you mean 'ema'? (known: ema, sema)``.
    """
    return InputError(f"unknown {what} {got!r}{suggestion(got, known)}{'; ' + hint if hint else ''}")


def suggestion(got: str, known: Iterable[str]) -> str:
    """Say which of the known names may have been meant, and list them if they are few."""
    names = list(known)
    close = difflib.get_close_matches(got, names, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return guess + (f" (known: {', '.join(names)})" if names and len(names) <= 20 else "")
