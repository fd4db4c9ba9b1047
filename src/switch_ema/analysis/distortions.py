"""Parts that corruptions of images are made of: blurs by any path of light, clouds, warps."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

SIDE = 32
"""Images for which lengths in pixels are published; they grow with the shorter side."""


def unit(images: Tensor) -> float:
    """Return the length that is one pixel where the shorter side is 32."""
    return min(images.shape[-2:]) / SIDE


def smear(images: Tensor, paths: Tensor, weights: Tensor) -> Tensor:
    """Average copies of images that are shifted along paths, by convolution with bilinear kernels.

    Args:
        images: (n, c, h, w); mirrored at the border.
        paths: Shifts (n or 1, m, 2) down and to the right in pixels, on the CPU, shorter than the image.
        weights: (m,), sum 1.
    """
    reach = int(paths.abs().max().ceil())
    kernels = _kernels(paths, weights, reach).to(images)
    padded = pad(images, (reach,) * 4, mode="reflect")
    size = padded.shape[-2:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernels, s=size)[:, None]
    smeared: Tensor = torch.fft.irfft2(spectrum, s=size)
    return smeared[..., 2 * reach :, 2 * reach :]


def _kernels(paths: Tensor, weights: Tensor, reach: int) -> Tensor:
    width = 2 * reach + 1
    corner = paths.floor()
    part = paths - corner
    kernels = paths.new_zeros(len(paths), width * width)
    for down in (0, 1):
        for right in (0, 1):
            shares = (part[..., 0] if down else 1 - part[..., 0]) * (part[..., 1] if right else 1 - part[..., 1])
            row, column = (corner + reach + torch.tensor([down, right])).clamp(max=width - 1).long().unbind(-1)
            kernels.scatter_add_(1, row * width + column, shares * weights)
    return kernels.view(-1, width, width)


def disc(radius: float) -> tuple[Tensor, Tensor]:
    """Return shifts evenly over a disc, and their weights: what is out of focus."""
    count = max(64, math.ceil(8 * radius**2))
    index = torch.arange(count) + 0.5
    length, angle = radius * (index / count).sqrt(), index * math.pi * (3 - math.sqrt(5))  # Vogel's spiral
    return torch.stack([angle.sin(), angle.cos()], 1).mul(length[:, None])[None], torch.full((count,), 1 / count)


def trails(degrees: Tensor, length: float, sigma: float) -> tuple[Tensor, Tensor]:
    """Return shifts along a ray for each angle, and weights that fall off as half of a Gaussian: what has moved."""
    steps = torch.linspace(0, length, max(16, 2 * math.ceil(length)))
    angle = torch.deg2rad(degrees)
    weights = torch.exp(-0.5 * (steps / sigma).square())
    return torch.stack([angle.sin(), angle.cos()], 1)[:, None] * steps[:, None], weights / weights.sum()


def zoomed(images: Tensor, factor: float) -> Tensor:
    """Enlarge images about their centre, and cut them to their size."""
    theta = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]]).to(images).expand(len(images), 2, 3)
    return grid_sample(images, affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)


def clouds(count: int, height: int, width: int, decay: float, generator: torch.Generator) -> Tensor:
    """Return (count, 1, height, width) from 0 to 1: noise of 2, 4, 8, ... cells a side, each 1 / decay^2 as strong."""
    total = torch.zeros(count, 1, height, width)
    for octave in range(1, math.ceil(math.log2(max(height, width))) + 1):
        noise = torch.rand(count, 1, 2**octave + 1, 2**octave + 1, generator=generator)
        total += interpolate(noise, (height, width), mode="bilinear", align_corners=True) / decay ** (2 * octave)
    low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
    return (total - low) / (high - low)


def bent(images: Tensor, affine: float, rough: float, generator: torch.Generator) -> Tensor:
    """Bend images by a random affine map and a random smooth field, both anew for each image.

    Args:
        images: (n, c, h, w); mirrored at the border.
        affine: By how much the entries of the map of [-1, 1]^2 move at most.
        rough: Standard deviation of the displacement at 8 x 8 points, as a share of the side; cubic in between.
        generator: On the CPU.
    """
    count = len(images)
    theta = torch.eye(2, 3) + affine * (2 * torch.rand(count, 2, 3, generator=generator) - 1)
    points = 2 * rough * torch.randn(count, 2, 8, 8, generator=generator)
    field = interpolate(points, images.shape[-2:], mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    grid = affine_grid(theta, list(images.shape), align_corners=False) + field
    return grid_sample(images, grid.to(images), padding_mode="reflection", align_corners=False)
