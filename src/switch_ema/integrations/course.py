"""When an average that is not torch's is updated and switched: the averager's timetable, without its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

from switch_ema.averaging.decay import DecayRule, parse_decay
from switch_ema.averaging.fold import Decayed
from switch_ema.averaging.state import Counters
from switch_ema.averaging.timetable import Timetable
from switch_ema.averaging.trigger import Clock, Every


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
        rule = Decayed(parse_decay(decay, steps_per_epoch), per_unit=True)
        self._times = Timetable(rule, update, switch, steps_per_epoch)
        self._restart, self._fold, self._copy = restart, fold, copy

    @property
    def count(self) -> Counters:
        """What was done so far."""
        return self._times.count

    def steps(self, n: int) -> None:
        """Let steps pass of which only the last one's weights are seen."""
        clock = self._times.clock
        self._tick(replace(clock, steps=clock.steps + n, step_in_epoch=clock.step_in_epoch + n))

    def epoch(self) -> None:
        """Let an epoch end."""
        self._tick(self._times.clock.next_epoch())

    def to_dict(self) -> dict[str, int | float]:
        """Return all counters."""
        return self._times.counters(n_skipped=0).to_dict()

    def restore(self, counters: Any) -> None:
        """Go on from counters.

        Raises:
            ValueError: If they are not those of an average.
        """
        self._times.restore(Counters.from_dict(counters))

    def _tick(self, after: Clock) -> None:
        times = self._times
        before, times.clock = times.clock, after
        if times.update.starts(before, after):
            self._restart()
        if times.update.fires(before, after):
            self._take()
        if times.is_switch_due(before):
            if times.is_pending:
                self._take()
            self._copy()
            times.count_switch()

    def _take(self) -> None:
        share = self._times.share()
        if share is not None:  # it is a number for every decay
            self._fold(share)
        self._times.count_update()
