"""Random colour changes, blur and mirroring: each sample by its own numbers, as torchvision does one at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from switch_ema.errors import InputError
from switch_ema.tasks.augment import pixels
from switch_ema.tasks.augment.base import Draws, chance, check_number, check_range, choose, per_image, uniform
from switch_ema.tasks.augment.resample import blurring, filtered

_CONTRAST, _SATURATION = 1, 2  # brightness, 0, has no base but black


@dataclass(frozen=True)
class ColourJitter:
    """Change brightness, contrast, saturation and hue.

    The first three come in an order drawn for each sample: all are ``factor * image + (1 - factor) * base``, the base
    being black, the mean brightness, or the grey image, so every sample's turn is one formula. Hue comes last
    (torchvision draws its place too). Saturation and hue leave images of one channel as they are.

    Args:
        brightness: Factors are drawn evenly from max(0, 1 - brightness) to 1 + brightness; from 0.
        contrast: The same for contrast.
        saturation: The same for saturation.
        hue: Turns are drawn evenly from -hue to hue, in circles; 0 to 0.5.
        probability: Of a sample to be changed at all.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> jitter = ColourJitter(0.4, 0.4, 0.4, 0.1, probability=0.8)
        >>> jitter(torch.rand(8, 3, 16, 16), jitter.draw(8, torch.Generator().manual_seed(0))).shape
        torch.Size([8, 3, 16, 16])
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            check_number("ColourJitter", name, getattr(self, name), 0)
        check_number("ColourJitter", "hue", self.hue, 0, 0.5)
        check_number("ColourJitter", "probability", self.probability, 0, 1)

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw factors (count, 3), their order (count, 3), and turns of the hue (count,): 1 and 0 for no change."""
        spread = torch.tensor([self.brightness, self.contrast, self.saturation])
        low = (1 - spread).clamp(min=0)
        factors = torch.rand(count, 3, generator=generator) * (1 + spread - low) + low
        order = torch.rand(count, 3, generator=generator).argsort(1)
        turns = uniform((count,), -self.hue, self.hue, generator)
        changed = chance(count, self.probability, generator)
        return torch.where(changed[:, None], factors, 1.0), order, turns * changed

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Change images (n, c, h, w) in [0, 1]."""
        factors, order, turns = draws
        for turn in range(3):
            kind = order[:, turn]
            grey = pixels.grey(images)
            mean = grey.mean((2, 3), keepdim=True)
            base = grey * per_image(kind == _SATURATION) + mean * per_image(kind == _CONTRAST)
            images = pixels.blend(images, base, factors.gather(1, kind[:, None])[:, 0])
        return pixels.hue(images, turns) if self.hue else images


@dataclass(frozen=True)
class Greyscale:
    """Make some images grey, with as many channels as before.

    Args:
        probability: Share of the images.

    Raises:
        InputError: The probability is not in [0, 1].

    Example:
        >>> grey = Greyscale(1)(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), (torch.tensor([True]),))
        >>> grey.flatten()
        tensor([0.2989, 0.2989, 0.2989])
    """

    probability: float

    def __post_init__(self) -> None:
        check_number("Greyscale", "probability", self.probability, 0, 1)

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw which become grey, (count,)."""
        return (chance(count, self.probability, generator),)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Change images (n, c, h, w)."""
        return choose(draws[0], pixels.grey(images), images)


@dataclass(frozen=True)
class Blur:
    """Blur some images by ``exp(-distance^2 / (2 sigma^2))``, reflected at the border.

    Args:
        sigma: Smallest and largest standard deviation in pixels, above 0; drawn evenly between them.
        probability: Share of the images.
        kernel_size: Odd width in pixels after which the bell is cut off; None is wide enough for the largest sigma:
            three of it to each side. (SimCLR takes a tenth of the side, which on small images hardly blurs.)

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> blur = Blur(probability=0.5)
        >>> blur(torch.rand(8, 3, 16, 16), blur.draw(8, torch.Generator().manual_seed(0))).shape
        torch.Size([8, 3, 16, 16])
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    probability: float = 1.0
    kernel_size: int | None = None

    def __post_init__(self) -> None:
        check_range("Blur", "sigma", self.sigma, 0)
        check_number("Blur", "probability", self.probability, 0, 1)
        if self.kernel_size is not None and (self.kernel_size < 1 or self.kernel_size % 2 == 0):
            raise InputError(f"Blur: kernel_size {self.kernel_size}: write an odd number of pixels, or None")

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw the standard deviations, (count,); 0 for no blur."""
        sigma = uniform((count,), *self.sigma, generator)
        return (sigma * chance(count, self.probability, generator),)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Change images (n, c, h, w)."""
        radius = math.ceil(3 * self.sigma[1]) if self.kernel_size is None else self.kernel_size // 2
        rows, columns = (blurring(draws[0], min(radius, side - 1), side) for side in images.shape[2:])
        return filtered(images, rows, columns).clamp_(0, 1)


@dataclass(frozen=True)
class Solarize:
    """Invert the values of some images that are not below a threshold.

    Args:
        threshold: In [0, 1].
        probability: Share of the images.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> Solarize(0.5)(torch.tensor([0.25, 0.75]).view(1, 1, 1, 2), (torch.tensor([True]),)).flatten()
        tensor([0.2500, 0.2500])
    """

    threshold: float = 0.5
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_number("Solarize", "threshold", self.threshold, 0, 1)
        check_number("Solarize", "probability", self.probability, 0, 1)

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw which are changed, (count,)."""
        return (chance(count, self.probability, generator),)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Change images (n, c, h, w) in [0, 1]."""
        never = 2.0
        return pixels.solarize(images, torch.where(draws[0], self.threshold, never))


@dataclass(frozen=True)
class Flip:
    """Mirror some images, left to right.

    Args:
        probability: Share of the images.

    Raises:
        InputError: The probability is not in [0, 1].

    Example:
        >>> Flip()(torch.tensor([0.25, 0.75]).view(1, 1, 1, 2), (torch.tensor([True]),)).flatten()
        tensor([0.7500, 0.2500])
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_number("Flip", "probability", self.probability, 0, 1)

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw which are mirrored, (count,)."""
        return (chance(count, self.probability, generator),)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Change images (n, c, h, w)."""
        return choose(draws[0], images.flip(3), images)
