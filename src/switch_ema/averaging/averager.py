"""The averager: keeps an average of a model's weights, copies it back (switch), lends it for evaluation (swap)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, final

from torch import Tensor, nn
from torch.optim import Optimizer

from switch_ema.averaging.averages import Averages
from switch_ema.averaging.decay import FREEZING, decay_that_retains
from switch_ema.averaging.fold import Fold
from switch_ema.averaging.slots import Slot, find_slots, plain_names, reshard, write, write_all
from switch_ema.averaging.state import AveragerState, Counters
from switch_ema.averaging.trigger import Clock, Every

_SENSIBLE = 0.25


@final
class Handle:
    """What `attach` returns; `remove()` detaches the averager from the optimizer again."""

    def __init__(self, averager: Averager, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._averager = averager
        self._hook = optimizer.register_step_post_hook(lambda *_: averager.update())

    def remove(self) -> None:
        """Stop updating after the optimizer's steps; harmless if done before."""
        self._hook.remove()
        self._averager._forget(self)


@final
class Averager:
    """An average of a model's weights over training, made of three parts: a fold, an update and a switch trigger.

    Use a named method (`EMA`, `SwitchEMA`, `SWA`, ...) unless you combine the parts yourself. Make it after the
    weights are loaded: an average starts from the weights it finds. Before the first update the average is the model.

    Args:
        model: The model that is trained; it is never copied. Tied parameters are averaged once.
        fold: How the weights enter the average.
        update: When the weights are folded in.
        switch: When the average is copied into the model; `None` for never.
        use_buffers: Average float buffers (BatchNorm statistics) and copy the others; if false, buffers are left alone.
        optimizer_state: At a switch, `"keep"` the optimizer's momenta (as in the paper) or `"reset"` them.
        steps_per_epoch: Optimizer steps in an epoch; needed only where a trigger fires inside an epoch.

    Raises:
        TypeError: If the model is no module.
        ValueError: If the model has no (initialised) parameters, or a trigger needs `steps_per_epoch`.

    References:
        Li et al., "Switch EMA: A Free Lunch for Better Flatness and Sharpness", arXiv 2402.09240, 2024.
    """

    def __init__(
        self,
        model: nn.Module,
        fold: Fold,
        update: Every,
        switch: Every | None = None,
        *,
        use_buffers: bool = True,
        optimizer_state: Literal["keep", "reset"] = "keep",
        steps_per_epoch: int | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is a torch.nn.Module, got {type(model).__name__}; pass the model itself")
        if optimizer_state not in ("keep", "reset"):
            raise ValueError(f"optimizer_state is {optimizer_state!r}; write 'keep' or 'reset'")
        if steps_per_epoch is not None and (not isinstance(steps_per_epoch, int) or steps_per_epoch < 1):
            raise ValueError(f"steps_per_epoch is a whole number of at least 1, got {steps_per_epoch!r}")
        if update.splits_epochs:
            raise ValueError(
                f"an average is updated every N steps or N whole epochs, not '{update}'; write it in steps"
            )
        if switch is not None and switch.splits_epochs and steps_per_epoch is None:
            raise ValueError(f"switching every '{switch}' needs steps_per_epoch=..., often len(loader)")
        if switch is not None and switch.splits_epochs and switch.n * (steps_per_epoch or 0) < 1:
            raise ValueError(f"'{switch}' is less than one of {steps_per_epoch} steps; write switch_every=1")
        self._model = model
        self._fold = fold
        self._update = update
        self._switch = switch
        self._use_buffers = use_buffers
        self._reset_optimizer = optimizer_state == "reset"
        self._clock = Clock(steps_per_epoch=steps_per_epoch)
        self._count = Counters(taken=update.start, switched=update.start)
        self._averages = Averages(model, use_buffers=use_buffers)
        self._handle: Handle | None = None
        self._swapped = False
        self._warned = False
        self._warn_as_planned()

    @property
    def n_averaged(self) -> int:
        """Updates so far."""
        return self._count.n_averaged

    @property
    def n_switches(self) -> int:
        """Switches so far."""
        return self._count.n_switches

    def update(self) -> None:
        """Count a completed optimizer step, and update or switch if it is time; call it after `optimizer.step()`.

        Raises:
            RuntimeError: If the averaged weights are swapped in.
        """
        self._refuse_while_swapped("update()")
        self._tick(self._clock.next_step())

    def end_epoch(self) -> None:
        """Count a completed epoch, and update or switch if it is time; call it once at the end of every epoch.

        Raises:
            RuntimeError: If the averaged weights are swapped in, or the model's tensors are not those it had.
        """
        self._refuse_while_swapped("end_epoch()")
        self._averages.check()
        self._tick(self._clock.next_epoch())

    def attach(self, optimizer: Optimizer) -> Handle:
        """Call `update()` after each step of the optimizer; a step that a GradScaler skips is no step.

        Args:
            optimizer: The optimizer that trains the model. With several optimizers attach the one that steps last.

        Returns:
            A handle whose `remove()` detaches.

        Raises:
            RuntimeError: If an optimizer is attached already.
            ValueError: If the optimizer holds none of the model's parameters.
        """
        if self._handle is not None:
            raise RuntimeError(
                "an optimizer is attached already; call remove() on the handle that attach() returned first"
            )
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if held.isdisjoint(id(slot.tensor) for slot in self._averages.slots.values()):
            raise ValueError(
                "the optimizer holds none of the averaged model's parameters; attach the one that trains it"
            )
        self._handle = Handle(self, optimizer)
        return self._handle

    def switch(self) -> None:
        """Copy the average into the model, from where training goes on; steps not yet in the average enter it first.

        Raises:
            RuntimeError: If nothing is averaged yet, the averaged weights are swapped in, or the optimizer state shall
                be reset and no optimizer is attached.
        """
        self._refuse_while_swapped("switch()")
        if not self._can_switch():
            raise RuntimeError("nothing is averaged yet; switch() needs an update() before it")
        if self._reset_optimizer and self._handle is None:
            raise RuntimeError("optimizer_state='reset' needs the optimizer; call attach(optimizer) first")
        now = self._now()
        if self._is_pending(now):
            self._take(now)
        self._averages.write_to_model()
        if self._reset_optimizer and self._handle is not None:
            for slot in self._averages.slots.values():
                self._handle.optimizer.state.pop(slot.tensor, None)
        interval, behind = now - self._count.switched, self._count.lag + now - self._count.taken
        self._count.n_switches += 1
        self._count.switched, self._count.lag = now, 0.0
        if interval:
            self._warn_if_freezing(1 - behind / interval, interval)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Put the averaged weights and buffers into the model for the length of a `with` block.

        The model's own weights and buffers come back afterwards, also after an exception, whatever was done to them.
        Inside, `update`, `switch`, `state_dict` and a second `average_parameters` are refused.

        Raises:
            RuntimeError: If the averaged weights are in already, or the model's tensors are not those it had.
        """
        self._refuse_while_swapped("average_parameters()")
        self._averages.check()
        slots = self._averages.slots if self._use_buffers else find_slots(self._model, use_buffers=True)
        own = {name: slot.tensor.detach().clone() for name, slot in slots.items()}
        self._swapped = True
        try:
            if self.n_averaged:
                self._averages.write_to_model()
            yield
        finally:
            reshard(self._model)
            write(slots, own)
            self._swapped = False

    def copy_to(self, model: nn.Module) -> None:
        """Copy the average into a model of the same structure, such as one to export; the averaged model is left alone.

        Args:
            model: The target; parts of names that wrappers put in (compile, DDP, FSDP) do not matter.

        Raises:
            RuntimeError: If the averaged weights are swapped in.
            ValueError: If names or shapes do not fit; nothing is copied then.
        """
        self._refuse_while_swapped("copy_to()")
        sources: Mapping[str, Tensor] = self._current()
        targets: Mapping[str, Slot] = find_slots(model, use_buffers=self._use_buffers)
        if targets.keys() != sources.keys():
            targets, sources = plain_names(targets), plain_names(sources)
        write_all(targets, sources)

    def averaged_state_dict(self) -> dict[str, Any]:
        """Return what `model.state_dict()` would be with the average in the model, in the model's types, as copies.

        Raises:
            RuntimeError: If the averaged weights are swapped in.
        """
        self._refuse_while_swapped("averaged_state_dict()")
        current = self._current()
        by_identity = {id(slot.tensor): current[name] for name, slot in self._averages.slots.items()}
        averaged = self._model.state_dict(keep_vars=True)  # changed in place: it carries the versions of the modules
        for name, value in averaged.items():
            if isinstance(value, Tensor):
                average = by_identity.get(id(value), value).detach()
                averaged[name] = average.to(device=value.device, dtype=value.dtype, copy=True)
        return averaged

    def retained_fraction(self, steps: int) -> float:
        """Return the share of an interval's steady progress that a switch at its end would keep.

        `(n - a (1 - a^n) / (1 - a)) / n` for a constant decay `a` and `n` updates in the interval.

        Args:
            steps: Steps from one switch to the next, at least 1 (epochs, if the average is updated by the epoch).

        Raises:
            ValueError: If `steps` is not a whole number of at least 1.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps is a whole number of at least 1, got {steps!r}")
        lag, last, every, taken = 0.0, 0, int(self._update.n), self._count.taken - self._update.start
        ends = [*range(every, steps + 1, every)]
        if self._fold.per_unit and steps % every:
            ends.append(steps)
        for i, end in enumerate(ends):
            lag = self._fold.lag(lag, self.n_averaged + i, taken + last, end - last)
            last = end
        return 1 - (lag + steps - last) / steps

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on: averages, snapshots, all counters. Tensors are not copied.

        Raises:
            RuntimeError: If the averaged weights are swapped in (the model would be saved with the wrong weights).
        """
        self._refuse_while_swapped("state_dict()")
        clock = self._clock
        return AveragerState(
            made_of=self._made_of(),
            counters=replace(self._count, steps=clock.steps, epochs=clock.epochs, step_in_epoch=clock.step_in_epoch),
            averages=dict(self._averages.tensors),
            snapshots=[dict(zip(self._averages.averaged_names, s, strict=True)) for s in self._fold.snapshots()],
        ).to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, bit for bit; the model's own weights are loaded separately.

        Args:
            state: What `state_dict` returned, for a model of the same names and shapes.

        Raises:
            RuntimeError: If the averaged weights are swapped in.
            ValueError: If the state is of another kind, or a name or shape does not fit; nothing is changed then.
        """
        self._refuse_while_swapped("load_state_dict()")
        loaded = AveragerState.from_dict(state)
        names = self._averages.averaged_names
        loaded.check(self._made_of(), self._averages.tensors, names)
        self._averages.load(loaded.averages)
        self._fold.restore([[s[name] for name in names] for s in loaded.snapshots])
        self._count = replace(loaded.counters)
        self._clock = Clock(
            self._count.steps, self._count.epochs, self._count.step_in_epoch, self._clock.steps_per_epoch
        )

    def __repr__(self) -> str:
        when = f", switch every {self._switch}" if self._switch else ""
        return f"Averager({self._fold}, update every {self._update}{when}, n_averaged={self.n_averaged})"

    def _tick(self, after: Clock) -> None:
        before, self._clock = self._clock, after
        if self._update.starts(before, after):
            self._averages.restart()
        if self._update.fires(before, after):
            self._take(self._now())
        if self._switch is not None and self._switch.fires(before, after) and self._can_switch():
            self.switch()

    def _now(self) -> int:
        return int(self._clock.position(self._update))

    def _is_pending(self, now: int) -> bool:
        """Return whether there were steps since the last update that can enter the average now."""
        return self._fold.per_unit and now > self._count.taken and now <= (self._update.end or now)

    def _can_switch(self) -> bool:
        return self.n_averaged > 0 or self._is_pending(self._now())

    def _take(self, now: int) -> None:
        """Fold the weights, as they are now, into the average."""
        count = self._count
        taken, elapsed = count.taken - self._update.start, now - count.taken
        self._averages.take(
            lambda averages, values: self._fold.fold(averages, values, count.n_averaged, taken, elapsed)
        )
        count.lag = self._fold.lag(count.lag, count.n_averaged, taken, elapsed)
        count.n_averaged, count.taken = count.n_averaged + 1, now

    def _current(self) -> dict[str, Tensor]:
        self._averages.check()
        if self.n_averaged:
            return dict(self._averages.tensors)
        return {name: slot.tensor for name, slot in self._averages.slots.items()}

    def _made_of(self) -> dict[str, str]:
        kind = f"{type(self._fold).__name__} by the {self._update.unit}"
        fold = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(self._fold))  # a function's address differs in every process
        return {"kind": kind, "fold": fold, "update": str(self._update), "switch": str(self._switch)}

    def _refuse_while_swapped(self, what: str) -> None:
        if self._swapped:
            raise RuntimeError(
                f"{what} inside average_parameters(): the model holds the averaged weights; leave the block first"
            )

    def _forget(self, handle: Handle) -> None:
        if self._handle is handle:
            self._handle = None

    def _warn_as_planned(self) -> None:
        if self._switch is None:
            return
        if self._switch.unit == self._update.unit:
            interval = int(self._switch.n)
        elif self._switch.unit == "epoch":
            interval = int(self._switch.n * (self._clock.steps_per_epoch or 0))
        else:
            return
        if interval:
            self._warn_if_freezing(self.retained_fraction(interval), interval)

    def _warn_if_freezing(self, retained: float, interval: int) -> None:
        if self._warned or retained >= FREEZING:
            return
        self._warned = True
        advice = "give the new weights a larger share at each update (alpha in Lookahead)"
        if self._fold.per_unit:
            every = min(int(self._update.n), interval)
            decay = decay_that_retains(_SENSIBLE, interval // every, every)
            advice = f"decay={decay} would keep {100 * _SENSIBLE:.0f} %"
        warnings.warn(
            f"a switch every {interval} {self._update.unit}s keeps {100 * retained:.1f} % of the progress made in "
            f"between: training all but stands still. {advice}; or switch less often",
            stacklevel=2,
        )
