"""Corruptions of images in five severities, to measure how robust a classifier is.

They follow the constructions, and for 32 pixels the strengths, of CIFAR-10-C, but are made here, of whatever images:
they are not the published files, and errors on them must not be compared with reported ones. What differs: blurs are
as wide as the published ones but of exact discs and rays; clouds are sums of smooth noise; the two parts of
``elastic``, and severity 4 of ``motion_blur``, are set so that each severity is harder than the one before; glass blur
(a sequence of random swaps) and frost (photographs) are left out. Lengths in pixels grow with the image's shorter side,
strengths of noise do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from switch_ema.analysis.distortions import bent, clouds, disc, smear, trails, unit, zoomed
from switch_ema.errors import InputError, unknown
from switch_ema.libraries import require

Corruption = Callable[[Tensor, int, torch.Generator], Tensor]
"""Takes images (n, c, h, w), a severity from 1 to 5 and a generator on the CPU; values may leave [0, 1]."""
SEVERITIES = (1, 2, 3, 4, 5)
_SMALLEST = 8


def corrupt(images: Tensor, name: str, severity: int, *, seed: int = 0) -> Tensor:
    """Corrupt images.

    Args:
        images: Floats (n, c, h, w) from 0 to 1, before any normalisation, at least 8 pixels high and wide.
        name: One of `CORRUPTIONS`.
        severity: 1 (weak) to 5 (strong).
        seed: Decides all random numbers, which are drawn on the CPU: the result is that of every device, to rounding.

    Returns:
        New images from 0 to 1, of the same shape, type and device.

    Raises:
        InputError: An unknown name, another severity, or no such images.

    Example:
        >>> grey = torch.full((1, 3, 8, 8), 0.5)
        >>> corrupt(grey, "brightness", 2).unique()
        tensor([0.6000])

    References:
        Hendrycks, Dietterich: Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
        arXiv:1903.12261, 2019.
    """
    if name not in CORRUPTIONS:
        raise unknown("corruption", name, CORRUPTIONS)
    if severity not in SEVERITIES:
        raise InputError(f"severity {severity}: write a whole number from 1 to 5")
    _check(images)
    exact = images.detach().to(torch.promote_types(images.dtype, torch.float32))  # half types: neither noise nor FFT
    generator = torch.Generator().manual_seed(seed)
    return CORRUPTIONS[name](exact, int(severity), generator).clamp(0, 1).to(images.dtype)


def _check(images: Tensor) -> None:
    if not images.is_floating_point() or images.ndim != 4 or 0 in images.shape:
        raise InputError(
            "images: write floats of shape (n, c, h, w) from 0 to 1, "
            f"not {str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}"
        )
    if min(images.shape[-2:]) < _SMALLEST:
        raise InputError(
            f"images: {tuple(images.shape[-2:])} pixels are too few; write at least {_SMALLEST} x {_SMALLEST}"
        )
    if not (images.amin() >= 0 and images.amax() <= 1):  # nan is refused too
        raise InputError("images: values leave the range from 0 to 1; corrupt images before they are normalised")


def _gaussian_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """X + s e, with standard normal e."""
    strength = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return images + strength * torch.randn(images.shape, generator=generator).to(images)


def _shot_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Poisson(x c) / c: c photons where it is white."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return (torch.poisson(images.cpu() * photons, generator=generator) / photons).to(images)


def _impulse_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A share of the values become 0 or 1."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    draw = torch.rand(images.shape, generator=generator).to(images.device)
    return images.where(draw >= share, (draw < share / 2).to(images))


def _defocus_blur(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """Mean over a disc."""
    radius = (0.2, 0.5, 0.8, 0.95, 1.4)[severity - 1]
    return smear(images, *disc(radius * unit(images)))


def _motion_blur(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Half of a Gaussian along a direction from -45 to 45 degrees, another for each image."""
    length, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2.25), (9, 2.5))[severity - 1]
    degrees = 90 * torch.rand(len(images), generator=generator) - 45
    return smear(images, *trails(degrees, length * unit(images), sigma * unit(images)))


def _zoom_blur(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """Mean of the image and of those enlarged by 0 %, 1 %, 2 %, ..."""
    most = (5, 10, 15, 20, 25)[severity - 1]
    total = images.clone()
    for percent in range(most + 1):
        total += zoomed(images, 1 + percent / 100)
    return total / (most + 2)


def _snow(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Flakes (noise above a threshold, enlarged, blurred as they fall), also upside down, over a whitened image."""
    mean, spread, zoom, threshold, length, sigma, keep = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    count, _, height, width = images.shape
    coarse = [math.ceil(side / max(1, zoom * unit(images))) for side in (height, width)]
    noise = mean + spread * torch.randn(count, 1, *coarse, generator=generator)
    flakes = interpolate(noise, (height, width), mode="bilinear").clamp(0, 1)
    degrees = -135 + 90 * torch.rand(count, generator=generator)
    layer = smear(
        (flakes * (flakes >= threshold)).to(images), *trails(degrees, length * unit(images), sigma * unit(images))
    )
    white = torch.maximum(images, 1.5 * _grey(images) + 0.5)
    return keep * images + (1 - keep) * white + layer + layer.rot90(2, (2, 3))


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * images.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)


def _fog(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """(x + s cloud) max(x) / (max(x) + s)."""
    strength, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    count, _, height, width = images.shape
    highest = images.amax((1, 2, 3), keepdim=True)
    cloud = clouds(count, height, width, decay, generator).to(images)
    return (images + strength * cloud) * highest / (highest + strength)


def _brightness(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """The value V = max(r, g, b) of the colour grows by c, up to 1; hue and saturation stay."""
    more = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value = images.amax(1, keepdim=True)
    colour = torch.where(value > 0, images / value.where(value > 0, 1), 1)
    return colour * (value + more).clamp(max=1)


def _contrast(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """Mean + c (x - mean), for each channel of each image."""
    keep = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = images.mean((2, 3), keepdim=True)
    return mean + keep * (images - mean)


def _elastic(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A random affine map and a random smooth field of displacements."""
    affine, rough = ((0.04, 0.004), (0.06, 0.007), (0.08, 0.010), (0.10, 0.014), (0.12, 0.018))[severity - 1]
    return bent(images, affine, rough, generator)


def _pixelate(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """Fewer pixels and back, both by Pillow's box filter; of 8 pixels, two severities may come to the same."""
    require("corruption pixelate", "PIL")
    from PIL import Image

    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    across = []
    for side in images.shape[-2:]:  # what the filter makes of single bright pixels is its matrix
        bright = Image.fromarray(torch.eye(side).numpy()).resize((int(side * share), side), Image.Resampling.BOX)
        read = memoryview(bright.resize((side, side), Image.Resampling.BOX).tobytes()).cast("f").tolist()
        across.append(images.new_tensor(read).view(side, side))
    return across[0].T @ images @ across[1]


def _jpeg(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """Written as JPEG and read again, in 256 levels."""
    require("corruption jpeg", "PIL", "torchvision")
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image

    if images.shape[1] not in (1, 3):
        raise InputError(f"images: JPEG has 1 or 3 channels, not {images.shape[1]}; write another corruption")
    quality = (80, 65, 58, 50, 40)[severity - 1]
    read = []
    for image in images.mul(255).round().byte().cpu():
        with BytesIO() as file:
            to_pil_image(image).save(file, "JPEG", quality=quality)
            with Image.open(file) as written:
                read.append(pil_to_tensor(written))
    return torch.stack(read).to(images) / 255


CORRUPTIONS: MappingProxyType[str, Corruption] = MappingProxyType(
    {
        "gaussian_noise": _gaussian_noise,
        "shot_noise": _shot_noise,
        "impulse_noise": _impulse_noise,
        "defocus_blur": _defocus_blur,
        "motion_blur": _motion_blur,
        "zoom_blur": _zoom_blur,
        "snow": _snow,
        "fog": _fog,
        "brightness": _brightness,
        "contrast": _contrast,
        "elastic": _elastic,
        "pixelate": _pixelate,
        "jpeg": _jpeg,
    }
)
"""What `corrupt` can do, by name."""
