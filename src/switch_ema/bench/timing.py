"""How long it still takes, in words."""

from __future__ import annotations


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
    if not done or not left:
        return ""
    seconds = elapsed / done * left
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"
