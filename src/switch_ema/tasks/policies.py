"""From a task's options to what happens to its training images."""

from __future__ import annotations

from collections.abc import Sequence

from switch_ema.tasks.augment.base import Augmentation, Chain
from switch_ema.tasks.augment.crop import ResizedCrop, ShiftFlip
from switch_ema.tasks.augment.erasing import RandomErasing
from switch_ema.tasks.augment.mixing import CutMix, Mixing, Mixup, MixupOrCutMix
from switch_ema.tasks.augment.randaugment import RandAugment
from switch_ema.tasks.classification_options import Chosen
from switch_ema.tasks.image_options import ImageChosen
from switch_ema.tasks.images import Augment


def augmentation(
    chosen: ImageChosen,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    auto: str = "crop-flip",
    padding: float = 1 / 8,
) -> Augment:
    """Put together the changes of single images.

    Args:
        chosen: The options.
        size: Side of the images in pixels.
        mean: Mean of each channel, on the scale 0 to 255; what comes in from outside of an image is of this colour.
        std: Standard deviation of each channel.
        auto: What ``auto`` is for colour images: ``crop`` or ``crop-flip``.
        padding: Share of the side that is the largest shift, unless told.

    Raises:
        InputError: A value does not fit the images.
    """
    average, spread = (tuple(value / 255 for value in values) for values in (mean, std))
    changes: list[Augmentation] = []
    if chosen.randaugment:
        changes.append(RandAugment(magnitude=chosen.randaugment, ops=chosen.randaugment_ops, fill=average))
    if chosen.erasing:
        changes.append(RandomErasing(chosen.erasing, mean=average, std=spread))
    kind = chosen.augment if chosen.augment != "auto" else auto if len(mean) == 3 else "none"
    shift = int(size * padding) if chosen.padding is None else chosen.padding
    return Augment(_crop(kind, chosen, size, shift), Chain(tuple(changes)) if changes else None)


def mixing(chosen: Chosen) -> Mixing | None:
    """Return how images are mixed with each other; None for not at all."""
    if chosen.mixup and chosen.cutmix:
        return MixupOrCutMix(chosen.mixup, chosen.cutmix)
    if chosen.mixup:
        return Mixup(chosen.mixup)
    return CutMix(chosen.cutmix) if chosen.cutmix else None


def _crop(kind: str, chosen: ImageChosen, size: int, shift: int) -> ShiftFlip | ResizedCrop | None:
    if kind == "resized-crop":
        return ResizedCrop(size, scale=(chosen.crop_scale, 1.0), interpolation=chosen.interpolation)
    return None if kind == "none" else ShiftFlip(shift, flip=kind == "crop-flip")
