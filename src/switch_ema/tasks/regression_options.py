"""What the regression task accepts, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from switch_ema.data.numbers import choose_target, locate_numbers
from switch_ema.errors import FieldError
from switch_ema.tasks.image_options import ImageChosen, check_images, image_options
from switch_ema.tasks.options import Option, flag, one_of, read_options, whole, words

if TYPE_CHECKING:
    from switch_ema.data.numbers import NumberSource

LOSSES = ("l1", "l2", "huber")
AUGMENTS = ("auto", "none", "crop", "crop-flip", "resized-crop")

AUTO_MODEL = {"auto": "small-resnet for images, mlp for tables"}
"""The default among the models."""

_FOR_IMAGES = image_options(AUGMENTS, auto="crop", padding="a sixteenth of the side", crop_scale=0.5)

OPTIONS: Mapping[str, Option] = {
    "loss": Option("l1 (absolute error), l2 (squared) or huber (squared below 1, absolute above)", one_of(*LOSSES)),
    "angular": Option("errors wrap around: 359 degrees is 1 from 0; digits-rotated are turned full circle", flag),
    "target": Option("the column of the .csv file to predict", words),
    "scale_target": Option("learn the target less its mean and divided by its standard deviation", flag),
    "train_size": Option("number of training examples, a fixed subset", whole),
    **_FOR_IMAGES,
}
"""The options of `switch_ema.tasks.regression.Regression`."""


@dataclass(frozen=True)
class Chosen(ImageChosen):
    """Values of `OPTIONS`, with their defaults; None stands for what the description says of the default."""

    loss: str = "l1"
    angular: bool = False
    target: str | None = None
    scale_target: bool = True
    train_size: int | None = None
    crop_scale: float = 0.5


def check(data: str, model: str, options: Mapping[str, Any]) -> NumberSource:
    """Refuse what is wrong with a request for the regression task, before anything heavy is imported.

    Args:
        data: A named data set, a .csv file, or a folder with one (see `switch_ema.data.numbers`).
        model: Name of the network; only whether it fits tables is checked here.
        options: Values or texts by name (see `OPTIONS`).

    Returns:
        Where the data lie, with the target chosen.

    Raises:
        InputError: An option is unknown or out of range, the data are missing or damaged, or they do not go together.

    Example:
        >>> check("diabetes", "auto", {"angular": True})
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: angular true: the target of diabetes is no angle; leave it out
    """
    values = read_options(OPTIONS, options)
    check_images(values)
    source = choose_target(locate_numbers(data), values.get("target"))
    if source.is_table:
        _check_table(data, model, values)
    if source.period is not None:
        _check_angle(data, values)
    elif values.get("angular"):
        raise FieldError("angular", f"true: the target of {data} is no angle; leave it out")
    if values.get("angular") and values.get("scale_target") is False:
        raise FieldError("scale_target", "false: with angular, cosine and sine are learnt; leave it out")
    if values.get("stream") == "true" and source.format != "csv-images":
        raise FieldError(
            "stream", f"true: {data} is no list of image files, which alone can stay on disk; leave it out"
        )
    return source


def _check_table(data: str, model: str, values: Mapping[str, Any]) -> None:
    """Refuse what only images have a use for."""
    if model not in ("auto", "mlp"):
        raise FieldError("model", f"{model}: {data} has vectors, not images; write mlp")
    for name in _FOR_IMAGES:
        if name in values and values[name] not in ("none", "false", getattr(Chosen, name)):
            raise FieldError(name, f"{str(values[name]).lower()}: {data} has vectors, not images; leave it out")


def _check_angle(data: str, values: Mapping[str, Any]) -> None:
    """Refuse augmentation that changes an angle without the target's knowing of it."""
    spoils = {"crop-flip": "mirrors images", "resized-crop": "mirrors and stretches images"}
    augment = values.get("augment", "auto")
    if augment in spoils:
        raise FieldError("augment", f"{augment}: it {spoils[augment]}, which changes their angle; write crop or none")
    if values.get("randaugment"):
        raise FieldError(
            "randaugment", f"{values['randaugment']:g}: it turns and shears images; the target of {data} is their angle"
            "; leave it out"
        )  # fmt: skip
