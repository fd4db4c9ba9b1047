"""Image files that are decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from switch_ema.data.decode import open_image
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT_BYTES = 2 * 1024**3
"""Decoded images of a split stay in memory if all together are smaller than this."""


class Files:
    """Reads image files by their number.

    Args:
        paths: The files.
        sizes: Height and width of each image in pixels, as the annotations have it, of shape (n, 2).
        remedy: What the user may do about an image that cannot be read, for the end of the message.
    """

    def __init__(self, paths: Sequence[str], sizes: NDArray[np.int64], remedy: str) -> None:
        self.sizes = sizes
        self._paths = tuple(paths)
        self._remedy = remedy
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._stay = 3 * int(sizes.prod(axis=1).sum()) < KEPT_BYTES

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        """Return one image, uint8 of shape (height, width, 3).

        Raises:
            InputError: It cannot be read, or has another size than it should.
        """
        try:
            return self._read(number)
        except InputError as error:
            raise InputError(f"{error}; {self._remedy}") from error

    def problem(self, number: int) -> str | None:
        """Say what is wrong with an image, or return None; to be quick, JPEG is decoded at an eighth of its size."""
        try:
            with Image.open(self._paths[number]) as image:
                self._check_size(number, image.size)
                image.draft("RGB", (1, 1))
                image.load()
        except InputError as error:
            return str(error)
        except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
            return f"{self._paths[number]}: not a readable image ({error})"
        return None

    def _read(self, number: int) -> NDArray[np.uint8]:
        if (kept := self._kept.get(number)) is not None:
            return kept
        image = open_image(self._paths[number], self._paths[number])
        self._check_size(number, image.size)
        pixels = np.array(image.convert("RGB"))
        if self._stay:
            self._kept[number] = pixels
        return pixels

    def _check_size(self, number: int, size: tuple[int, int]) -> None:
        height, width = self.sizes[number].tolist()
        if size != (width, height):
            raise InputError(
                f"{self._paths[number]}: the image has {size[0]}x{size[1]} pixels, its annotations say {width}x{height}"
            )
