"""Images that are stored as plain numbers: arrays in memory, and files of records of one length."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from switch_ema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pixels:
    """Reads rows of an array.

    Attributes:
        images: uint8 of shape (rows, height, width, 1 or 3).
        image_size: Side to scale and crop the images to; None keeps them.
    """

    images: NDArray[np.uint8]
    image_size: int | None

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of the given rows."""
        from switch_ema.data.decode import resize

        return resize(self.images[rows], self.image_size)


@dataclass(frozen=True)
class Records:
    """Reads rows of files that hold one record after another: some bytes, then the three planes of an image.

    The files are mapped when rows are read, so they need not fit into memory, and a worker process gets names alone.

    Attributes:
        files: The files, in order, and how many records each has.
        side: Height and width of an image.
        header: Bytes before the pixels of every record.
        column_major: Whether a plane is stored column after column.
        image_size: Side to scale and crop the images to; None keeps them.
    """

    files: tuple[tuple[str, int], ...]
    side: int
    header: int
    column_major: bool
    image_size: int | None

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of the given rows."""
        import numpy as np

        from switch_ema.data.decode import resize

        planes = np.empty((len(rows), 3, self.side, self.side), np.uint8)
        start = 0
        for file, count in self.files:
            mine = (rows >= start) & (rows < start + count)
            if mine.any():
                planes[mine] = self._map(file)[rows[mine] - start, self.header :].reshape(-1, *planes.shape[1:])
            start += count
        order = (0, 3, 2, 1) if self.column_major else (0, 2, 3, 1)
        return resize(np.ascontiguousarray(planes.transpose(order)), self.image_size)

    def headers(self) -> NDArray[np.uint8]:
        """Return the bytes before the pixels, of shape (rows, header)."""
        import numpy as np

        return np.concatenate([self._map(file)[:, : self.header] for file, _ in self.files])

    def _map(self, file: str) -> NDArray[np.uint8]:
        import numpy as np

        return np.memmap(file, np.uint8, "r").reshape(-1, self.header + 3 * self.side**2)


def count_records(file: str, length: int) -> int:
    """Count the records of a file by its size.

    Args:
        file: The file.
        length: Bytes of a record.

    Returns:
        How many there are, at least 1.

    Raises:
        InputError: The file is missing, empty or truncated.
    """
    if not os.path.isfile(file):
        raise InputError(f"{file}: no such file; copy or download it again")
    size = os.path.getsize(file)
    if size == 0:
        raise InputError(f"{file}: the file is empty; copy or download it again")
    if size % length:
        raise InputError(f"{file}: {size} bytes, no multiple of {length}, the size of a record; copy it again")
    return size // length
