"""Slow textbook twins of the methods: plain Python loops over dictionaries of float64 tensors.

They know nothing of the library: each has its own formula and is told by hand, in the table of methods, when it acts.
A twin is fed the live weights after every optimizer step and after every epoch, and says whether the model must now be
replaced by its average.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def exact(model: nn.Module) -> Weights:
    """Read a model in double precision: parameters (tied ones once) but for whole numbers, and saved buffers."""
    saved = model.state_dict().keys()
    named: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}
    named |= {name: buffer for name, buffer in model.named_buffers() if name in saved}
    return {name: _exact(tensor) for name, tensor in named.items()}


def _exact(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        return tensor.detach().to(torch.complex128, copy=True)
    return tensor.detach().to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True)


class Twin:
    """What every twin has: an average (at first the start), the clock, and the names that are copied, not averaged."""

    def __init__(self, start: Weights, copied: Collection[str]) -> None:
        self.average = dict(start)
        self.copied = copied
        self.steps = self.epochs = 0
        self.n_averaged = self.n_switches = 0

    def step(self, live: Weights) -> bool:
        self.steps += 1
        return self.after_step(live)

    def epoch(self, live: Weights) -> bool:
        self.epochs += 1
        return self.after_epoch(live)

    def after_step(self, live: Weights) -> bool:
        return False

    def after_epoch(self, live: Weights) -> bool:
        return False

    def put(self, live: Weights, mean: Callable[[str], Tensor]) -> None:
        for name in live:
            self.average[name] = live[name] if name in self.copied else mean(name)
        self.n_averaged += 1


class ExponentialTwin(Twin):
    """EMA and Switch EMA: `average = d(t) average + (1 - d(t)) model` for every step t since `after`.

    Updated only every k steps, the average decays by the product of the k decays; a switch takes in what is pending.
    """

    def __init__(
        self,
        start: Weights,
        copied: Collection[str],
        decay: Callable[[int], float],
        *,
        every: int = 1,
        after: int = 0,
        switch_at_steps: Collection[int] = (),
        switch_at_epochs: Collection[int] = (),
    ) -> None:
        super().__init__(start, copied)
        self.decay, self.every, self.after = decay, every, after
        self.switch_at_steps, self.switch_at_epochs = switch_at_steps, switch_at_epochs
        self.seen = 0

    def after_step(self, live: Weights) -> bool:
        age = self.steps - self.after
        if age == 0:
            self.average = dict(live)
        if age > 0 and age % self.every == 0:
            self.mix(live)
        return self.steps in self.switch_at_steps and self.switch(live)

    def after_epoch(self, live: Weights) -> bool:
        return self.epochs in self.switch_at_epochs and self.switch(live)

    def mix(self, live: Weights) -> None:
        keep = 1.0
        while self.seen < self.steps - self.after:
            keep *= self.decay(self.seen)
            self.seen += 1
        self.put(live, lambda name: keep * self.average[name] + (1 - keep) * live[name])

    def switch(self, live: Weights) -> bool:
        if self.seen < self.steps - self.after:
            self.mix(live)
        self.n_switches += 1
        return True


class SnapshotTwin(Twin):
    """SWA and LAWA: the arithmetic mean of all snapshots, or of the last few."""

    def __init__(
        self,
        start: Weights,
        copied: Collection[str],
        *,
        window: int | None = None,
        at_steps: Collection[int] = (),
        at_epochs: Collection[int] = (),
    ) -> None:
        super().__init__(start, copied)
        self.window, self.at_steps, self.at_epochs = window, at_steps, at_epochs
        self.kept: list[Weights] = []

    def after_step(self, live: Weights) -> bool:
        if self.steps in self.at_steps:
            self.keep(live)
        return False

    def after_epoch(self, live: Weights) -> bool:
        if self.epochs in self.at_epochs:
            self.keep(live)
        return False

    def keep(self, live: Weights) -> None:
        self.kept.append(live)
        last = self.kept if self.window is None else self.kept[-self.window :]
        self.put(live, lambda name: sum((w[name] for w in last[1:]), last[0][name]) / len(last))


class LookaheadTwin(Twin):
    """Lookahead as in its paper: slow weights move by alpha towards the fast ones, which are then set to them."""

    def __init__(self, start: Weights, copied: Collection[str], *, k: int, alpha: float) -> None:
        super().__init__(start, copied)
        self.k, self.alpha = k, alpha

    def after_step(self, live: Weights) -> bool:
        if self.steps % self.k:
            return False
        slow = self.average
        self.put(live, lambda name: slow[name] + self.alpha * (live[name] - slow[name]))
        self.n_switches += 1
        return True


class PowerTwin(Twin):
    """Power-function EMA in closed form: a snapshot that stands for the steps (s, t] weighs t^(g+1) - s^(g+1)."""

    def __init__(
        self, start: Weights, copied: Collection[str], *, gamma: float, every: int = 1, after: int = 0
    ) -> None:
        super().__init__(start, copied)
        self.gamma, self.every, self.after = gamma, every, after
        self.kept: list[tuple[float, Weights]] = []

    def after_step(self, live: Weights) -> bool:
        age = self.steps - self.after
        if age > 0 and age % self.every == 0:
            weight = age ** (self.gamma + 1) - (age - self.every) ** (self.gamma + 1)
            self.kept.append((weight, live))
            total = sum(w for w, _ in self.kept)
            self.put(live, lambda name: torch.stack([w / total * kept[name] for w, kept in self.kept]).sum(0))
        return False
