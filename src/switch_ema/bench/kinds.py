"""The kinds of methods that can be compared, and the readers of their options. Never loads torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from switch_ema.averaging.advice import AUTO
from switch_ema.averaging.decay import PowerFunction, check_decay, gamma_from_sigma_rel, parse_decay
from switch_ema.averaging.trigger import Every
from switch_ema.tasks.options import flag, one_of, whole

_ANY_STEPS = 1_000_000  # stands for the steps of an epoch while a decay is only checked


def _decay(text: str) -> str:
    if text != AUTO:
        parse_decay(text, steps_per_epoch=_ANY_STEPS)
    return text


def _trigger(text: str) -> str:
    Every.of(text)
    return text


def _switch(text: str) -> str:
    return text if text == AUTO else _trigger(text)


def _share(text: str) -> float:
    return check_decay(_number(text), "alpha")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"a number is needed, got {text!r}") from None


def _gamma(text: str) -> float:
    return PowerFunction(_number(text)).gamma


def _gammas(text: str) -> tuple[float, ...]:
    return tuple(map(_gamma, text.split("/")))


def sigma_rel(text: str) -> float:
    """Read the width of an average as a part of training."""
    gamma_from_sigma_rel(_number(text))
    return float(text)


@dataclass(frozen=True)
class Kind:
    """A kind of method.

    Attributes:
        summary: What it does, in a few words.
        builder: Its name in `switch_ema`; empty for plain training.
        options: Readers of its options by name.
        defaults: Option texts used where none is given; `{late}` stands for three quarters of the epochs,
            `{twentieth}` for a twentieth.
        switches: Whether it writes into the model and so needs a training run of its own.
    """

    summary: str
    builder: str
    options: Mapping[str, Callable[[str], Any]]
    defaults: Mapping[str, str] = field(default_factory=dict)
    switches: bool = False


_AVERAGED = {"decay": _decay, "update_every": _trigger, "update_after_step": whole, "use_buffers": flag}

KINDS: dict[str, Kind] = {
    "baseline": Kind("plain training", "", {}),
    "ema": Kind("exponential moving average", "EMA", _AVERAGED, {"decay": "window 1 epoch"}),
    "sema": Kind(
        "exponential moving average, copied back into the model (Switch EMA)",
        "SwitchEMA",
        {**_AVERAGED, "switch_every": _switch, "optimizer_state": one_of("keep", "reset")},
        {"decay": "window 1 epoch", "switch_every": "1 epoch"},
        switches=True,
    ),
    "swa": Kind(
        "mean of the weights of the last quarter of the epochs (stochastic weight averaging)",
        "SWA",
        {"update_every": _trigger, "use_buffers": flag},
        {"update_every": "1 epoch after {late}"},
    ),
    "lawa": Kind(
        "mean of the weights of the last few epochs (latest weight averaging)",
        "LAWA",
        {"window": whole, "update_every": _trigger, "use_buffers": flag},
    ),
    "lookahead": Kind(
        "every k steps a share alpha of the progress is kept (Lookahead)",
        "Lookahead",
        {"k": whole, "alpha": _share, "use_buffers": flag, "optimizer_state": one_of("keep", "reset")},
        {"k": "5", "alpha": "0.5"},
        switches=True,
    ),
    "power_ema": Kind(
        "moving average whose memory grows with training (power function)",
        "PowerEMA",
        {"gamma": _gamma, "update_every": _trigger, "update_after_step": whole, "use_buffers": flag},
    ),
    "posthoc": Kind(
        "average whose width is chosen after training, from snapshots that are kept (post-hoc EMA; see sema sweep)",
        "PostHocEMA",
        {
            "sigma_rel": sigma_rel,
            "gammas": _gammas,
            "snapshot_every": _trigger,
            "update_every": _trigger,
        },
        {"sigma_rel": "0.1", "snapshot_every": "{twentieth} epochs"},
    ),
}
