"""What the tasks detection and segmentation accept, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from switch_ema.data.detection.catalog import DATASETS, locate
from switch_ema.data.detection.library import check_installed
from switch_ema.errors import FieldError
from switch_ema.tasks.detection.models.names import BACKBONES, MASK_MODELS, MODELS, check_detector, check_weights
from switch_ema.tasks.options import Option, flag, one_of, read_options, share, whole, words

if TYPE_CHECKING:
    from switch_ema.data.detection.catalog import Source

DEFAULT_DATA = next(iter(DATASETS))
"""The embedded data set: digits, scattered on a canvas."""

DETECTORS = {name: about for name, about in MODELS.items() if name not in MASK_MODELS}
"""The models of the detection task."""

SEGMENTERS = {name: about for name, about in MODELS.items() if name in MASK_MODELS}
"""The models of the segmentation task."""

USUAL_SIZE = 800
"""The shorter side in pixels to which images are scaled unless `sizes` says otherwise, but of `DEFAULT_DATA`."""

SMALLEST = 32  # pixels: the coarsest stride of the networks, to a multiple of which they pad images


def sizes(text: str) -> tuple[int, ...]:
    """Read the sides to which images are scaled, such as 480,512,800, and sort them."""
    parts = [part.strip() for part in text.strip("()[]").rstrip(",").split(",")]  # a list or tuple, as text
    if not all(part.isdecimal() and int(part) >= SMALLEST for part in parts):
        raise ValueError(f"write sides in pixels of at least {SMALLEST}, such as 800 or 480,512,800")
    return tuple(sorted({int(part) for part in parts}))


OPTIONS: Mapping[str, Option] = {
    "backbone": Option(f"{', '.join(BACKBONES)}; small by default", one_of(*BACKBONES)),
    "sizes": Option(
        f"shorter side in pixels, or several to draw from, the largest for measuring; {USUAL_SIZE}, "
        f"{DEFAULT_DATA} as it is",
        sizes,
    ),
    "max_size": Option("largest longer side in pixels, 1333", whole),
    "flip": Option(f"share of the training images that are mirrored; 0.5, of {DEFAULT_DATA} 0", share),
    "train_size": Option("number of training images, a fixed subset", whole),
    "skip_invalid": Option("leave out images and objects that cannot be used, and count them", flag),
    "weights": Option("file with the backbone's weights to begin with", words),
    "frozen_stages": Option("leave the backbone's first stages as they are", flag),
}
"""The options of `switch_ema.tasks.detection.task.Detection` and `Segmentation`."""


@dataclass(frozen=True)
class Chosen:
    """Values of `OPTIONS`, with their defaults; None stands for what the description says of the default."""

    backbone: str = "small"
    sizes: tuple[int, ...] | None = None
    max_size: int = 1333
    flip: float | None = None
    train_size: int | None = None
    skip_invalid: bool = False
    weights: str | None = None
    frozen_stages: bool = False


def check_detection(data: str, model: str, options: Mapping[str, Any]) -> Source:
    """Refuse what is wrong with a request for the detection task, before anything heavy is imported.

    Args:
        data: A named data set or a folder (see `switch_ema.data.detection.catalog`).
        model: Name of the detector.
        options: Values or texts by name (see `OPTIONS`).

    Returns:
        Where the data lie.

    Raises:
        InputError: An option is unknown or out of range, the data are missing or damaged, or they do not go together.

    Example:
        >>> check_detection("digits-canvas", "fcos", {"sizes": "480,800", "max_size": 640})
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: max_size 640: the shorter side is up to 800 already; write at least 800
    """
    return _check(data, model, options, masks=False)


def check_segmentation(data: str, model: str, options: Mapping[str, Any]) -> Source:
    """Refuse what is wrong with a request for the segmentation task (see `check_detection`)."""
    return _check(data, model, options, masks=True)


def _check(data: str, model: str, options: Mapping[str, Any], *, masks: bool) -> Source:
    chosen = Chosen(**read_options(OPTIONS, options))
    check_detector(model, chosen.backbone, masks)
    check_installed()
    largest = max(chosen.sizes or (SMALLEST if data == DEFAULT_DATA else USUAL_SIZE,))
    if chosen.max_size < largest:
        raise FieldError(
            "max_size", f"{chosen.max_size}: the shorter side is up to {largest} already; write at least {largest}"
        )
    check_weights(chosen.weights, chosen.backbone, chosen.frozen_stages)
    return locate(data)
