"""Video predictors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from switch_ema.errors import InputError, unknown
from switch_ema.tasks.video.models.base import Predictor
from switch_ema.tasks.video.models.convlstm import ConvLSTM
from switch_ema.tasks.video.models.gsta import GatedAttention, attention_blocks
from switch_ema.tasks.video.models.incepu import InceptionUNet
from switch_ema.tasks.video.models.mau import MAU
from switch_ema.tasks.video.models.names import SIZES, check_predictor
from switch_ema.tasks.video.models.predrnn import PredRNN
from switch_ema.tasks.video.models.simvp import SimVP
from switch_ema.tasks.video.models.tau import TAU, TemporalAttention

_PAPER: Mapping[str, Mapping[str, int]] = {
    "convlstm": {},
    "predrnn": {},
    "simvp-incepu": {"maps": 64, "hidden": 512, "blocks": 8},
    "simvp-gsta": {"maps": 64, "hidden": 512, "blocks": 8, "mlp_ratio": 8},
    "tau": {"maps": 64, "hidden": 512, "blocks": 8, "mlp_ratio": 8},
    "mau": {},
}
_SMALL: Mapping[str, Mapping[str, int]] = {
    "convlstm": {"hidden": 32, "layers": 2, "kernel": 3},
    "predrnn": {"hidden": 24, "layers": 2, "kernel": 3},
    "simvp-incepu": {"maps": 8, "hidden": 64, "blocks": 2},
    "simvp-gsta": {"maps": 8, "hidden": 64, "blocks": 3, "mlp_ratio": 4},
    "tau": {"maps": 8, "hidden": 64, "blocks": 3, "mlp_ratio": 4},
    "mau": {"hidden": 16, "layers": 2, "kernel": 3},
}


def build_predictor(
    model: str, *, channels: int, height: int, width: int, inputs: int, outputs: int, size: str = "paper"
) -> Predictor:
    """Make a video predictor; its weights come from torch's global random generator.

    Args:
        model: One of `switch_ema.tasks.video.models.names.MODELS`.
        channels: Channels of the frames, such as 1 or 3.
        height: Height of the frames in pixels, a multiple of 4, at least 8.
        width: Width of the frames in pixels, a multiple of 4, at least 8.
        inputs: Number of past frames, at least 1.
        outputs: Number of future frames, at least 1.
        size: ``paper``, or ``small`` for a CPU.

    Returns:
        A module that maps past frames (n, inputs, channels, height, width) in [0, 1] to frames
        (n, k, channels, height, width), of which the last `outputs` are the future.

    Raises:
        InputError: The model or the size is unknown, or the network cannot take such frames.

    Example:
        >>> from torch import zeros
        >>> predictor = build_predictor("mau", channels=1, height=16, width=16, inputs=4, outputs=6, size="small")
        >>> predictor(zeros(2, 4, 1, 16, 16)).shape  # 4 + 6 - 1 frames: all but the first one
        torch.Size([2, 9, 1, 16, 16])
    """
    check_predictor(model, height, width, inputs, outputs)
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    if channels < 1:
        raise InputError(f"channels {channels}: a frame has at least 1 channel; write 1 or more")
    settings = dict({"paper": _PAPER, "small": _SMALL}[size][model])
    frames = {"channels": channels, "inputs": inputs, "outputs": outputs}
    if model == "mau":
        return MAU(**frames, height=height, width=width, **settings)
    if model in _RECURRENT:
        return _RECURRENT[model](**frames, **settings)
    maps = settings.pop("maps")
    translator = _TRANSLATORS[model](inputs * maps, **settings)
    return (TAU if model == "tau" else SimVP)(**frames, translator=translator, hidden=maps)


_RECURRENT: Mapping[str, Callable[..., Predictor]] = {"convlstm": ConvLSTM, "predrnn": PredRNN}
_TRANSLATORS: Mapping[str, Callable[..., Any]] = {
    "simvp-incepu": InceptionUNet,
    "simvp-gsta": lambda channels, **settings: attention_blocks(channels, attention=GatedAttention, **settings),
    "tau": lambda channels, **settings: attention_blocks(channels, attention=TemporalAttention, **settings),
}
