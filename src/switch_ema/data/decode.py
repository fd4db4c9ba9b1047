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


class UnreadableImageError(InputError):
    """One image of a data set cannot be read; `skip_corrupt` leaves it out."""


def decode(
    files: Iterable[tuple[str, str | IO[bytes] | None]],
    count: int,
    image_size: int | None,
    skipped: list[int] | None = None,
) -> NDArray[np.uint8]:
    """Decode images of one size into one array: grey if all are grey, else RGB.

    Args:
        files: For each image what to call it in messages, and its path or stream; None where the data lack it.
        count: Number of files.
        image_size: Scale the shorter side to this and crop the centre; None keeps the images as they are.
        skipped: None refuses images that cannot be read; a list takes their positions, and they are left out.

    Returns:
        Array of shape (count - len(skipped), height, width, 1 or 3).

    Raises:
        InputError: A file is no image, is damaged, has another size than the first, or more than 8 bits a channel.
    """
    images: NDArray[np.uint8] | None = None
    unreadable: list[int] = []
    first_error: UnreadableImageError | None = None
    for row, (where, file) in enumerate(files):
        try:
            pixels = as_array(fit(open_image(where, file), image_size))
        except UnreadableImageError as error:
            first_error = first_error or error
            unreadable.append(row)
            continue
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
    if first_error is not None and (skipped is None or images is None):
        raise _refusal(first_error, len(unreadable), count, all_of_them=images is None)
    if skipped is not None:
        skipped.extend(unreadable)
    if images is None:
        return np.empty((0, 1, 1, 1), np.uint8)
    return np.delete(images, unreadable, axis=0) if unreadable else images


def open_image(where: str, file: str | IO[bytes] | None) -> Image.Image:
    """Decode one image.

    Args:
        where: What to call it in messages.
        file: Its path or stream; None where the data lack it.

    Returns:
        The image, of mode ``L`` or ``RGB``.

    Raises:
        UnreadableImageError: It is no image, is damaged, or is not there.
        InputError: It has more than 8 bits a channel.
    """
    if file is None:
        raise UnreadableImageError(f"{where}: the image has no bytes")
    try:
        with Image.open(file) as image:
            mode = image.mode
            if mode in _GREY + _COLOUR:
                return image.convert("L" if mode in _GREY else "RGB")
    except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
        reason = str(error).replace("\n", " ") or type(error).__name__
        raise UnreadableImageError(f"{where}: not a readable image ({reason})") from error
    # 16-bit and float images: a conversion would clip them
    raise InputError(f"{where}: pixels of mode {mode}; convert the image to 8 bits a channel")


def resize(images: NDArray[np.uint8], image_size: int | None) -> NDArray[np.uint8]:
    """Scale images of shape (n, height, width, 1 or 3) as `decode` does."""
    if image_size is None or images.shape[1:3] == (image_size, image_size):
        return images
    grey = images.shape[3] == 1
    fitted = [fit(Image.fromarray(image[..., 0] if grey else image), image_size) for image in images]
    return np.stack([as_array(image) for image in fitted])


def fit(image: Image.Image, image_size: int | None) -> Image.Image:
    """Scale the shorter side to a size and crop the centre; None keeps the image."""
    if image_size is None or image.size == (image_size, image_size):
        return image
    return ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of an image of mode ``L`` or ``RGB``, of shape (height, width, 1 or 3)."""
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _refusal(first: UnreadableImageError, unreadable: int, count: int, *, all_of_them: bool) -> InputError:
    if all_of_them and count > 1:
        return InputError(f"{first}; so are all {count} images read with it: is this the right folder?")
    more = f"; {unreadable} of {count} images cannot be read" if unreadable > 1 else ""
    return InputError(f"{first}{more}; replace or remove {'them' if more else 'it'}, or write --skip-corrupt")
