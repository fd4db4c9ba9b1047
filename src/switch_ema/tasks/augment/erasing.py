"""Random erasing: a rectangle of each image covered by noise or by one value."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from switch_ema.errors import InputError
from switch_ema.tasks.augment.base import Draws, chance, check_number, check_range, per_channel, per_image
from switch_ema.tasks.augment.boxes import draw_boxes, inside, place_boxes


@dataclass(frozen=True)
class RandomErasing:
    """Cover a random rectangle of some images.

    Rectangles are drawn as in torchvision and timm: up to ten tries to find one smaller than the image.

    Args:
        probability: Share of the images.
        scale: Smallest and largest share of the image's area, above 0 up to 1.
        ratio: Smallest and largest width / height, above 0.
        value: ``noise`` covers each pixel and channel by ``mean + std * Normal(0, 1)``, not cut to [0, 1]; a number
            covers all by this number.
        mean: Mean of the noise, one or one for each channel. With mean and standard deviation of the data set, erasing
            before normalisation is the same as timm's after it.
        std: Standard deviation of the noise.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> erase = RandomErasing(0.25)
        >>> erase(torch.rand(8, 3, 32, 32), erase.draw(8, torch.Generator().manual_seed(0))).shape
        torch.Size([8, 3, 32, 32])
    """

    probability: float = 0.25
    scale: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    value: float | str = "noise"
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.25

    def __post_init__(self) -> None:
        check_number("RandomErasing", "probability", self.probability, 0, 1)
        check_range("RandomErasing", "scale", self.scale, 0, 1)
        check_range("RandomErasing", "ratio", self.ratio, 0)
        if isinstance(self.value, str) and self.value != "noise":
            raise InputError(f"RandomErasing: value {self.value!r}: write 'noise' or a number")

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw rectangles (see `draw_boxes`), which images are changed, (count,), and the noise's seeds, (count,)."""
        boxes = draw_boxes(count, self.scale, self.ratio, generator)
        erased = chance(count, self.probability, generator)
        return *boxes, erased, torch.randint(-(2**31), 2**31, (count,), generator=generator, dtype=torch.int32)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Change images (n, c, h, w)."""
        *boxes, erased, seeds = draws
        _, channels, height, width = images.shape
        top, left, tall, wide, found = place_boxes(tuple(boxes), height, width, margin=1)
        covered = inside(top, left, top + tall, left + wide, height, width) & per_image(erased & found)
        if not isinstance(self.value, str):
            return images.masked_fill(covered, self.value)
        mean, std = (per_channel(value, images.device) for value in (self.mean, self.std))
        noise = normal(seeds, channels * height * width).view(images.shape)
        return torch.where(covered, noise.mul_(std).add_(mean).to(images.dtype), images)


def normal(seeds: Tensor, count: int) -> Tensor:
    """Make standard normal noise that depends on each sample's seed alone, not on the device or the batch.

    A number's place and seed are hashed (MurmurHash3's finalizer) to a uniform number, whose normal quantile it is.

    Args:
        seeds: Whole numbers, int32 (n,).
        count: Numbers for each sample, below 2^31.

    Returns:
        Floats (n, count).
    """
    places = torch.arange(count, dtype=torch.int32, device=seeds.device)
    uniform = _mixed(places ^ _mixed(seeds.clone())[:, None]).bitwise_right_shift_(9).bitwise_and_(0x7FFFFF)
    return uniform.add(0.5).mul_(2.0**-22).sub_(1).erfinv_().mul_(math.sqrt(2))


def _mixed(numbers: Tensor) -> Tensor:
    """Hash int32 numbers one to one, in place; products wrap around."""
    numbers ^= (numbers >> 16).bitwise_and_(0xFFFF)
    numbers *= -2048144789  # 0x85EBCA6B
    numbers ^= (numbers >> 13).bitwise_and_(0x7FFFF)
    numbers *= -1028477387  # 0xC2B2AE35
    numbers ^= (numbers >> 16).bitwise_and_(0xFFFF)
    return numbers
