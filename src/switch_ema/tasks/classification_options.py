"""What the classification task accepts, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from switch_ema.data.catalog import Source, locate
from switch_ema.data.labelfile import parse
from switch_ema.errors import FieldError
from switch_ema.tasks.image_options import ImageChosen, check_images, image_options
from switch_ema.tasks.options import Option, flag, nonnegative, one_of, read_options, share, whole, words

AUGMENTS = ("auto", "none", "crop-flip", "resized-crop")

OPTIONS: Mapping[str, Option] = {
    "label_noise": Option("share of the training labels to make wrong, 0 to 1", share),
    "noise_kind": Option("symmetric (any other class) or pair-flip (the next class)", one_of("symmetric", "pair-flip")),
    "label_file": Option("training labels that people gave, as FILE:COLUMN, such as CIFAR-N's", words),
    "memorisation": Option("measure how many of the wrong training labels have been learned by heart", flag),
    "train_size": Option("number of training images, a stratified subset", whole),
    "val_share": Option("share of the images held out for validation; 0.1, but at most 5,000, by default", share),
    **image_options(AUGMENTS, auto="crop-flip", padding="an eighth of the side", crop_scale=0.08),
    "mixup": Option("alpha of mixup; 0 for none", nonnegative),
    "cutmix": Option("alpha of CutMix; 0 for none; with mixup, each mixes half of the images", nonnegative),
    "label_smoothing": Option("share of each label spread over all classes", share),
    "loss": Option("cross-entropy, or bce: binary cross entropy, one for each class", one_of("cross-entropy", "bce")),
}
"""The options of `switch_ema.tasks.classification.Classification`."""


@dataclass(frozen=True)
class Chosen(ImageChosen):
    """Values of `OPTIONS`, with their defaults; None stands for what the description says of the default."""

    label_noise: float = 0.0
    noise_kind: str = "symmetric"
    label_file: str | None = None
    memorisation: bool = False
    train_size: int | None = None
    val_share: float | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    loss: str = "cross-entropy"


def check(data: str, model: str, options: Mapping[str, Any]) -> Source:
    """Refuse what is wrong with a request for the classification task, before anything heavy is imported.

    Args:
        data: A named data set or a folder (see `switch_ema.data.catalog`).
        model: Name of the network; not checked here.
        options: Values or texts by name (see `OPTIONS`).

    Returns:
        Where the data lie.

    Raises:
        InputError: An option is unknown or out of range, the data are missing or damaged, or they do not go together.

    Example:
        >>> check("digits", "mlp", {"label_noise": 1.5})
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: label_noise 1.5: write a share from 0 to 1, such as 0.4
    """
    values = read_options(OPTIONS, options)
    if values.get("label_file"):
        parse(values["label_file"])
        if values.get("label_noise"):
            raise FieldError("label_noise", f"{values['label_noise']:g}: --label-file brings its own; leave one out")
    if values.get("memorisation") and not (values.get("label_file") or values.get("label_noise")):
        raise FieldError("memorisation", "needs wrong labels; add e.g. --label-noise 0.4")
    if values.get("val_share") in (0, 1):
        raise FieldError("val_share", f"{values['val_share']:g}: write a share above 0 and below 1, such as 0.4")
    check_images(values)
    return locate(data)
