"""What a task shows of a trained model in the report: pictures, shaded text, tables of counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """A picture, or an animation.

    Attributes:
        name: The same for all methods: pictures of one name stand side by side.
        title: Its heading, such as ``Predictions beside the truth``.
        text: One or two sentences that say what is seen.
        frames: uint8 of shape (frames, height, width, 3), on the CPU; more than one frame makes an animation.
        seconds: How long each frame is shown.
    """

    name: str
    title: str
    text: str
    frames: Tensor
    seconds: float = 0.2


@dataclass(frozen=True)
class Passage:
    """A text whose pieces may be shaded.

    Attributes:
        name: The same for all methods.
        title: Its heading.
        text: One or two sentences that say what is seen.
        pieces: The text in pieces, each with a shade from 0 (none) to 1 (full).
    """

    name: str
    title: str
    text: str
    pieces: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Counts:
    """A table of counts, such as a confusion matrix.

    Attributes:
        name: The same for all methods.
        title: Its heading.
        text: One or two sentences that say what is seen.
        rows: Name of each row.
        columns: Name of each column.
        values: The counts, row by row.
    """

    name: str
    title: str
    text: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[int]]


Exhibit = Picture | Passage | Counts
