"""When an average that is not torch's is updated and switched: the averager's clock and counts, without its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

from switch_ema.averaging.decay import DecayRule, parse_decay
from switch_ema.averaging.fold import Decayed
from switch_ema.averaging.state import Counters
from switch_ema.averaging.trigger import Clock, Every, check_triggers


@final
class Course:
    """Counts steps and epochs, and says what is to be done with the average.

    Args:
        decay: Share of the old average kept per step: a number, text or rule as for `switch_ema.EMA`.
        switch: When to switch; `None` for never.
        update: When to update, in steps.
        steps_per_epoch: Steps in an epoch, if known.
        restart: Called where averaging begins late: the average becomes the weights of now.
        fold: Called with the share that the weights of now get in the average.
        copy: Called where the weights become the average.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        decay: float | str | DecayRule,
        switch: Every | None,
        update: Every,
        steps_per_epoch: int | None,
        *,
        restart: Callable[[], None],
        fold: Callable[[float], None],
        copy: Callable[[], None],
    ) -> None:
        if update.unit != "step":
            raise ValueError(f"the decay is per step, so write update_every in steps, not '{update}'")
        check_triggers(update, switch, steps_per_epoch)
        self._rule = Decayed(parse_decay(decay, steps_per_epoch), per_unit=True)
        self._switch, self._update = switch, update
        self._clock = Clock(steps_per_epoch=steps_per_epoch)
        self.count = Counters(taken=update.start)
        self._restart, self._fold, self._copy = restart, fold, copy

    def steps(self, n: int) -> None:
        """Let steps pass of which only the last one's weights are seen."""
        clock = self._clock
        self._tick(replace(clock, steps=clock.steps + n, step_in_epoch=clock.step_in_epoch + n))

    def epoch(self) -> None:
        """Let an epoch end."""
        self._tick(self._clock.next_epoch())

    def to_dict(self) -> dict[str, int | float]:
        """Return all counters."""
        return replace(self.count, clock=self._clock).to_dict()

    def restore(self, counters: Any) -> None:
        """Go on from counters.

        Raises:
            ValueError: If they are not those of an average.
        """
        self.count = Counters.from_dict(counters)
        self._clock = replace(self.count.clock, steps_per_epoch=self._clock.steps_per_epoch)

    def _tick(self, after: Clock) -> None:
        before, self._clock = self._clock, after
        if self._update.starts(before, after):
            self._restart()
        if self._update.fires(before, after):
            self._take()
        if self._switch is not None and self._switch.fires(before, after):
            if self.count.taken < after.steps <= (self._update.end or after.steps):
                self._take()
            if self.count.n_averaged:
                self._copy()
                self.count.n_switches += 1

    def _take(self) -> None:
        count, now = self.count, self._clock.steps
        self._fold(self._rule.share(count.n_averaged, count.taken - self._update.start, now - count.taken))
        count.n_averaged, count.taken = count.n_averaged + 1, now
