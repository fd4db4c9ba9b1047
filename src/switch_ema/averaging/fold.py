"""How weights are folded into an average: by a decay rule, or as the mean of the last few snapshots."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from switch_ema.averaging import tensors
from switch_ema.averaging.decay import DecayRule, check_decay


class Fold(Protocol):
    """One way of folding the weights into the average.

    `taken` is the time (steps or epochs, in the unit of the update trigger) already in the average, and `elapsed` the
    time since the last update.
    """

    @property
    def per_unit(self) -> bool:
        """Whether the rule speaks of time, so that weights can be folded in at any moment."""

    def fold(self, averages: Sequence[Tensor], values: Sequence[Tensor], n: int, taken: int, elapsed: int) -> None:
        """Fold the values into the averages, in place; `n` updates went before."""

    def lag(self, lag: float, n: int, taken: int, elapsed: int) -> float:
        """Return how far (in time) the average is behind a steadily moving model after the update.

        `lag` is how far it was behind after the update before.
        """

    def snapshots(self) -> list[list[Tensor]]:
        """Return what must be kept beside the averages to go on from here, the oldest first."""

    def restore(self, snapshots: list[list[Tensor]]) -> None:
        """Go on from the snapshots of another run."""


@dataclass(frozen=True)
class Decayed:
    """`average <- D * average + (1 - D) * model`, with D from a decay rule.

    Args:
        rule: The decay rule.
        per_unit: If true the rule speaks of single steps: an update after k of them uses the product of their decays
            (decay ** k where it is constant), so that the average's memory does not depend on how often it is updated.
            If false the rule counts updates.
    """

    rule: DecayRule
    per_unit: bool

    def decay(self, n: int, taken: int, elapsed: int) -> float:
        """Return D for this update."""
        if self.per_unit:
            return math.prod(self._at(taken + i) for i in range(elapsed))
        return self._at(n)

    def _at(self, n: int) -> float:
        decay = self.rule(n)
        if type(decay) is float and 0 <= decay <= 1:
            return decay
        return check_decay(decay, "the value of a decay rule")

    def fold(self, averages: Sequence[Tensor], values: Sequence[Tensor], n: int, taken: int, elapsed: int) -> None:
        """Fold the values into the averages, in place."""
        tensors.lerp_(averages, values, 1 - self.decay(n, taken, elapsed))

    def lag(self, lag: float, n: int, taken: int, elapsed: int) -> float:
        """Return `D * (lag + elapsed)`."""
        return self.decay(n, taken, elapsed) * (lag + elapsed)

    def snapshots(self) -> list[list[Tensor]]:
        """Return nothing: the average is all there is."""
        return []

    def restore(self, snapshots: list[list[Tensor]]) -> None:
        """Take nothing back."""


@dataclass
class Window:
    """The mean of the last `size` snapshots, each with the same weight; it keeps `size` copies of the weights.

    References:
        Kaddour, "Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight Averaging",
        arXiv 2209.14981, 2022.
    """

    size: int
    per_unit: bool = field(default=False, init=False)
    _snapshots: deque[list[Tensor]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"window is the number of snapshots averaged, at least 1, got {self.size!r}; write e.g. 5")
        self._snapshots = deque(maxlen=self.size)

    @torch.no_grad()
    def fold(self, averages: Sequence[Tensor], values: Sequence[Tensor], n: int, taken: int, elapsed: int) -> None:
        """Add a snapshot, drop the oldest beyond the window, and take the mean anew (without accumulating error)."""
        newest = [v.detach().to(a.dtype, copy=True) for a, v in zip(averages, values, strict=True)]
        self._snapshots.append(newest)
        for count, snapshot in enumerate(self._snapshots, start=1):
            for i, (old, new) in enumerate(zip(snapshot, newest, strict=True)):
                if old.shape != new.shape:  # a buffer that changed its shape starts anew
                    snapshot[i] = new
                elif old.device != new.device:
                    snapshot[i] = old.to(new.device)
            tensors.lerp_(averages, snapshot, 1 / count)

    def lag(self, lag: float, n: int, taken: int, elapsed: int) -> float:
        """Return the mean age of the snapshots."""
        return elapsed * (min(n + 1, self.size) - 1) / 2

    def snapshots(self) -> list[list[Tensor]]:
        """Return the snapshots, the oldest first."""
        return list(self._snapshots)

    def restore(self, snapshots: list[list[Tensor]]) -> None:
        """Take copies of another run's snapshots."""
        self._snapshots.clear()
        self._snapshots.extend([[t.clone() for t in snapshot] for snapshot in snapshots])
