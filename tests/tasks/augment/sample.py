"""Images and calls that the tests of augmentations share."""

from __future__ import annotations

import torch
from torch import Tensor

from switch_ema.tasks.augment.base import Augmentation, Draws


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stored(count: int, height: int = 32, width: int = 32, channels: int = 3, seed: int = 0) -> Tensor:
    """Random bytes (n, h, w, c), smooth enough that resizing them is no lottery."""
    noise = torch.rand(count, channels, -(-height // 4), -(-width // 4), generator=generator(seed))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bilinear")
    return smooth.mul(256).byte().permute(0, 2, 3, 1).contiguous()


def floats(count: int, height: int = 32, width: int = 32, channels: int = 3, seed: int = 0) -> Tensor:
    """The same as floats (n, c, h, w) in [0, 1]."""
    return stored(count, height, width, channels, seed).permute(0, 3, 1, 2).float().div(255).contiguous()


def applied(augment: Augmentation, images: Tensor, seed: int = 0) -> tuple[Tensor, Draws]:
    draws = augment.draw(len(images), generator(seed))
    return augment(images, draws), draws
