"""Changes of pixel values, each sample by a number of its own: images (n, c, h, w) in [0, 1], numbers (n,).

Equal to torchvision.transforms.v2.functional on each sample. `posterize` and `equalize` see 256 levels, as they do
there for bytes; the others do not round.
"""

from __future__ import annotations

import torch
from torch import Tensor

from switch_ema.tasks.augment.base import choose, per_image


def grey(images: Tensor) -> Tensor:
    """Return the brightness ``0.2989 R + 0.587 G + 0.114 B``, (n, 1, h, w); of one channel, the images themselves."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    mixed: Tensor = red * 0.2989
    return mixed.add_(green, alpha=0.587).add_(blue, alpha=0.114)


def blend(images: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    """Return ``factor * images + (1 - factor) * base``, cut to [0, 1]; exactly the images where the factor is 1."""
    factor = per_image(factor)
    return images.mul(factor).add_(base * (1 - factor)).clamp_(0, 1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return images.mul(per_image(factor)).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean brightness of the image."""
    return blend(images, grey(images).mean((2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image; nothing happens to images of one channel."""
    return images if images.shape[1] == 1 else blend(images, grey(images), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image smoothed by weights 1 around a 5, over 13; the border stays, and so do images below 3x3."""
    if min(images.shape[2:]) < 3:
        return images
    inner = images[:, :, 1:-1, 1:-1]
    three = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    smooth = (three[..., :-2] + three[..., 1:-1]).add_(three[..., 2:]).add_(inner, alpha=4).div_(13)
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = blend(inner, smooth, factor)
    return result


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by `shift` of a full circle, -0.5 to 0.5; nothing happens to images of one channel or shift 0.

    The hue of an HSV pixel is an angle in sixths of the circle: from red it is ``1 + (green + blue - red - min) /
    (max - min)`` away, towards green or blue, whichever is larger. Back from the angle, each channel is ``min +
    (max - min) clamp(2 - distance, 0, 1)``, the distance being that of the angle from the channel's own: 0, 2 or -2.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    scale = chroma.clamp(min=1e-12).reciprocal_()  # where chroma is 0, so are the differences
    angle = (green + blue).sub_(red).sub_(low).mul_(scale).add_(1).copysign_(green - blue).add_(per_image(shift * 6))
    angle.sub_((angle / 6).round_(), alpha=6)  # from -3 to 3
    away = torch.cat([angle, angle - 2, angle + 2], 1).abs_()  # from red, green and blue, up to 5
    turned = away.sub_(3).abs_().sub_(1).clamp_(0, 1).mul_(chroma).add_(low)
    return choose(shift != 0, turned, images)


def invert(images: Tensor) -> Tensor:
    """Return ``1 - images``."""
    return 1 - images


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values that are not below the threshold."""
    return torch.lerp(images, 1 - images, (images >= per_image(threshold)).to(images.dtype))  # faster than torch.where


def solarize_add(images: Tensor, addend: Tensor) -> Tensor:
    """Add to the values of the darker half, below 128 of 255."""
    return torch.where(images < 127.5 / 255, images + per_image(addend), images).clamp_(0, 1)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest 0 to 8 bits of the values' bytes."""
    step = per_image(torch.exp2(8 - bits))
    return images.mul(255).round_().div_(step).floor_().mul_(step).div_(255)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel to [0, 1]; a channel of one value stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = high - low
    flat = span == 0
    return (images - low.masked_fill(flat, 0)).div_(span.masked_fill_(flat, 1))


def equalize(images: Tensor) -> Tensor:
    """Spread each channel's values so that all are equally frequent, by Pillow's rule.

    With ``lower`` = number of pixels below this one and ``step = max(lower) // 255``, the new byte is
    ``(lower + step // 2) // step``; channels with a step of 0, such as all of fewer than 256 pixels, stay.
    """
    values = images.mul(255).round_().long().flatten(2)
    frequency = torch.zeros(*values.shape[:2], 256, dtype=torch.long, device=images.device)
    frequency.scatter_add_(2, values, torch.ones_like(values))
    lower = frequency.cumsum(2) - frequency
    step = (lower * (frequency > 0)).amax(2, keepdim=True) // 255
    spread = ((lower + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step == 0, torch.arange(256, device=images.device), spread).to(images.dtype).div_(255)
    return table.gather(2, values).view(images.shape)
