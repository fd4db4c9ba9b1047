"""Random rectangles of given area and shape: what resized crops keep and what erasing covers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from switch_ema.tasks.augment.base import Draws, uniform

_TRIES = 10  # as in torchvision and timm


class Boxes(NamedTuple):
    """One rectangle for each sample, in pixels, as floats (n,); `found` tells where a try fitted into the image."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    found: Tensor


def draw_boxes(count: int, scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator) -> Draws:
    """Draw what decides rectangles in images of any size.

    Args:
        count: Number of samples.
        scale: Smallest and largest share of the image's area; drawn evenly between them.
        ratio: Smallest and largest width / height; its logarithm is drawn evenly.
        generator: A generator on the CPU.

    Returns:
        Shares of the area and ratios of ten tries, each (count, 10), and the place, (count, 2) from 0 to 1.
    """
    areas = uniform((count, _TRIES), *scale, generator)
    ratios = uniform((count, _TRIES), math.log(ratio[0]), math.log(ratio[1]), generator).exp()
    return areas, ratios, torch.rand(count, 2, generator=generator)


def place_boxes(draws: Draws, height: int, width: int, *, margin: int = 0) -> Boxes:
    """Find each sample's rectangle: its first try that fits into the image.

    Args:
        draws: What `draw_boxes` returned.
        height: Height of the images.
        width: Width of the images.
        margin: How many pixels smaller than the image a rectangle must be.

    Returns:
        The rectangles; those with ``found`` False mean nothing.
    """
    areas, ratios, places = draws
    heights = (areas * (height * width) / ratios).sqrt().round()
    widths = (areas * (height * width) * ratios).sqrt().round()
    fits = (heights >= 1) & (heights <= height - margin) & (widths >= 1) & (widths <= width - margin)
    first = fits.int().argmax(1, keepdim=True)  # 0 where none fits
    tall, wide = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
    top = (places[:, 0] * (height - tall + 1)).floor()
    left = (places[:, 1] * (width - wide + 1)).floor()
    return Boxes(top, left, tall, wide, fits.any(1))


def inside(top: Tensor, left: Tensor, bottom: Tensor, right: Tensor, height: int, width: int) -> Tensor:
    """Mark the pixels of rectangles, whose `bottom` and `right` are the first beyond, as booleans (n, 1, h, w)."""
    y = torch.arange(height, device=top.device)
    x = torch.arange(width, device=top.device)
    rows = (y >= top[:, None]) & (y < bottom[:, None])
    columns = (x >= left[:, None]) & (x < right[:, None])
    return (rows[:, :, None] & columns[:, None, :])[:, None]
