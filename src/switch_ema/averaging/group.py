"""Several averages of one model, updated together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch.optim import Optimizer

from switch_ema.averaging.attach import Handle, attach
from switch_ema.averaging.averager import Averager
from switch_ema.averaging.averages import Together
from switch_ema.averaging.trigger import Clock


@final
class AveragerGroup:
    """Averagers of one model that are updated together: averages of several decays read the weights once.

    Each averager does what it would do alone, bit for bit. At most one of them may switch: it would change the weights
    under the others.

    Args:
        averagers: Averagers of the same model, at least one; none of them attached.

    Raises:
        ValueError: If they are of different models, or several of them switch.

    Example:
        >>> from torch import nn
        >>> from switch_ema import EMA
        >>> model = nn.Linear(2, 1)
        >>> group = AveragerGroup(EMA(model, 0.99), EMA(model, 0.999))
        >>> group.update()
        >>> [averager.n_averaged for averager in group.averagers]
        [1, 1]
    """

    def __init__(self, *averagers: Averager) -> None:
        if not averagers or any(averager.model is not averagers[0].model for averager in averagers):
            raise ValueError("a group is of averagers of one model, at least one; make a group for each model")
        if sum(averager.switches for averager in averagers) > 1:
            raise ValueError("several averagers of the group switch; at most one can change the weights")
        self.averagers = averagers
        self._handle: Handle | None = None
        self._together: dict[tuple[Averager, ...], Together] = {}

    def update(self) -> None:
        """Count a completed optimizer step for all; see `Averager.update`.

        Raises:
            RuntimeError: If averaged weights are swapped in.
        """
        if torch.compiler.is_compiling():  # counting is no work for a graph
            torch.compiler.disable(self.update)()
            return
        self._refuse_while_swapped("update()")
        self._tick(Clock.next_step)

    def end_epoch(self) -> None:
        """Count a completed epoch for all; see `Averager.end_epoch`.

        Raises:
            RuntimeError: If averaged weights are swapped in, or the model's tensors are not those it had.
        """
        self._refuse_while_swapped("end_epoch()")
        for averager in self.averagers:
            averager._averages.check()
        self._tick(Clock.next_epoch)

    def attach(self, *optimizers: Optimizer) -> Handle:
        """Call `update()` after each step of the optimizer; see `Averager.attach`.

        Raises:
            RuntimeError: If an optimizer is attached already, to the group or one of its averagers.
            ValueError: If no optimizer is given, or none holds one of the model's parameters.
        """
        if any(_is_attached_alone(averager, self._handle) for averager in self.averagers):
            raise RuntimeError("an averager of the group is attached by itself; call remove() on its handle first")
        self._handle = attach(self._handle, optimizers, self.averagers[0].model.parameters(), after=self.update)
        for averager in self.averagers:  # one that switches may reset the optimizer; none is attached a second time
            averager._handle = self._handle
        return self._handle

    def _refuse_while_swapped(self, what: str) -> None:
        for averager in self.averagers:
            averager._refuse_while_swapped(what)

    def _tick(self, pass_time: Callable[[Clock], Clock]) -> None:
        """Let time pass for all, then update those that are due, then let the one that may switch do so."""
        befores = [averager._times.clock for averager in self.averagers]
        try:
            self._fold_in([each for each in self.averagers if each._advance(pass_time(each._times.clock))])
        except BaseException:  # the step was taken all the same
            for averager, before in zip(self.averagers, befores, strict=True):
                averager._times.clock = pass_time(before)
            raise
        for averager, before in zip(self.averagers, befores, strict=True):
            averager._switch_if_due(before)

    def _fold_in(self, due: Sequence[Averager]) -> None:
        by_share = [(averager, averager._times.share()) for averager in due]
        lerps = [(averager, share) for averager, share in by_share if share is not None]
        if lerps:
            key = tuple(averager for averager, _ in lerps)
            if key not in self._together:
                self._together[key] = Together([averager._averages for averager in key])
            self._together[key].lerp_([share for _, share in lerps], [averager.n_averaged for averager in key])
            for averager in key:
                averager._times.count_update()
        for averager, share in by_share:
            if share is None:
                averager._take()


def _is_attached_alone(averager: Averager, of_group: Handle | None) -> bool:
    handle = averager._handle
    return handle is not None and handle is not of_group and handle.is_attached
