"""Random crops of stored bytes (n, h, w, c): shifted and mirrored, or resized from a random part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from switch_ema.errors import InputError, unknown
from switch_ema.tasks.augment.base import Draws, ToFloat, chance, check_range
from switch_ema.tasks.augment.boxes import Boxes, draw_boxes, place_boxes
from switch_ema.tasks.augment.resample import Interpolation, filtered, reflect, resizing


@dataclass(frozen=True)
class ShiftFlip:
    """Shift each image by up to `padding` pixels in both directions, and mirror every other one.

    The same as padding, cropping at random to the old size, and flipping at random; no padded image is made.

    Args:
        padding: Largest shift in pixels, from 0; less than the side of the images where they are reflected.
        flip: Whether to mirror.
        mode: ``reflect`` mirrors the image at its border, ``zero`` puts 0 there.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> crop = ShiftFlip(4)
        >>> storage = torch.zeros(50, 32, 32, 3, dtype=torch.uint8)
        >>> draws = crop.draw(8, torch.Generator().manual_seed(0))
        >>> crop.gather(storage, torch.arange(8), draws).shape
        torch.Size([8, 32, 32, 3])
    """

    padding: int
    flip: bool = True
    mode: Literal["reflect", "zero"] = "reflect"

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise InputError(f"ShiftFlip: padding {self.padding}: write 0 or more pixels")
        if self.mode not in ("reflect", "zero"):
            raise unknown("mode of ShiftFlip", self.mode, ("reflect", "zero"))

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw shifts, (count, 2), and whether to mirror, (count,)."""
        shifts = torch.randint(-self.padding, self.padding + 1, (count, 2), generator=generator)
        return shifts, chance(count, 0.5 if self.flip else 0.0, generator)

    def gather(self, images: Tensor, rows: Tensor, draws: Draws) -> Tensor:
        """Choose images from storage, shift and mirror them, by one indexing operation.

        Args:
            images: The storage (N, h, w, c), of any type.
            rows: Numbers of the chosen images, (n,).
            draws: Their random numbers.

        Returns:
            (n, h, w, c) of the storage's type.

        Raises:
            InputError: Images are too small to be reflected this far.
        """
        _, height, width, channels = images.shape
        shifts, mirrored = draws
        y = torch.arange(height, device=images.device) + shifts[:, :1]
        x = torch.arange(width, device=images.device)
        x = torch.where(mirrored[:, None], x.flip(0), x) + shifts[:, 1:]
        if self.mode == "zero":
            outside = ((y < 0) | (y >= height))[:, :, None] | ((x < 0) | (x >= width))[:, None, :]
            y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
        elif self.padding < min(height, width):
            y, x = reflect(y, height), reflect(x, width)
        else:
            raise InputError(
                f"ShiftFlip: padding {self.padding} for images of {height} x {width}: "
                f"write at most {min(height, width) - 1}, or mode 'zero'"
            )
        # one flat list of pixels: on a CPU faster than an index for each axis
        pixels = ((rows[:, None] * height + y) * width)[:, :, None] + x[:, None, :]
        chosen = images.reshape(-1, channels).index_select(0, pixels.flatten()).view(*pixels.shape, channels)
        return chosen.masked_fill_(outside[..., None], 0) if self.mode == "zero" else chosen

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Shift and mirror images (n, h, w, c)."""
        return self.gather(images, torch.arange(len(images), device=images.device), draws)


@dataclass(frozen=True)
class ResizedCrop:
    """Resize a random part of each image to one size, and mirror every other one.

    The part's area and ratio are drawn as in torchvision: up to ten tries, then the middle of the image. Resizing is
    anti-aliased by the same filter as Pillow's and torchvision's, exactly (see `resample.resizing`): the results differ
    from theirs by rounding only.

    Args:
        size: Side of the results in pixels, from 1.
        scale: Smallest and largest share of the image's area, above 0 up to 1.
        ratio: Smallest and largest width / height, above 0.
        flip: Whether to mirror.
        interpolation: ``bilinear`` or ``bicubic``.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> crop = ResizedCrop(24, scale=(0.2, 1))
        >>> images = torch.zeros(8, 32, 32, 3, dtype=torch.uint8)
        >>> crop(images, crop.draw(8, torch.Generator().manual_seed(0))).shape
        torch.Size([8, 3, 24, 24])
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"ResizedCrop: size {self.size}: write 1 or more pixels")
        check_range("ResizedCrop", "scale", self.scale, 0, 1)
        check_range("ResizedCrop", "ratio", self.ratio, 0)
        if self.interpolation not in ("bilinear", "bicubic"):
            raise unknown("interpolation of ResizedCrop", self.interpolation, ("bilinear", "bicubic"))

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw the parts (see `draw_boxes`) and whether to mirror."""
        boxes = draw_boxes(count, self.scale, self.ratio, generator)
        return *boxes, chance(count, 0.5 if self.flip else 0.0, generator)

    def boxes(self, draws: Draws, height: int, width: int) -> Boxes:
        """Find the parts that are kept of images of this size."""
        boxes = place_boxes(draws[:3], height, width)
        tall, wide = self._middle(height, width)
        middle = ((height - tall) // 2, (width - wide) // 2, tall, wide)
        top, left, kept_height, kept_width = (
            torch.where(boxes.found, tried, float(other)) for tried, other in zip(boxes[:4], middle, strict=True)
        )
        return Boxes(top, left, kept_height, kept_width, boxes.found)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Crop and resize bytes (n, h, w, c) to floats (n, c, size, size) in [0, 1]."""
        _, height, width, _ = images.shape
        boxes, mirrored = self.boxes(draws, height, width), draws[3]
        places = torch.arange(self.size, device=images.device).expand(len(images), -1)
        turned = torch.where(mirrored[:, None], places.flip(1), places)
        rows = resizing(boxes.top, boxes.height, places, height, self.interpolation)
        columns = resizing(boxes.left, boxes.width, turned, width, self.interpolation)
        return filtered(ToFloat()(images, ()), rows, columns).clamp_(0, 1)

    def _middle(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the largest part in the middle whose ratio is allowed."""
        least, most = self.ratio
        if width / height < least:
            return round(width / least), width
        if width / height > most:
            return height, round(height * most)
        return height, width
