"""Resizing and blurring of many images, each by its own filter, as two batched matrix products.

Every row of the result is a weighted mean of rows of the image, and so is every column: with the weights as matrices,
one for each sample, ``result = rows @ image @ columns^T``. No approximation is made, and no sample needs a loop.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]


def reflect(index: Tensor, size: int) -> Tensor:
    """Fold positions less than `size` outside of 0 to size - 1 back at the border, as reflect padding does."""
    last = size - 1
    return last - (last - index.abs()).abs()


def filtered(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``rows @ image @ columns^T`` for every sample and channel.

    Args:
        images: (n, c, h, w).
        rows: Weights of the image's rows in those of the result, (n, a, h).
        columns: The same for columns, (n, b, w).

    Returns:
        (n, c, a, b).
    """
    count, channels, height, width = images.shape
    narrow = images.reshape(count, channels * height, width) @ columns.transpose(1, 2)
    return rows[:, None] @ narrow.view(count, channels, height, -1)


def resizing(start: Tensor, length: Tensor, places: Tensor, total: int, interpolation: Interpolation) -> Tensor:
    """Make the weights that resize a part of an axis, anti-aliased as in Pillow and torchvision.

    The filter is a triangle (bilinear) or Keys' cubic with a = -0.5 (bicubic), as wide as the step from one pixel of
    the result to the next where that is more than one pixel of the image; pixels outside of the part do not count.

    Args:
        start: First pixel of the part, (n,).
        length: Number of its pixels, (n,).
        places: Which pixel of the resized part comes where, (n, size).
        total: Length of the axis.
        interpolation: ``bilinear`` or ``bicubic``.

    Returns:
        Weights of shape (n, size, total); each row sums to 1.
    """
    start, length = start[:, None, None], length[:, None, None]
    step = length / places.shape[1]
    pixels = torch.arange(total, device=places.device) + 0.5
    distance = (pixels - (start + step * (places[:, :, None] + 0.5))).abs() / step.clamp(min=1)
    if interpolation == "bilinear":
        weights = (1 - distance).clamp(min=0)
    else:
        distance = distance.clamp_(max=2)  # where `far` is 0
        near = (1.5 * distance - 2.5) * distance.square() + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = torch.where(distance < 1, near, far)
    weights = weights * ((pixels > start) & (pixels < start + length))
    return weights / weights.sum(2, keepdim=True)


def blurring(sigma: Tensor, radius: int, total: int) -> Tensor:
    """Make the weights that blur an axis, reflected at its ends, by ``exp(-distance^2 / (2 sigma^2))``.

    Args:
        sigma: Standard deviation of each sample's bell in pixels, (n,); 0 leaves the sample as it is.
        radius: Where the bells are cut off, less than `total`.
        total: Length of the axis.

    Returns:
        Weights of shape (n, total, total); each row sums to 1.
    """
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    bells = torch.softmax(-0.5 * (offsets / sigma.clamp(min=1e-6)[:, None]).square(), dim=1)  # softmax: no 0 / 0
    sources = reflect(torch.arange(total, device=sigma.device)[:, None] + offsets, total)
    reads = torch.eye(total, device=sigma.device)[sources]  # (total, 2 radius + 1, total)
    weights: Tensor = torch.tensordot(bells, reads, dims=([1], [1]))
    return weights
