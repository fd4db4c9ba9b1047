"""RandAugment for batches: per-sample operations and magnitudes, each operation run once on all its samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from switch_ema.errors import InputError, unknown
from switch_ema.tasks.augment import pixels
from switch_ema.tasks.augment.base import Draws, check_number, per_channel
from switch_ema.tasks.augment.policies import GEOMETRIC, OPERATIONS, POLICIES
from switch_ema.tasks.augment.warp import warp

_PIXELWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": lambda images, _: pixels.autocontrast(images),
    "brightness": pixels.brightness,
    "color": pixels.saturation,
    "contrast": pixels.contrast,
    "equalize": lambda images, _: pixels.equalize(images),
    "invert": lambda images, _: pixels.invert(images),
    "posterize": pixels.posterize,
    "sharpness": pixels.sharpness,
    "solarize": lambda images, level: pixels.solarize(images, (level - 0.5) / 255),  # between two bytes
    "solarize-add": lambda images, level: pixels.solarize_add(images, level / 255),
}
_IDENTITY = OPERATIONS.index("identity")
_FIRST_GEOMETRIC = OPERATIONS.index(GEOMETRIC[0])


@dataclass(frozen=True)
class RandAugment:
    """Apply a few operations to each image, chosen at random, with a random magnitude.

    Policies and magnitudes are those of timm and OpenMixup (see `policies`): the magnitude is out of 10, drawn from
    Normal(magnitude, magnitude_std) and cut to [0, 10], for each sample and operation; its sign is drawn where the
    operation has one. ``RandAugment(magnitude=9, ops="timm")`` is timm's ``rand-m9-mstd0.5``.

    It differs from timm's operations on Pillow images in this: values are not rounded to bytes after each operation
    (posterize and equalize see rounded values, solarize compares them); rotation, shear and translation sample
    bilinearly (timm: bilinear or bicubic at random; OpenMixup: as told) and fade into `fill` over the outermost half
    pixel (Pillow: a hard edge). Once in a batch it waits for the device, to learn how many samples each operation
    has.

    Args:
        num_ops: Operations for each image, from 1, drawn independently of each other.
        magnitude: Mean magnitude, 0 to 10.
        magnitude_std: Its standard deviation, from 0.
        ops: ``fixmatch`` (14 operations), ``timm`` or ``timm-increasing`` (15).
        fill: What comes in from outside of the image: one value, or one for each channel, in [0, 1].
        probability: Of each chosen operation to be applied.

    Raises:
        InputError: An argument is out of range, or the policy is unknown.

    Example:
        >>> augment = RandAugment(num_ops=2, magnitude=7, magnitude_std=0.5)
        >>> augment(torch.rand(8, 3, 32, 32), augment.draw(8, torch.Generator().manual_seed(0))).shape
        torch.Size([8, 3, 32, 32])
    """

    num_ops: int = 2
    magnitude: float = 7.0
    magnitude_std: float = 0.5
    ops: str = "fixmatch"
    fill: float | tuple[float, ...] = 0.5
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.num_ops < 1:
            raise InputError(f"RandAugment: num_ops {self.num_ops}: write 1 or more")
        if self.ops not in POLICIES:
            raise unknown("policy of RandAugment", self.ops, POLICIES)
        check_number("RandAugment", "magnitude", self.magnitude, 0, 10)
        check_number("RandAugment", "magnitude_std", self.magnitude_std, 0)
        check_number("RandAugment", "probability", self.probability, 0, 1)
        for value in self.fill if isinstance(self.fill, tuple) else (self.fill,):
            check_number("RandAugment", "fill", value, 0, 1)

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw operations, as places in `OPERATIONS`, and their levels, each (count, num_ops)."""
        shape = (count, self.num_ops)
        rows = POLICIES[self.ops]
        chosen = torch.randint(len(rows), shape, generator=generator)
        noise = torch.randn(shape, generator=generator) * self.magnitude_std
        magnitudes = (noise + self.magnitude).clamp_(0, 10) / 10
        signs = torch.rand(shape, generator=generator).lt(0.5) * 2.0 - 1
        applied = torch.rand(shape, generator=generator) < self.probability
        operations = torch.tensor([OPERATIONS.index(row.name) for row in rows])[chosen]
        levels = torch.zeros(shape)
        for place, row in enumerate(rows):
            levels = torch.where(chosen == place, row.level(magnitudes, signs), levels)
        return torch.where(applied, operations, _IDENTITY), levels

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Change images (n, c, h, w) in [0, 1]."""
        operations, levels = draws
        groups = operations.clamp(max=_FIRST_GEOMETRIC)
        every = torch.arange(_FIRST_GEOMETRIC + 1, device=images.device)
        sizes = (groups[:, :, None] == every).sum(0).tolist()  # the only wait for the device
        for turn in range(self.num_ops):
            result = images.clone()
            members = groups[:, turn].argsort().split(sizes[turn])
            for group, rows in enumerate(members):
                if len(rows) and group != _IDENTITY:
                    changed = self._run(group, images[rows], operations[rows, turn], levels[rows, turn])
                    result.index_copy_(0, rows, changed)
            images = result
        return images

    def _run(self, group: int, images: Tensor, operations: Tensor, levels: Tensor) -> Tensor:
        """Run one operation, or all geometric ones, on the samples that have drawn it."""
        if group < _FIRST_GEOMETRIC:
            return _PIXELWISE[OPERATIONS[group]](images, levels)
        degrees, *others = (levels * (operations == OPERATIONS.index(name)) for name in GEOMETRIC)
        shear, translation = torch.stack(others[:2], 1), torch.stack(others[2:], 1)
        return warp(images, degrees, shear, translation, per_channel(self.fill, images.device))
