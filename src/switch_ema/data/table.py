"""What every reader returns: the labels at once, the images when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Table:
    """Labelled images of which only the labels are read yet.

    Attributes:
        where: The file or folder, for messages.
        labels: Class of each row, int64 of shape (rows,).
        class_names: Name of each class; empty when the data have only numbers.
        read: Maps row numbers to their images, uint8 of shape (n, height, width, channels).
    """

    where: str
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
