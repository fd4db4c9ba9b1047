"""What every reader of data with numeric targets returns: the targets at once, the inputs when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from switch_ema.data.table import Table


@dataclass(frozen=True)
class NumberTable:
    """Examples with a numeric target, of which only the targets are read yet.

    Attributes:
        targets: Target of each row, float64 of shape (rows,).
        read: Maps row numbers to their inputs and to a mask over the row numbers that says which were readable:
            images, uint8 of shape (n, height, width, channels), or features, float64 of shape (n, features).
        files: The same rows as image files without classes, which can be opened one at a time; None where there are
            no such files.
    """

    targets: NDArray[np.float64]
    read: Callable[[NDArray[np.int64]], tuple[NDArray[Any], NDArray[np.bool_]]]
    files: Table | None = None
