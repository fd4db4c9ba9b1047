"""The U-Nets that learn to denoise, described with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from switch_ema.errors import FieldError


@dataclass(frozen=True)
class UNet:
    """The shape of a U-Net.

    Attributes:
        about: One line that describes it.
        channels: Channels on each level; every level below the first has half the side of the one above.
        blocks: Residual blocks on each level, on the way down.
        attention: The level that has self-attention, beside the middle, which always has it.
        groups: Groups of GroupNorm.
        dropout: Rate of dropout, unless told.
    """

    about: str
    channels: tuple[int, ...]
    blocks: int
    attention: int
    groups: int
    dropout: float


UNETS: Mapping[str, UNet] = {
    "unet-small": UNet(
        "U-Net of 16, 32 and 64 channels, attention at half the side; 0.65 million parameters",
        (16, 32, 64), blocks=1, attention=1, groups=8, dropout=0.0,
    ),
    "unet-cifar10": UNet(
        "the U-Net of DDPM for CIFAR-10: 128 to 256 channels, attention at half the side; 35.7 million parameters",
        (128, 256, 256, 256), blocks=2, attention=1, groups=32, dropout=0.1,
    ),
    "unet-celeba64": UNet(
        "the U-Net of DDIM for CelebA at 64x64: 128 to 512 channels, attention at a quarter of the side; "
        "78.7 million parameters",
        (128, 256, 256, 256, 512), blocks=2, attention=2, groups=32, dropout=0.1,
    ),
}  # fmt: skip
"""All U-Nets by name."""


def check_size(model: str, size: int) -> None:
    """Refuse images that the network cannot halve as often as it has to.

    Args:
        model: One of `UNETS`.
        size: Side of the images in pixels.

    Raises:
        FieldError: The side is no multiple of 2^(levels - 1).

    Example:
        >>> check_size("unet-cifar10", 28)
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: image_size 28: unet-cifar10 halves the side 3 times; write 24 or 32
    """
    halvings = len(UNETS[model].channels) - 1
    unit = 2**halvings
    if size % unit:
        lower = size // unit * unit
        nearest = f"{lower} or {lower + unit}" if lower else f"{unit}"
        raise FieldError("image_size", f"{size}: {model} halves the side {halvings} times; write {nearest}")
