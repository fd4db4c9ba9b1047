"""What every reader returns: the labels at once, the images when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

Entry = tuple[str, "str | IO[bytes] | None"]
"""What to call an encoded image in messages, and its path or stream; None where the data lack it."""


@dataclass(frozen=True)
class Encoded:
    """Reads rows that are encoded image files, such as JPEG; can be pickled if `entry` can.

    Attributes:
        entry: Maps a row number to its encoded image.
        image_size: Side to scale and crop the images to; None keeps them.
    """

    entry: Callable[[int], Entry]
    image_size: int | None

    def __call__(self, rows: NDArray[np.int64], skipped: list[int] | None = None) -> NDArray[np.uint8]:
        """Decode rows into one array; see `switch_ema.data.decode.decode`."""
        from switch_ema.data.decode import decode

        return decode(map(self.entry, rows.tolist()), len(rows), self.image_size, skipped)


@dataclass(frozen=True)
class Paths:
    """Maps row numbers to image files; names are one array of bytes, so that worker processes share it.

    Attributes:
        folder: The folder that holds all of them.
        names: Paths below it, encoded for the file system, of shape (rows,).
    """

    folder: str
    names: NDArray[np.bytes_]

    def __call__(self, row: int) -> Entry:
        """Return the path of a row, twice: it is its own name."""
        import os

        path = os.path.join(self.folder, os.fsdecode(self.names[row]))
        return path, path


@dataclass(frozen=True)
class Table:
    """Labelled images of which only the labels are read yet.

    Attributes:
        where: The file or folder, for messages.
        labels: Class of each row, int64 of shape (rows,); -1 where nobody has named it.
        class_names: Name of each class; empty when the data have only numbers.
        read: Maps row numbers to their images, uint8 of shape (n, height, width, channels).
    """

    where: str
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]

    def read_good(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[int]]:
        """Read rows, leaving out images that are damaged.

        Args:
            rows: Row numbers.

        Returns:
            The readable images, and which positions of `rows` were left out.

        Raises:
            InputError: The file itself is damaged, or an image is readable but unfit.
        """
        skipped: list[int] = []
        images = self.read(rows, skipped) if isinstance(self.read, Encoded) else self.read(rows)
        return images, skipped

    def open(self, row: int) -> Image:
        """Read the image of one row as it is in the data, without scaling where it is an encoded file.

        Args:
            row: Row number, 0 to ``len(labels) - 1``.

        Returns:
            The image, decoded, of mode ``L`` or ``RGB``.

        Raises:
            InputError: The image is damaged, or of another kind than 8 bits a channel.
        """
        import numpy as np
        from PIL import Image

        from switch_ema.data.decode import open_image

        if isinstance(self.read, Encoded):
            return open_image(*self.read.entry(row))
        pixels = self.read(np.array([row]))[0]
        return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def table_of_files(
    where: str, folder: str, files: list[tuple[str, int]], class_names: tuple[str, ...], image_size: int | None
) -> Table:
    """Make a table of image files.

    Args:
        where: The file or folder, for messages.
        folder: The folder that holds all of the images.
        files: For each image its path below `folder` and its class.
        class_names: Name of each class.
        image_size: Side to scale and crop the images to; None keeps them.

    Returns:
        The table, in the order of `files`.
    """
    import os

    import numpy as np

    names = np.array([os.fsencode(name) for name, _ in files], np.bytes_)
    labels = np.array([label for _, label in files], np.int64)
    return Table(where, labels, class_names, Encoded(Paths(folder, names), image_size))
