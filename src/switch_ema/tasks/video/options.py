"""What the video task accepts, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from switch_ema.data.video.catalog import Source, canvas, check_length, frame_size, locate
from switch_ema.data.video.windows import Frames
from switch_ema.errors import FieldError, InputError
from switch_ema.tasks.options import Option, flag, one_of, read_options, whole
from switch_ema.tasks.video.models.names import MODELS, check_predictor

Size = Literal["paper", "small"]

_USUAL_FRAMES = 10
_FEWER_FRAMES = {"moving-digits": 5}  # so that a CPU learns them in seconds
_PAPER_FROM = 64  # pixels a side


def _frames(text: str) -> int | str:
    """Read a whole number of at least 2, or any."""
    if text == "any":
        return text
    if not text.isdecimal() or int(text) < 2:
        raise ValueError("write a number of frames of at least 2, or any")
    return int(text)


OPTIONS: Mapping[str, Option] = {
    "inputs": Option("frames to predict from; 10 by default, 5 for moving-digits", whole),
    "outputs": Option("frames to predict; 10 by default, 5 for moving-digits", whole),
    "size": Option(
        "of the network: paper, small, or auto (paper where a side has 64 pixels or more)",
        one_of("auto", "paper", "small"),
    ),
    "train_size": Option("training sequences; generated: 10,000, or 256 of moving-digits", whole),
    "test_size": Option("test sequences; generated: 10,000, or 80 of moving-digits", whole),
    "fresh": Option("generate new training sequences in every epoch (true), or the same ones", flag),
    "image_size": Option("side in pixels: of the canvas, or to scale and crop stored frames to", whole),
    "frames": Option("take so many frames of each stored clip; any cuts up clips of unequal length", _frames),
}
"""The options of `switch_ema.tasks.video.task.Video`."""


@dataclass(frozen=True)
class Chosen:
    """Values of `OPTIONS`, with their defaults; None stands for what the description says of the default."""

    inputs: int | None = None
    outputs: int | None = None
    size: str = "auto"
    train_size: int | None = None
    test_size: int | None = None
    fresh: bool | None = None
    image_size: int | None = None
    frames: Frames = None

    def spans(self, data: str) -> tuple[int, int]:
        """Return how many frames to predict from, and how many to predict."""
        usual = _FEWER_FRAMES.get(data, _USUAL_FRAMES)
        return self.inputs or usual, self.outputs or usual

    def network_size(self, height: int, width: int) -> Size:
        """Return the size of the network for frames of so many pixels."""
        if self.size == "auto":
            return "paper" if max(height, width) >= _PAPER_FROM else "small"
        return "paper" if self.size == "paper" else "small"


def check(data: str, model: str, options: Mapping[str, Any]) -> Source:
    """Refuse what is wrong with a request for the video task, before anything heavy is imported.

    Args:
        data: A named data set, a folder or a file (see `switch_ema.data.video.catalog`).
        model: One of `switch_ema.tasks.video.models.names.MODELS`.
        options: Values or texts by name (see `OPTIONS`).

    Returns:
        Where the data lie.

    Raises:
        InputError: An option is unknown or out of range, the data are missing, damaged, too short or unequally long,
            or they do not go together.

    Example:
        >>> check("moving-digits", "simvp-gsta", {"image_size": 30})
        Traceback (most recent call last):
        ...
        switch_ema.errors.InputError: simvp-gsta cannot take frames of 30x30 pixels: ...
    """
    chosen = Chosen(**read_options(OPTIONS, options))
    source = locate(data)
    if source.is_generated and chosen.frames is not None:
        raise FieldError("frames", f"{chosen.frames}: the sequences of {data} are generated; leave it out")
    if not source.is_generated and chosen.fresh is not None:
        raise FieldError("fresh", f"{str(chosen.fresh).lower()}: {data} has stored frames; leave it out")
    check_length(source, sum(chosen.spans(data)), chosen.frames)
    side = chosen.image_size or canvas(source)
    size = (side, side) if side else frame_size(source)
    if size is not None:  # else the frames have to be read first
        check_frames(model, *size, *chosen.spans(data), scalable=not source.is_generated)
    return source


def check_frames(model: str, height: int, width: int, inputs: int, outputs: int, *, scalable: bool) -> None:
    """Refuse frames that a network cannot take.

    Args:
        model: Name of the network.
        height: Height of the frames in pixels.
        width: Their width.
        inputs: Frames to predict from.
        outputs: Frames to predict.
        scalable: Whether the frames are stored, so that the option ``image_size`` scales them.

    Raises:
        InputError: See `switch_ema.tasks.video.models.names.check_predictor`.
    """
    try:
        check_predictor(model, height, width, inputs, outputs)
    except InputError as error:
        if not scalable or model not in MODELS:
            raise
        raise InputError(f"{error}; --image-size scales stored frames and crops them to a square") from None
