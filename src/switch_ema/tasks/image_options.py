"""The options of tasks that learn from images, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from switch_ema.errors import FieldError
from switch_ema.tasks.options import Option, count, flag, nonnegative, one_of, share, whole


@dataclass(frozen=True)
class ImageChosen:
    """Values of `image_options`, with their defaults; None stands for what the description says of the default."""

    image_size: int | None = None
    augment: str = "auto"
    padding: int | None = None
    crop_scale: float = 0.08
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    randaugment: float = 0.0
    randaugment_ops: str = "fixmatch"
    erasing: float = 0.0
    drop_path: float = 0.0
    dropout: float = 0.0
    skip_corrupt: bool = False
    stream: str = "auto"
    workers: int = 4


def image_options(augments: tuple[str, ...], auto: str, padding: str, crop_scale: float) -> Mapping[str, Option]:
    """Return the options of a task that learns from images.

    Args:
        augments: What the option ``augment`` accepts.
        auto: Which of them ``auto`` is for colour images.
        padding: Which part of an image's side is the largest shift by default.
        crop_scale: Smallest share of an image that ``resized-crop`` keeps by default.
    """
    return {
        "image_size": Option("side in pixels to scale and crop the images to", whole),
        "augment": Option(
            f"{', '.join(augments)}; auto is {auto} for colour images, none for grey ones", one_of(*augments)
        ),
        "padding": Option(f"largest shift in pixels when cropping without scaling; {padding} by default", count),
        "crop_scale": Option(f"smallest share of the image that resized-crop keeps; {crop_scale} by default", share),
        "interpolation": Option("bilinear or bicubic, of resized-crop", one_of("bilinear", "bicubic")),
        "randaugment": Option("magnitude of RandAugment, 0 (none) to 10", nonnegative),
        "randaugment_ops": Option("its operations", one_of("fixmatch", "timm", "timm-increasing")),
        "erasing": Option("share of the images in which a random rectangle is erased", share),
        "drop_path": Option("rate of stochastic depth", share),
        "dropout": Option("rate of dropout", share),
        "skip_corrupt": Option("leave out images that cannot be read, and count them", flag),
        "stream": Option(
            "leave images on disk: auto (if they take more than 8 GiB), true or false", one_of("auto", "true", "false")
        ),
        "workers": Option("processes that read images from disk", count),
    }


def check_images(values: Mapping[str, Any]) -> None:
    """Refuse values that no task can have a use for.

    Args:
        values: Values by name, read by the options' readers.

    Raises:
        FieldError: One is out of range.
    """
    if values.get("randaugment", 0) > 10:
        raise FieldError("randaugment", f"{values['randaugment']:g}: write a magnitude from 0 to 10")
    if values.get("crop_scale") == 0:
        raise FieldError("crop_scale", "0: write a share above 0 up to 1, such as 0.5")
