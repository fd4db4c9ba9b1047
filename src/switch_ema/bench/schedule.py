"""Learning-rate schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from switch_ema.bench.settings import Settings

_RISE, _FIRST, _LAST = 0.3, 1 / 25, 1e-4 / 25
"""Share of training in which onecycle rises, and its first and last rate as shares of the peak."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a share of its peak, at each step of training.

    With `t` from 0 to 1 the share of the steps after warm-up that are done:

    - ``cosine``: `floor + (1 - floor) (1 + cos(pi t)) / 2`
    - ``constant``: 1
    - ``step``: `step_factor ** m` after `m` of the milestones, which are `t` = 1/2 and 3/4 unless given
    - ``wsd`` (warm-up, stable, decay): 1, then linear to `floor` over the last `decay_share` of all steps
    - ``onecycle``: two half cosines, from 1/25 up to 1 over 30 % of all steps and down to 1/250,000; no other warm-up

    Warm-up is linear over the first `warmup` steps: from `warmup_start` up to 1, or without it
    `(step + 1) / (warmup + 1)`. By epoch (`hold` = steps in an epoch) the rate after warm-up stays as it is at an
    epoch's first step.

    Args:
        name: Which one.
        total: Steps of the whole training.
        warmup: Steps of the warm-up, 0 to `total`.
        warmup_start: Share of the peak at the first step, 0 to 1.
        floor: Share of the peak at the end, 0 to 1.
        milestones: Steps at which the rate falls, rising; those after the end are never reached.
        step_factor: Factor at each milestone.
        decay_share: Share of the steps in which wsd decays, above 0 up to 1.
        hold: Number of steps for which the rate stays the same.

    References:
        Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, arXiv:1608.03983, 2016 (cosine).
        Smith, Topin: Super-Convergence, arXiv:1708.07120, 2017 (onecycle, here as in torch).
        Hu et al.: MiniCPM, arXiv:2404.06395, 2024 (wsd).

    Example:
        >>> schedule = Schedule("cosine", total=4)
        >>> [round(schedule.factor(step), 3) for step in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """

    name: Literal["cosine", "constant", "step", "onecycle", "wsd"]
    total: int
    warmup: int = 0
    warmup_start: float | None = None
    floor: float = 0.0
    milestones: tuple[float, ...] = ()
    step_factor: float = 0.1
    decay_share: float = 0.2
    hold: int = 1

    @classmethod
    def of(cls, settings: Settings, lr: float, steps_per_epoch: int) -> Schedule:
        """Make the schedule of a training.

        Args:
            settings: What was asked for.
            lr: Peak learning rate, above 0. If it is below `settings.lr_min`, as a control's may be, it stays constant.
            steps_per_epoch: Optimizer steps in an epoch.
        """
        total = settings.epochs * steps_per_epoch
        warmup = round((settings.warmup_epochs or 0) * steps_per_epoch)
        return cls(
            settings.schedule,
            total,
            warmup,
            settings.warmup_start,
            min(1.0, settings.lr_min / lr),
            tuple(epoch * steps_per_epoch for epoch in settings.milestones),
            settings.step_factor,
            settings.decay_share,
            steps_per_epoch if settings.schedule_unit == "epoch" else 1,
        )

    def factor(self, step: int) -> float:
        """Return the learning rate at a step as a share of its peak.

        Args:
            step: Steps completed, from 0 to below `total`.
        """
        if self.name == "onecycle":
            return self._onecycle(step - step % self.hold)
        if step < self.warmup:
            return self._warmup(step)
        return self._after_warmup(max(self.warmup, step - step % self.hold))

    def _warmup(self, step: int) -> float:
        if self.warmup_start is None:
            return (step + 1) / (self.warmup + 1)
        return self.warmup_start + (1 - self.warmup_start) * step / self.warmup

    def _after_warmup(self, step: int) -> float:
        t = (step - self.warmup) / max(1, self.total - self.warmup)
        if self.name == "cosine":
            return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * t)) / 2
        if self.name == "step":
            passed = sum(step >= m for m in self.milestones) if self.milestones else (t >= 0.5) + (t >= 0.75)
            return self.step_factor**passed
        if self.name == "wsd":
            decay = self.decay_share * self.total
            return 1 - (1 - self.floor) * max(0.0, (step - self.total + decay) / decay)
        return 1.0

    def _onecycle(self, step: int) -> float:
        top, last = _RISE * self.total - 1, self.total - 1
        if step <= top:
            return 1 + (_FIRST - 1) * (1 + math.cos(math.pi * step / top)) / 2
        return _LAST + (1 - _LAST) * (1 + math.cos(math.pi * (step - top) / (last - top))) / 2
