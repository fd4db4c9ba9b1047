"""How long it still takes, in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final


def time_left(elapsed: float, done: int, left: int) -> str:
    """Say how long the rest takes if it goes on as before.

    Args:
        elapsed: Time taken so far, in seconds.
        done: Equal parts done in that time.
        left: Equal parts that are left.

    Returns:
        Such as ``about 3 min left``; empty where nothing is left or nothing is known.

    Example:
        >>> time_left(60.0, 2, 6)
        'about 3 min left'
        >>> time_left(60.0, 2, 0)
        ''
    """
    if done < 1 or left < 1:
        return ""
    seconds = elapsed / done * left
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


@final
class Estimate:
    """Says how long work still takes, from the mean time of what is done of it.

    Args:
        parts: Equal parts that are to be done, such as epochs.
        clock: Tells the time, in seconds.

    Example:
        >>> seconds = iter([0.0, 60.0])
        >>> estimate = Estimate(8, lambda: next(seconds))
        >>> estimate.count(2)
        >>> estimate.left()
        'about 3 min left'
    """

    def __init__(self, parts: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._left = parts
        self._done = 0

    @property
    def elapsed(self) -> float:
        """The time taken so far, in seconds."""
        return self._clock() - self._started

    def count(self, parts: int) -> None:
        """Count parts as done since the work began."""
        self._done += parts
        self._left -= parts

    def leave_out(self, parts: int) -> None:
        """Leave out parts that turn out to have been done before."""
        self._left -= parts

    def left(self) -> str:
        """Return the time left in words; see `time_left`."""
        return time_left(self.elapsed, self._done, self._left)

    def times(self) -> str:
        """Return the time taken, and the time left where it is known: ``76 s, about 3 min left``."""
        left = self.left()
        return f"{self.elapsed:.0f} s{', ' * bool(left)}{left}"
