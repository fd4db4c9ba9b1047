"""Mixup and CutMix: each sample mixed with a partner by its own share, images and soft targets alike.

A sample's partner is its mirror in the order of the batch: the first is mixed with the last, and so on. It is the batch
of this process, so with several processes the partners are others than with one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from switch_ema.errors import InputError
from switch_ema.tasks.augment.base import Draws, chance, check_number, per_image
from switch_ema.tasks.augment.boxes import inside


class Mixing(Protocol):
    """A random mix of the images of a batch; the draws are cut and moved as those of an `Augmentation`."""

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw all random numbers for `count` samples from a generator on the CPU."""

    def __call__(self, images: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return mixed images (n, c, h, w) and mixed targets (n, classes)."""


def soft_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Spread a share of each label over all classes: ``(1 - smoothing) * onehot + smoothing / num_classes``.

    Args:
        labels: Classes (n,), from 0 to num_classes - 1.
        num_classes: Number of classes, from 1.
        smoothing: The share, in [0, 1].

    Returns:
        Floats (n, num_classes), each row summing to 1.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> soft_targets(torch.tensor([1]), 4, smoothing=0.2)
        tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """
    check_number("soft_targets", "smoothing", smoothing, 0, 1)
    if num_classes < 1:
        raise InputError(f"soft_targets: num_classes {num_classes}: write 1 or more")
    rest = smoothing / num_classes
    spread = torch.full((len(labels), num_classes), rest, device=labels.device)
    return spread.scatter_(1, labels[:, None].long(), 1 - smoothing + rest)


@dataclass(frozen=True)
class Mixup:
    """Mix each image with its partner: ``share * image + (1 - share) * partner``, share ~ Beta(alpha, alpha).

    Args:
        alpha: Above 0; 1 draws shares evenly, less draws them near 0 and 1.
        probability: Of a sample to be mixed; those that are not have the share 1.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> mixup = Mixup(0.8)
        >>> images, targets = torch.rand(8, 3, 16, 16), soft_targets(torch.arange(8), 10)
        >>> images, targets = mixup(images, targets, mixup.draw(8, torch.Generator().manual_seed(0)))
    """

    alpha: float
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check("Mixup", "alpha", self.alpha, self.probability)

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw the shares, (count,)."""
        return (_shares(self.alpha, self.probability, count, generator),)

    def __call__(self, images: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Mix images (n, c, h, w) and targets (n, classes)."""
        return _mixed(images, targets, per_image(draws[0]), draws[0])


@dataclass(frozen=True)
class CutMix:
    """Replace a rectangle of each image by its partner's; the target's share is that of the area that is kept.

    The rectangle has the image's shape, a share 1 - Beta(alpha, alpha) of its area and any centre in it; what lies
    outside of the image is cut off, as in torchvision.

    Args:
        alpha: Above 0; 1 draws shares evenly.
        probability: Of a sample to be mixed.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> cutmix = CutMix(1.0)
        >>> images, targets = torch.rand(8, 3, 16, 16), soft_targets(torch.arange(8), 10)
        >>> images, targets = cutmix(images, targets, cutmix.draw(8, torch.Generator().manual_seed(0)))
    """

    alpha: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check("CutMix", "alpha", self.alpha, self.probability)

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw the shares, (count,), and the centres, (count, 2) from 0 to 1."""
        return _shares(self.alpha, self.probability, count, generator), torch.rand(count, 2, generator=generator)

    def __call__(self, images: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Mix images (n, c, h, w) and targets (n, classes)."""
        kept = _kept(draws[0], draws[1], *images.shape[2:])
        return _mixed(images, targets, kept, kept.mean((1, 2, 3)))


@dataclass(frozen=True)
class MixupOrCutMix:
    """Mix each sample by `Mixup` or by `CutMix`.

    Args:
        mixup_alpha: Mixup's alpha, above 0.
        cutmix_alpha: CutMix's alpha, above 0.
        switch_probability: Share of the samples that CutMix mixes.
        probability: Of a sample to be mixed at all.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> mix = MixupOrCutMix(mixup_alpha=0.8, cutmix_alpha=1.0)
        >>> images, targets = torch.rand(8, 3, 16, 16), soft_targets(torch.arange(8), 10)
        >>> images, targets = mix(images, targets, mix.draw(8, torch.Generator().manual_seed(0)))
    """

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    switch_probability: float = 0.5
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check("MixupOrCutMix", "mixup_alpha", self.mixup_alpha, self.probability)
        _check("MixupOrCutMix", "cutmix_alpha", self.cutmix_alpha, self.probability)
        check_number("MixupOrCutMix", "switch_probability", self.switch_probability, 0, 1)

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw which samples CutMix mixes, (count,), the shares, (count,), and the centres, (count, 2)."""
        cuts = chance(count, self.switch_probability, generator)
        mixup = Mixup(self.mixup_alpha, self.probability).draw(count, generator)
        cutmix = CutMix(self.cutmix_alpha, self.probability).draw(count, generator)
        return cuts, torch.where(cuts, cutmix[0], mixup[0]), cutmix[1]

    def __call__(self, images: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Mix images (n, c, h, w) and targets (n, classes)."""
        cuts, shares, centres = draws
        kept = torch.where(per_image(cuts), _kept(shares, centres, *images.shape[2:]), per_image(shares))
        return _mixed(images, targets, kept, torch.where(cuts, kept.mean((1, 2, 3)), shares))


def _check(where: str, name: str, alpha: float, probability: float) -> None:
    check_number(where, "probability", probability, 0, 1)
    if not 0 < alpha < float("inf"):
        raise InputError(f"{where}: {name} {alpha}: write a number above 0, or leave out the mixing")


def _shares(alpha: float, probability: float, count: int, generator: torch.Generator) -> Tensor:
    """Draw from Beta(alpha, alpha) as g / (g + g'), both from Gamma(alpha); 1 for those that are not mixed."""
    first, second = torch._standard_gamma(torch.full((2, count), alpha, dtype=torch.float64), generator)
    shares = (first / (first + second)).float()
    return torch.where(chance(count, probability, generator), shares, 1.0)


def _kept(shares: Tensor, centres: Tensor, height: int, width: int) -> Tensor:
    """Return 1 where the image stays and 0 where its partner's rectangle comes, (n, 1, h, w)."""
    half = 0.5 * (1 - shares).sqrt()
    tall, wide = (half * height).floor(), (half * width).floor()
    y, x = (centres[:, 0] * height).floor(), (centres[:, 1] * width).floor()
    return 1.0 - inside(y - tall, x - wide, y + tall, x + wide, height, width).float()


def _mixed(images: Tensor, targets: Tensor, kept: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Mix with the batch in reverse order: images by `kept`, which meets their shape, targets by `shares`, (n,)."""
    mixed = torch.lerp(images.flip(0), images, kept.to(images.dtype))
    return mixed, torch.lerp(targets.flip(0), targets, shares[:, None].to(targets.dtype))
