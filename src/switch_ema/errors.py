"""The one exception that means: the user's input is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The user's input is wrong; the message says what, where, and what to write instead.

    The command line prints the message as one line and exits with 2.
    """


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
    names = list(known)
    close = difflib.get_close_matches(got, names, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    listed = f" (known: {', '.join(names)})" if names and len(names) <= 20 else ""
    return InputError(f"unknown {what} {got!r}{guess}{listed}{'; ' + hint if hint else ''}")
