"""What `sema tune` searches: the decay and the steps between switches, both on logarithmic scales."""

from __future__ import annotations

import math
from dataclasses import dataclass

from switch_ema.bench.methods import Method
from switch_ema.errors import FieldError

Point = dict[str, float]
"""A point of the space: ``window`` = 1 / (1 - decay) and ``interval``, both in optimizer steps."""


@dataclass(frozen=True)
class Space:
    """Ranges of a search.

    Attributes:
        decay: Lowest and highest decay, in (0, 1).
        interval: Fewest and most steps from one switch to the next.
    """

    decay: tuple[float, float]
    interval: tuple[int, int]

    @property
    def window(self) -> tuple[float, float]:
        """The window at the lowest and the highest decay, in steps."""
        return 1 / (1 - self.decay[0]), 1 / (1 - self.decay[1])

    def start(self, steps_per_epoch: int) -> Point:
        """Return where a search starts: the defaults of the bench, a window and an interval of one epoch."""
        low, high = self.window
        return {
            "window": min(max(float(steps_per_epoch), low), high),
            "interval": min(max(steps_per_epoch, self.interval[0]), self.interval[1]),
        }


def read_space(decay: str | None, switch_every: str | None, steps: int) -> Space:
    """Read the ranges of a search, or choose them from the length of training.

    Args:
        decay: ``LOW,HIGH``; by default windows of 2 steps to half of training.
        switch_every: ``FEWEST,MOST`` steps; by default 1 step to a quarter of training.
        steps: Optimizer steps of a training.

    Raises:
        FieldError: A range is malformed, empty or out of range.

    Example:
        >>> read_space(None, "10,200", steps=1000)
        Space(decay=(0.5, 0.998), interval=(10, 200))
    """
    decays = _pair("decay", decay, "0.9,0.999") if decay else (0.5, 1 - 2 / max(steps, 5))
    if not 0 < decays[0] <= decays[1] < 1:
        raise FieldError("decay", f"{decay}: write two decays from above 0 to below 1, the lower first: 0.9,0.999")
    if not switch_every:
        return Space(decays, (1, max(1, steps // 4)))
    fewest, most = _pair("switch_every", switch_every, "10,500")
    if not 1 <= fewest <= most <= steps or fewest % 1 or most % 1:
        raise FieldError(
            "switch_every", f"{switch_every}: write two whole numbers of steps from 1 to {steps}, the lower first"
        )
    return Space(decays, (int(fewest), int(most)))


def _pair(field: str, text: str, example: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise FieldError(field, f"{text!r} is not a range; write e.g. {example}") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise FieldError(field, f"{text!r} is not a range; write e.g. {example}")
    return low, high


def method_at(point: Point) -> Method:
    """Return Switch EMA at a point; 1 - decay keeps three digits.

    Example:
        >>> method_at({"window": 37.0, "interval": 22}).label
        'sema:decay=0.973,switch_every=22 steps'
    """
    decay = 1 - float(f"{1 / point['window']:.3g}")
    return Method("sema", (("decay", f"{decay:.10g}"), ("switch_every", f"{int(point['interval'])} steps")))
