"""Decay rules: the share of the old average that is kept. Standard library only.

Every rule is a function of `n`, the number of steps (or updates) taken into the average so far, counted from 0:

    average <- decay(n) * average + (1 - decay(n)) * model
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from switch_ema.averaging.trigger import Duration

FREEZING = 0.1
"""A switch that keeps less than this share of the progress all but stops training."""


class DecayRule(Protocol):
    """A function from the count so far to the share of the old average kept, in [0, 1]."""

    def __call__(self, n: int, /) -> float:
        """Return the decay at count `n`."""


def check_decay(decay: float, name: str = "decay") -> float:
    """Return the decay if it is a number in [0, 1].

    Raises:
        ValueError: If it is not; the message names the usual slip (the share of the new weights).
    """
    if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay <= 1:
        raise ValueError(
            f"{name} is the share of the old average kept, a number in [0, 1], got {decay!r}; write e.g. 0.999"
        )
    return float(decay)


def check_positive(value: float, name: str, example: str) -> float:
    """Return the value if it is a finite number above 0.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, got {value!r}; write e.g. {example}")
    return float(value)


@dataclass(frozen=True)
class Constant:
    """The same decay always: `decay(n) = decay`."""

    decay: float

    def __post_init__(self) -> None:
        check_decay(self.decay)

    def __call__(self, n: int) -> float:
        """Return the decay, whatever `n`."""
        return self.decay


@dataclass(frozen=True)
class Warmup:
    """Grows like a running mean, then stays: `decay(n) = min(decay, (1 + n) / (10 + n))`.

    References:
        Morales-Brotons, Vogels, Hendrikx, "Exponential Moving Average of Weights in Deep Learning: Dynamics and
        Benefits", arXiv 2411.18704, 2024.
    """

    decay: float

    def __post_init__(self) -> None:
        check_decay(self.decay)

    def __call__(self, n: int) -> float:
        """Return the decay at count `n`."""
        return min(self.decay, (1 + n) / (10 + n))


@dataclass(frozen=True)
class InverseGamma:
    """Grows by a power law, then stays: `decay(n) = min(decay, 1 - (1 + n / gamma) ** -power)`.

    Args:
        decay: The decay in the end, in [0, 1].
        gamma: Count at which the growth sets in, above 0.
        power: How fast it grows, above 0; 2/3 for a million updates, 3/4 for fewer.
    """

    decay: float
    gamma: float = 1.0
    power: float = 2 / 3

    def __post_init__(self) -> None:
        check_decay(self.decay)
        check_positive(self.gamma, "gamma", "1.0")
        check_positive(self.power, "power", "0.75")

    def __call__(self, n: int) -> float:
        """Return the decay at count `n`."""
        return min(self.decay, 1 - math.pow(1 + n / self.gamma, -self.power))


@dataclass(frozen=True)
class LinearRamp:
    """Climbs in a straight line: from `ratio * decay` at 0 to `decay` at `length`, then stays.

    `decay(n) = decay * (1 - (1 - n / length) * (1 - ratio))` for `n < length`.

    References:
        Li et al., "Switch EMA: A Free Lunch for Better Flatness and Sharpness", arXiv 2402.09240, 2024 (its code:
        length of 5 epochs, ratio 0.9).
    """

    decay: float
    length: int
    ratio: float = 0.9

    def __post_init__(self) -> None:
        check_decay(self.decay)
        check_decay(self.ratio, "ratio")
        check_positive(self.length, "length", "2500")

    def __call__(self, n: int) -> float:
        """Return the decay at count `n`."""
        return self.decay * (1 - max(0.0, 1 - n / self.length) * (1 - self.ratio))


@dataclass(frozen=True)
class PowerFunction:
    """Keeps a window that grows with training: `decay(n) = (1 - 1 / (n + 1)) ** (gamma + 1)`.

    The average then weights step `t` by `t ** gamma`; gamma 0 is the plain mean.

    References:
        Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696,
        2024 (Eq. 127).
    """

    gamma: float

    def __post_init__(self) -> None:
        if isinstance(self.gamma, bool) or not isinstance(self.gamma, (int, float)) or not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be a number of at least 0, got {self.gamma!r}; write e.g. 6.94")

    def __call__(self, n: int) -> float:
        """Return the decay at count `n`."""
        return float((n / (n + 1)) ** (self.gamma + 1))


@dataclass(frozen=True)
class Uniform:
    """The arithmetic mean of everything averaged: `decay(n) = n / (n + 1)`."""

    def __call__(self, n: int) -> float:
        """Return the decay at count `n`."""
        return n / (n + 1)


def from_half_life(half_life: float) -> float:
    """Return the decay at which a weight's share halves in `half_life` steps: `0.5 ** (1 / half_life)`.

    Example:
        >>> round(from_half_life(693), 4)
        0.999
    """
    return float(0.5 ** (1 / check_positive(half_life, "half-life", "500")))


def from_window(window: float) -> float:
    """Return the decay whose average looks back over `window` steps: `1 - 1 / window`, for a window of at least 1.

    Example:
        >>> from_window(1000)
        0.999
    """
    if check_positive(window, "window", "1000") < 1:
        raise ValueError(f"a window is at least one step, got {window:g} steps; write a longer one")
    return 1 - 1 / window


def sigma_rel_from_gamma(gamma: float) -> float:
    """Return how wide a power function is: the standard deviation of its profile as a part of training.

    `sqrt(gamma + 1) / ((gamma + 2) * sqrt(gamma + 3))`.

    Args:
        gamma: Exponent of the power function, at least 0.

    Raises:
        ValueError: If gamma is below 0 or not finite.

    Example:
        >>> round(sigma_rel_from_gamma(6.94), 4), round(sigma_rel_from_gamma(16.97), 4)
        (0.1, 0.05)

    References:
        Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696,
        2024 (Section 3.1).
    """
    gamma = PowerFunction(gamma).gamma
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


def gamma_from_sigma_rel(sigma_rel: float) -> float:
    """Return the exponent of the power function whose profile has this standard deviation.

    The largest root of `gamma^3 + 7 gamma^2 + (16 - s) gamma + (12 - s) = 0` with `s = 1 / sigma_rel^2`.

    Args:
        sigma_rel: Standard deviation as a part of training, above 0 and at most `1 / sqrt(12)` = 0.2887 (gamma 0, the
            plain mean).

    Raises:
        ValueError: If `sigma_rel` is out of its range.

    Example:
        >>> round(gamma_from_sigma_rel(0.1), 2), round(gamma_from_sigma_rel(0.05), 2)
        (6.94, 16.97)
    """
    number = isinstance(sigma_rel, (int, float)) and not isinstance(sigma_rel, bool)
    if not number or not 0 < sigma_rel <= 12**-0.5 or 1 / sigma_rel == math.inf:
        raise ValueError(
            "sigma_rel is the width of the average as a part of training, above 0 and at most 0.2886 (1/sqrt(12), the "
            f"plain mean), got {sigma_rel!r}; write e.g. 0.1"
        )
    # in u = sigma_rel * gamma, which stays near 1; convex from the root on, so that Newton's steps go down to it
    s, u, last = sigma_rel, 1.0, math.inf
    while u < last:
        value = ((u + 7 * s) * u + 16 * s * s - 1) * u + 12 * s**3 - s
        last, u = u, u - value / ((3 * u + 14 * s) * u + 16 * s * s - 1)
    return max(0.0, u / s)


def retained_fraction(decay: float, updates: int) -> float:
    """Return the share of an interval's steady progress that survives a switch at its end.

    `(n - a (1 - a^n) / (1 - a)) / n` for decay `a` and `n` updates in the interval.

    Args:
        decay: Share of the old average kept at each update, in [0, 1].
        updates: Updates from one switch to the next, at least 1.

    Example:
        >>> round(retained_fraction(0.9999, 500), 3), round(retained_fraction(0.99, 500), 3)
        (0.025, 0.803)
    """
    check_positive(updates, "updates", "500")
    if check_decay(decay) in (0.0, 1.0):
        return 1.0 - decay
    log = math.log(decay)
    return 1 - decay * math.expm1(updates * log) / math.expm1(log) / updates


def decay_that_retains(fraction: float, updates: int, steps_per_update: int = 1) -> float:
    """Return the decay per step at which a switch after `updates` updates keeps `fraction` of the progress, rounded.

    Example:
        >>> decay_that_retains(0.25, 500)
        0.9988
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        keeps_more = retained_fraction(middle**steps_per_update, updates) > fraction
        low, high = (middle, high) if keeps_more else (low, middle)
    share_new = 1 - low
    return round(low, 1 - math.floor(math.log10(share_new))) if share_new < 1 else 0.0


_FORMS = (
    "0.999, 'half-life 500 steps', 'window 1 epoch', 'warmup 0.999', 'inverse-gamma 0.999' or "
    "'ramp 0.999 over 2500 steps'"
)


def parse_decay(value: float | str | DecayRule, steps_per_epoch: int | None = None) -> DecayRule:
    """Read a decay: a number, a rule, or a string.

    Args:
        value: A number in [0, 1]; a rule; or one of `"0.999"`, `"half-life 500 steps"`, `"window 0.5 epoch"`,
            `"warmup 0.999"`, `"inverse-gamma 0.999"`, `"ramp 0.999 over 5 epochs"`.
        steps_per_epoch: Optimizer steps in an epoch; needed where the string speaks of epochs.

    Returns:
        The rule.

    Raises:
        ValueError: If the value is none of these, or out of range.

    Example:
        >>> parse_decay("window 0.5 epoch", steps_per_epoch=200)
        Constant(decay=0.99)
    """
    if isinstance(value, (int, float)):
        return Constant(check_decay(value))
    if not isinstance(value, str):
        if not callable(value):
            raise ValueError(f"decay is {value!r}; write {_FORMS}")
        return value
    words = value.split(maxsplit=1)
    kind, rest = (words[0], words[1]) if len(words) == 2 else ("", value.strip())
    ramp = re.fullmatch(r"(\S+)\s+over\s+(.+)", rest)
    if kind == "half-life":
        return Constant(from_half_life(float(Duration.parse(rest).in_steps(steps_per_epoch))))
    if kind == "window":
        return Constant(from_window(float(Duration.parse(rest).in_steps(steps_per_epoch))))
    if kind == "ramp" and ramp:
        return LinearRamp(_number(ramp[1], value), round(Duration.parse(ramp[2]).in_steps(steps_per_epoch)))
    rules: dict[str, Callable[[float], DecayRule]] = {"": Constant, "warmup": Warmup, "inverse-gamma": InverseGamma}
    if kind not in rules:
        raise ValueError(f"{value!r} is not a decay; write {_FORMS}")
    return rules[kind](_number(rest, value))


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{whole!r} is not a decay; write {_FORMS}") from None
