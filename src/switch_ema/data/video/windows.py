"""Clips cut into sequences of one length, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from switch_ema.errors import FieldError, InputError

Frames = int | Literal["any"] | None
"""How many frames to take of each clip: so many from its start, all of clips of any length, or all of equal ones."""


def cut(clips: Sequence[tuple[str, int]], length: int, frames: Frames = None) -> list[list[int]]:
    """Cut clips into windows that do not overlap, from the start; frames that are left over at the end are dropped.

    Args:
        clips: Name and number of frames of each clip.
        length: Frames in a window.
        frames: See `Frames`.

    Returns:
        For each clip at which of its frames the windows start.

    Raises:
        InputError: A clip is shorter than a window, or clips differ in length and `frames` is not given.
        FieldError: `frames` is less than a window or more than a clip has.

    Example:
        >>> cut([("a", 7), ("b", 9)], 3, "any")
        [[0, 3], [0, 3, 6]]
    """
    shortest, least = min(clips, key=lambda clip: clip[1])
    longest, most = max(clips, key=lambda clip: clip[1])
    if least < length:
        raise InputError(
            f"{shortest}: {least} frames, where inputs and outputs need {length}; remove the clip, or write --inputs "
            f"and --outputs of together at most {least}"
        )
    if isinstance(frames, int):
        if not length <= frames <= least:
            raise FieldError(
                "frames", f"{frames}: inputs and outputs need {length}, and {shortest} has {least}; write a number "
                "between"
            )  # fmt: skip
        return [list(range(0, frames - length + 1, length)) for _ in clips]
    if frames is None and least < most:
        raise InputError(
            f"clips of unequal length: {shortest} has {least} frames, {longest} has {most}; write --frames {least} to "
            f"take the first {least} of each, or --frames any to cut every clip into sequences of {length}"
        )
    return [list(range(0, count - length + 1, length)) for _, count in clips]
