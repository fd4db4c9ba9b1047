"""The names of video predictors and the frames they take, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping

from switch_ema.errors import InputError, unknown

MODELS: Mapping[str, str] = {
    "convlstm": "ConvLSTM: four recurrent layers of 128 channels, 5x5 kernels, patches of 4x4 pixels (11.7 M)",
    "predrnn": "PredRNN: four ST-LSTM layers of 128 channels with a memory that climbs through all of them (23.8 M)",
    "simvp-incepu": "SimVP: convolutions only, a U-Net of Inception blocks over all frames at once (58.0 M)",
    "simvp-gsta": "SimVP v2: eight blocks of gated attention by large kernels over all frames at once (46.8 M)",
    "tau": "TAU: SimVP with temporal attention units, and a term on how frames differ in the loss (44.7 M)",
    "mau": "MAU: four motion-aware layers of 64 channels that attend to the last five time steps (4.5 M)",
}
"""All networks by name, with the number of parameters at size ``paper`` for 10 -> 10 grey frames of 64x64 pixels."""

SIZES: Mapping[str, str] = {
    "paper": "the settings of OpenSTL for Moving-MNIST",
    "small": "the same structure for frames of 16x16 or 32x32 pixels on a CPU, below 0.5 M parameters",
}
"""All sizes by name."""

_DIVISOR = 4  # every network works on maps of a quarter of the side
_SMALLEST = 8  # below, such a map is a single cell


def check_predictor(model: str, height: int, width: int, inputs: int, outputs: int) -> None:
    """Check a request for a video predictor before torch is imported.

    Args:
        model: One of `MODELS`.
        height: Height of the frames in pixels, a multiple of 4, at least 8.
        width: Width of the frames in pixels, a multiple of 4, at least 8.
        inputs: Number of past frames, at least 1.
        outputs: Number of future frames, at least 1.

    Raises:
        InputError: The network is unknown, or it cannot take such frames.

    Example:
        >>> check_predictor("mau", 64, 64, 10, 10)
        >>> check_predictor("mau", 30, 64, 10, 10)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        switch_ema.errors.InputError: mau cannot take frames of 30x64 pixels...; write 32x64
    """
    if model not in MODELS:
        raise unknown("model", model, MODELS)
    fitting = _nearest(height), _nearest(width)
    if fitting != (height, width):
        raise InputError(
            f"{model} cannot take frames of {height}x{width} pixels: both sides must be multiples of {_DIVISOR}, "
            f"{_SMALLEST} or more; write {fitting[0]}x{fitting[1]}"
        )
    for name, number in (("inputs", inputs), ("outputs", outputs)):
        if number < 1:
            raise InputError(f"{name} {number}: {model} needs at least 1 frame; write 1 or more")


def _nearest(side: int) -> int:
    return max(_SMALLEST, (side + _DIVISOR // 2) // _DIVISOR * _DIVISOR)
