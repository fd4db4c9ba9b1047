"""What an augmentation is: random numbers drawn on the CPU for many samples, then applied where the images are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from switch_ema.errors import InputError

Draws = tuple[Tensor, ...]
"""All random numbers of some samples: tensors whose first dimension is the number of samples."""


class Augmentation(Protocol):
    """A random change of images whose random numbers belong to the sample, not to the device or process.

    They are drawn on the CPU for a whole batch or epoch, so they are the same for every device and number of processes;
    each process takes its part by `cut`. An augmentation of a part of the samples, with their part of the draws, is
    the same part of the augmentation of all.
    """

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw all random numbers for `count` samples from a generator on the CPU."""

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Change each image by its own random numbers; `draws` are as many as the images and on their device.

        Images are floats (n, c, h, w) in [0, 1] with c = 1 or 3; crops take bytes (n, h, w, c) instead.
        """


def cut(draws: Draws, where: slice, device: torch.device) -> Draws:
    """Take some samples' share of the random numbers to a device.

    Args:
        draws: What an augmentation's `draw` returned.
        where: Which samples; ``slice(None)`` takes all.
        device: Where their images are.

    Returns:
        The draws of these samples.

    Example:
        >>> cut((torch.arange(4), torch.arange(8).view(4, 2)), slice(1, 3), torch.device("cpu"))
        (tensor([1, 2]), tensor([[2, 3],
                [4, 5]]))
    """
    return tuple(numbers[where].to(device, non_blocking=True) for numbers in draws)


@dataclass(frozen=True)
class Chain:
    """Several augmentations, one after the other, each with random numbers of its own.

    Args:
        steps: The augmentations; what one returns, the next one takes.

    Example:
        >>> from switch_ema.tasks.augment.colour import Flip, Greyscale
        >>> chain = Chain((Flip(), Greyscale(0.2)))
        >>> draws = chain.draw(8, torch.Generator().manual_seed(0))
        >>> chain(torch.rand(8, 3, 16, 16), draws).shape
        torch.Size([8, 3, 16, 16])
    """

    steps: tuple[Augmentation, ...]
    _widths: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        widths = tuple(len(step.draw(0, torch.Generator())) for step in self.steps)
        object.__setattr__(self, "_widths", widths)

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw the random numbers of every step, in their order."""
        return tuple(numbers for step in self.steps for numbers in step.draw(count, generator))

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Apply every step with its own part of the draws."""
        first = 0
        for step, width in zip(self.steps, self._widths, strict=True):
            images = step(images, draws[first : first + width])
            first += width
        return images


@dataclass(frozen=True)
class ToFloat:
    """Bytes (n, h, w, c) to floats (n, c, h, w) in [0, 1]: the step between a crop and what follows it.

    Example:
        >>> ToFloat()(torch.full((1, 2, 2, 3), 51, dtype=torch.uint8), ()).unique()
        tensor([0.2000])
    """

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw nothing."""
        return ()

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Return the images as floats, one plane for each channel."""
        return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def chance(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """Draw for each of `count` samples whether something happens to it, as booleans."""
    return torch.rand(count, generator=generator) < probability


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw evenly from [low, high)."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def per_image(numbers: Tensor) -> Tensor:
    """Give one number per sample, (n,), the shape that meets images (n, c, h, w)."""
    return numbers[:, None, None, None]


def per_channel(value: float | tuple[float, ...], device: torch.device) -> Tensor:
    """Give one value, or one for each channel, the shape that meets images; made on the device, so nothing waits."""
    values = value if isinstance(value, tuple) else (value,)
    return torch.stack([torch.full((1, 1), one, dtype=torch.float32, device=device) for one in values])


def choose(chosen: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    """Take `changed` where the sample is chosen, (n,), else `images`: as torch.where does, but faster on a CPU."""
    return torch.lerp(images, changed, per_image(chosen.to(images.dtype)))


def check_number(where: str, name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a number outside [low, high], and what is not finite."""
    if not (math.isfinite(value) and low <= value <= high):
        allowed = f"a number from {low:g} to {high:g}" if math.isfinite(high) else f"a number of at least {low:g}"
        raise InputError(f"{where}: {name} {value}: write {allowed}")


def check_range(where: str, name: str, value: tuple[float, float], low: float, high: float = math.inf) -> None:
    """Refuse a pair that is not two numbers in order, above `low` and up to `high`."""
    least, most = value
    if not (low < least <= most <= high and math.isfinite(most)):
        allowed = f"above {low:g}" + (f", up to {high:g}" if math.isfinite(high) else "")
        raise InputError(f"{where}: {name} {value}: write (smallest, largest), both {allowed}")
