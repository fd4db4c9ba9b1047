"""The random views of contrastive learning: from stored bytes (n, h, w, c) to floats (n, c, size, size) in [0, 1]."""

from __future__ import annotations

from switch_ema.tasks.augment.base import Augmentation, Chain, check_number
from switch_ema.tasks.augment.colour import Blur, ColourJitter, Greyscale, Solarize
from switch_ema.tasks.augment.crop import ResizedCrop


def simclr_view(size: int, strength: float = 1.0, blur: bool = True) -> Chain:
    """Make SimCLR's view: crop, colours 0.8 strong (hue 0.2) with probability 0.8, grey 0.2, blur 0.5.

    Args:
        size: Side of the views in pixels, from 1.
        strength: Of the change of colours, 0 to 2.5; the paper's is 1 for ImageNet and 0.5 for CIFAR.
        blur: Whether to blur; the paper does not for CIFAR.

    Returns:
        A chain to be called as ``view(bytes, view.draw(count, generator))``.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> import torch
        >>> view = simclr_view(32, strength=0.5, blur=False)
        >>> images = torch.zeros(8, 32, 32, 3, dtype=torch.uint8)
        >>> view(images, view.draw(8, torch.Generator().manual_seed(0))).shape
        torch.Size([8, 3, 32, 32])
    """
    check_number("simclr_view", "strength", strength, 0, 2.5)
    steps: tuple[Augmentation, ...] = (
        ResizedCrop(size, interpolation="bicubic"),
        ColourJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength, probability=0.8),
        Greyscale(0.2),
    )
    return Chain((*steps, Blur(probability=0.5)) if blur else steps)


def moco_v2_view(size: int) -> Chain:
    """Make MoCo v2's view: crop of a fifth or more, colours 0.4 strong (hue 0.1, probability 0.8), grey 0.2, blur.

    Args:
        size: Side of the views in pixels, from 1.

    Returns:
        A chain, as `simclr_view` does.

    Raises:
        InputError: The size is out of range.
    """
    return Chain(
        (
            ResizedCrop(size, scale=(0.2, 1.0)),
            ColourJitter(0.4, 0.4, 0.4, 0.1, probability=0.8),
            Greyscale(0.2),
            Blur(probability=0.5),
        )
    )


def byol_views(size: int) -> tuple[Chain, Chain]:
    """Make BYOL's two views: the first always blurred, the second one time in ten but solarized one time in five.

    Both: crop, colours 0.4 strong (saturation 0.2, hue 0.1) with probability 0.8, grey 0.2.

    Args:
        size: Side of the views in pixels, from 1.

    Returns:
        Two chains, as `simclr_view` does.

    Raises:
        InputError: The size is out of range.
    """
    shared: tuple[Augmentation, ...] = (
        ResizedCrop(size, interpolation="bicubic"),
        ColourJitter(0.4, 0.4, 0.2, 0.1, probability=0.8),
        Greyscale(0.2),
    )
    first = Chain((*shared, Blur(probability=1.0), Solarize(0.5, probability=0.0)))
    return first, Chain((*shared, Blur(probability=0.1), Solarize(0.5, probability=0.2)))
