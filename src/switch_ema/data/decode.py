"""Encoded image files to one uint8 array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GREY = ("1", "L", "LA")
_COLOUR = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")


def decode(files: Iterable[tuple[str, str | IO[bytes]]], count: int, image_size: int | None) -> NDArray[np.uint8]:
    """Decode images of one size into one array: grey if all are grey, else RGB.

    Args:
        files: For each image what to call it in messages, and its path or stream.
        count: Number of files.
        image_size: Scale the shorter side to this and crop the centre; None keeps the images as they are.

    Returns:
        Array of shape (count, height, width, 1 or 3).

    Raises:
        InputError: A file is no image, is damaged, or has another size than the first.
    """
    images: NDArray[np.uint8] | None = None
    for row, (where, file) in enumerate(files):
        pixels = _pixels(where, file, image_size)
        if images is None:
            images = np.empty((count, *pixels.shape), np.uint8)
        elif pixels.shape[:2] != images.shape[1:3]:
            first, this = (f"{w}x{h}" for h, w in (images.shape[1:3], pixels.shape[:2]))
            raise InputError(
                f"{where}: the image is {this}, the first one {first}; give --image-size to make all equal"
            )
        if pixels.shape[2] > images.shape[3]:
            images = np.repeat(images, 3, axis=3)
        images[row] = pixels  # a grey image among coloured ones is broadcast over the channels
    return np.empty((0, 1, 1, 1), np.uint8) if images is None else images


def resize(images: NDArray[np.uint8], image_size: int | None) -> NDArray[np.uint8]:
    """Scale grey images of shape (n, height, width, 1) as `decode` does."""
    if image_size is None:
        return images
    return np.stack([_fit(Image.fromarray(image[..., 0]), image_size) for image in images])


def _pixels(where: str, file: str | IO[bytes], image_size: int | None) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            if image.mode not in _GREY + _COLOUR:  # 16-bit and float images: a conversion would clip them
                raise InputError(f"{where}: pixels of mode {image.mode}; convert the image to 8 bits a channel")
            return _fit(image.convert("L" if image.mode in _GREY else "RGB"), image_size)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).replace("\n", " ")
        raise InputError(f"{where}: not a readable image ({reason}); replace or remove it") from error


def _fit(image: Image.Image, image_size: int | None) -> NDArray[np.uint8]:
    if image_size is not None and image.size != (image_size, image_size):
        image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels
