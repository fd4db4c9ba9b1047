"""What the generation task accepts, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from switch_ema.data.catalog import Source
from switch_ema.data.pictures import locate_pictures
from switch_ema.errors import FieldError
from switch_ema.libraries import require
from switch_ema.tasks.generation.inception import missing
from switch_ema.tasks.generation.unets import UNETS, check_size
from switch_ema.tasks.options import Option, flag, one_of, read_options, share, whole

MODELS: Mapping[str, str] = {name: unet.about for name, unet in UNETS.items()}
"""The networks by name."""

LEAST_STEPS = 50
"""With fewer, the last of the linear schedule's steps would be too large."""

_KNOWN_SIZES = {"digits": 8, "celeba": 64}  # of other sets the side shows when they are read

OPTIONS: Mapping[str, Option] = {
    "steps": Option(f"noise levels in training, from {LEAST_STEPS}; 1000 by default", whole),
    "noise_schedule": Option("linear or cosine", one_of("linear", "cosine")),
    "prediction": Option("what the network says: epsilon (the noise) or v (velocity)", one_of("epsilon", "v")),
    "sampler": Option("ddim (without noise) or ddpm", one_of("ddim", "ddpm")),
    "sampling_steps": Option("steps of the sampler, a divisor of steps; 25 by default", whole),
    "samples": Option("images made to measure the distances; 256 by default", whole),
    "inception": Option(
        "fid and kid by Inception features: auto (where torch-fidelity and its weights are), true or false",
        one_of("auto", "true", "false"),
    ),
    "train_size": Option("number of training images, a fixed subset", whole),
    "image_size": Option("side in pixels to scale and crop the images to; celeba 64", whole),
    "flip": Option("mirror every other training image: auto (colour images), true or false",
                   one_of("auto", "true", "false")),
    "dropout": Option("rate of dropout; unet-small 0, others 0.1", share),
    "skip_corrupt": Option("leave out images that cannot be read", flag),
}  # fmt: skip
"""The options of `switch_ema.tasks.generation.task.Generation`."""


@dataclass(frozen=True)
class Chosen:
    """Values of `OPTIONS`, with their defaults; None stands for what the description says of the default."""

    steps: int = 1000
    noise_schedule: str = "linear"
    prediction: str = "epsilon"
    sampler: str = "ddim"
    sampling_steps: int = 25
    samples: int = 256
    inception: str = "auto"
    train_size: int | None = None
    image_size: int | None = None
    flip: str = "auto"
    dropout: float | None = None
    skip_corrupt: bool = False


def check(data: str, model: str, options: Mapping[str, Any]) -> tuple[Source, Chosen]:
    """Refuse what is wrong with a request for the generation task, before anything heavy is imported.

    Args:
        data: A named data set or a folder (see `switch_ema.data.pictures`).
        model: One of `MODELS`.
        options: Values or texts by name (see `OPTIONS`).

    Returns:
        Where the data lie, and the options.

    Raises:
        InputError: An option is unknown or out of range, the data are missing or damaged, or they do not go together.

    Example:
        >>> check("digits", "unet-small", {"sampling_steps": 30})
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: sampling_steps 30: does not divide the 1000 steps; write 25 or 40
    """
    require("generation", "diffusers")
    chosen = Chosen(**read_options(OPTIONS, options))
    _check_steps(chosen)
    if chosen.samples < 2:
        raise FieldError("samples", f"{chosen.samples}: distances compare sets; write at least 2, such as 256")
    if chosen.dropout == 1:
        raise FieldError("dropout", "1: nothing would be left; write a share below 1, such as 0.1")
    size = chosen.image_size or _KNOWN_SIZES.get(data)
    if size:
        check_size(model, size)
    if chosen.inception == "true" and (lack := missing()):
        raise FieldError("inception", f"true: {lack}; or leave it out")
    return locate_pictures(data), chosen


def picture_size(source: Source, chosen: Chosen) -> int | None:
    """Return the side to which images are scaled and cropped; None keeps them."""
    return chosen.image_size or (_KNOWN_SIZES["celeba"] if source.name == "celeba" else None)


def _check_steps(chosen: Chosen) -> None:
    steps, wanted = chosen.steps, chosen.sampling_steps
    if steps < LEAST_STEPS:
        raise FieldError("steps", f"{steps}: write at least {LEAST_STEPS}, such as 1000")
    if steps % wanted:
        divisors = [number for number in range(1, steps + 1) if steps % number == 0]
        near = [max(d for d in divisors if d <= wanted), *[d for d in divisors if d > wanted][:1]]
        raise FieldError(
            "sampling_steps", f"{wanted}: does not divide the {steps} steps; write {' or '.join(map(str, near))}"
        )
