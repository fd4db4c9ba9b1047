"""How weights are folded into an average: by a decay rule, or as the mean of the last few snapshots."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from switch_ema.averaging.decay import Constant, DecayRule, check_decay
from switch_ema.averaging.tensors import local


class Fold(Protocol):
    """One way of folding the weights into the average.

    `taken` is the time (steps or epochs, in the unit of the update trigger) already in the average, and `elapsed` the
    time since the last update; `n` updates went before.
    """

    @property
    def per_unit(self) -> bool:
        """Whether the rule speaks of time, so that weights can be folded in at any moment."""

    def share(self, n: int, taken: int, elapsed: int) -> float | None:
        """Return the share that the weights get in the average; `None` if `mean` says what the average is."""

    def mean(self, values: Mapping[str, Tensor], averages: Mapping[str, Tensor]) -> None:
        """Set the averages, in place, with the values of now."""

    def lag(self, lag: float, n: int, taken: int, elapsed: int) -> float:
        """Return how far (in time) the average is behind a steadily moving model after the update.

        `lag` is how far it was behind after the update before.
        """

    def lag_after(self, n: int, taken: int, every: int, updates: int) -> float:
        """Return how far the average is behind after some updates in a row, from no lag; `n` went before."""

    def snapshots(self, averages: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return what must be kept beside the averages to go on from here, the oldest first."""

    def restore(self, snapshots: list[dict[str, Tensor]]) -> None:
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

    def share(self, n: int, taken: int, elapsed: int) -> float:
        """Return `1 - D`."""
        return 1 - self.decay(n, taken, elapsed)

    def mean(self, values: Mapping[str, Tensor], averages: Mapping[str, Tensor]) -> None:
        """Do nothing: the share says it all."""

    def lag(self, lag: float, n: int, taken: int, elapsed: int) -> float:
        """Return `D * (lag + elapsed)`."""
        return self.decay(n, taken, elapsed) * (lag + elapsed)

    def lag_after(self, n: int, taken: int, every: int, updates: int) -> float:
        """Return the sum of `every * D^i`, in closed form where D is constant."""
        if isinstance(self.rule, Constant):
            kept = self.decay(n, taken, every)
            return every * updates if kept == 1 else every * kept * (1 - kept**updates) / (1 - kept)
        lag = 0.0
        for i in range(updates):
            lag = self.lag(lag, n + i, taken + i * every, every)
        return lag

    def snapshots(self, averages: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return nothing: the average is all there is."""
        return []

    def restore(self, snapshots: list[dict[str, Tensor]]) -> None:
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
    _snapshots: deque[dict[str, Tensor]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"window is the number of snapshots averaged, at least 1, got {self.size!r}; write e.g. 5")
        self._snapshots = deque(maxlen=self.size)

    def share(self, n: int, taken: int, elapsed: int) -> None:
        """Return nothing: the mean is taken anew each time."""

    @torch.no_grad()
    def mean(self, values: Mapping[str, Tensor], averages: Mapping[str, Tensor]) -> None:
        """Add a snapshot, drop the oldest beyond the window, and take the mean anew (without accumulating error)."""
        newest = {
            name: value.detach().to(averages[name].device, averages[name].dtype, copy=True)
            for name, value in values.items()
        }
        self._snapshots.append(newest)
        for name, new in newest.items():
            for snapshot in self._snapshots:
                old = snapshot.get(name)
                if old is None or old.shape != new.shape:  # a tensor that is new, or changed its shape, starts anew
                    snapshot[name] = new
                elif old.device != new.device or old.dtype != new.dtype:
                    snapshot[name] = old.to(new)
            first, *others = local([snapshot[name] for snapshot in self._snapshots])
            mean = first.to(torch.promote_types(first.dtype, torch.float32), copy=True)
            for count, other in enumerate(others, start=2):
                mean.lerp_(other.to(mean.dtype), 1 / count)
            local([averages[name]])[0].copy_(mean)

    def lag(self, lag: float, n: int, taken: int, elapsed: int) -> float:
        """Return the mean age of the snapshots."""
        return elapsed * (min(n + 1, self.size) - 1) / 2

    def lag_after(self, n: int, taken: int, every: int, updates: int) -> float:
        """Return the mean age of the snapshots."""
        return self.lag(0.0, n + updates - 1, taken, every) if updates else 0.0

    def snapshots(self, averages: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the snapshots, the oldest first, without tensors that are gone or changed their shape since."""
        return [
            {name: t for name, t in snapshot.items() if name in averages and t.shape == averages[name].shape}
            for snapshot in self._snapshots
        ]

    def restore(self, snapshots: list[dict[str, Tensor]]) -> None:
        """Take copies of another run's snapshots."""
        self._snapshots.clear()
        self._snapshots.extend({name: tensor.clone() for name, tensor in snapshot.items()} for snapshot in snapshots)
