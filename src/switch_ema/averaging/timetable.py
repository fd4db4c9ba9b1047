"""When an average is updated and switched, and how often it was so far: what an averager knows beside its tensors."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import final

from switch_ema.averaging.fold import Fold
from switch_ema.averaging.retention import retained_fraction
from switch_ema.averaging.state import Counters
from switch_ema.averaging.trigger import Clock, Every, check_triggers


@final
class Timetable:
    """The time that has passed in training, held against two triggers; times are in the unit of the update trigger.

    Args:
        fold: How the weights enter the average.
        update: When they do.
        switch: When the average is copied into the model; `None` for never.
        steps_per_epoch: Optimizer steps in an epoch, if known.

    Raises:
        ValueError: If an update falls inside an epoch, or it is not known where a switch does.

    Attributes:
        fold: As given.
        update: As given.
        switch: As given.
        clock: Completed steps and epochs.
        count: What was done so far; its own clock is that of when it was saved.
    """

    def __init__(self, fold: Fold, update: Every, switch: Every | None, steps_per_epoch: int | None) -> None:
        check_triggers(update, switch, steps_per_epoch)
        self.fold = fold
        self.update = update
        self.switch = switch
        self.clock = Clock(steps_per_epoch=steps_per_epoch)
        self.count = Counters(taken=update.start, switched=update.start)

    @property
    def now(self) -> int:
        """The time that has passed."""
        return int(self.clock.position(self.update))

    @property
    def is_pending(self) -> bool:
        """Whether there were steps since the last update that can enter the average now."""
        return self.fold.per_unit and self.count.taken < self.now <= (self.update.end or self.now)

    @property
    def can_switch(self) -> bool:
        """Whether there is an average, or can be one now."""
        return self.count.n_averaged > 0 or self.is_pending

    def share(self) -> float | None:
        """Return the share that the weights, as they are now, get in the average; see `Fold.share`."""
        taken = self.count.taken
        return self.fold.share(self.count.n_averaged, taken - self.update.start, self.now - taken)

    def is_switch_due(self, before: Clock) -> bool:
        """Return whether a switch falls between a moment and now, and there is something to switch to."""
        return self.switch is not None and self.switch.fires(before, self.clock) and self.can_switch

    def count_update(self) -> None:
        """Count an update that has taken place now."""
        count, now = self.count, self.now
        count.lag = self.fold.lag(count.lag, count.n_averaged, count.taken - self.update.start, now - count.taken)
        count.n_averaged, count.taken = count.n_averaged + 1, now

    def count_switch(self) -> tuple[int, float]:
        """Count a switch that has taken place now.

        Returns:
            The time since the switch before, and the share of its progress that this one kept (1 of no time).
        """
        count, now = self.count, self.now
        interval, behind = now - count.switched, count.lag + now - count.taken
        count.n_switches, count.switched, count.lag = count.n_switches + 1, now, 0.0
        return interval, 1 - behind / interval if interval else 1.0

    def retained_fraction(self, steps: int) -> float:
        """Return the share of an interval's steady progress that a switch at its end would keep, from now on.

        Args:
            steps: Length of the interval.
        """
        taken = self.count.taken - self.update.start
        return retained_fraction(self.fold, int(self.update.n), steps, n=self.count.n_averaged, taken=taken)

    def counters(self, n_skipped: int) -> Counters:
        """Return all counts, to be saved.

        Args:
            n_skipped: Updates left out because a weight was not finite.
        """
        return replace(self.count, n_skipped=n_skipped, clock=self.clock)

    def restore(self, counters: Counters) -> None:
        """Go on from counts that were saved; the steps in an epoch stay what they are."""
        start = self.update.start  # it may be another one than that of the state: time before it does not count
        self.count = replace(counters, taken=max(counters.taken, start), switched=max(counters.switched, start))
        self.clock = replace(counters.clock, steps_per_epoch=self.clock.steps_per_epoch)

    def made_of(self) -> dict[str, str]:
        """Return fold and triggers in words, the same in every process."""
        kind = f"{type(self.fold).__name__} by the {self.update.unit}"
        fold = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(self.fold))  # a function's address differs in every process
        return {"kind": kind, "fold": fold, "update": str(self.update), "switch": str(self.switch)}
