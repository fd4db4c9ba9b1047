"""The averager: keeps an average of a model's weights, copies it back (switch), lends it for evaluation (swap)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Unpack, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from switch_ema.averaging.attach import Handle, attach
from switch_ema.averaging.averages import Averages
from switch_ema.averaging.cuda import SideStreams
from switch_ema.averaging.export import call_with, copy_all, state_dict_with
from switch_ema.averaging.fold import Fold
from switch_ema.averaging.options import AverageOptions, Options
from switch_ema.averaging.retention import planned_interval, warn_of_freezing
from switch_ema.averaging.slots import find_slots, plain_names
from switch_ema.averaging.state import AveragerState
from switch_ema.averaging.swap import swapped_in
from switch_ema.averaging.timetable import Timetable
from switch_ema.averaging.trigger import Clock, Every


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
        optimizer_state: At a switch, `"keep"` the optimizer's momenta (as in the paper) or `"reset"` them.
        steps_per_epoch: Optimizer steps in an epoch; needed only where a trigger fires inside an epoch.
        options: Which tensors are averaged, and where and in which type averages are kept: see `AverageOptions`.

    Raises:
        TypeError: If the model is no module.
        ValueError: If the model has no (initialised) parameters, one that cannot be averaged, or a trigger needs
            `steps_per_epoch`.

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
        optimizer_state: Literal["keep", "reset"] = "keep",
        steps_per_epoch: int | None = None,
        **options: Unpack[AverageOptions],
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is a torch.nn.Module, got {type(model).__name__}; pass the model itself")
        if optimizer_state not in ("keep", "reset"):
            raise ValueError(f"optimizer_state is {optimizer_state!r}; write 'keep' or 'reset'")
        self._times = Timetable(fold, update, switch, steps_per_epoch)
        self._model = model
        self._options = Options(**options)
        self._reset_optimizer = optimizer_state == "reset"
        self._averages = Averages(model, self._options)
        self._handle: Handle | None = None
        self._spare: dict[str, Tensor] = {}
        self._swapped = False
        interval = planned_interval(switch, update, steps_per_epoch)
        self._warned = interval > 0 and warn_of_freezing(
            self.retained_fraction(interval), interval, fold, update, stacklevel=4
        )

    @property
    def model(self) -> nn.Module:
        """The model that is averaged."""
        return self._model

    @property
    def fold(self) -> Fold:
        """How the weights enter the average."""
        return self._times.fold

    @property
    def switches(self) -> bool:
        """Whether the average is ever copied into the model by itself."""
        return self._times.switch is not None

    @property
    def n_averaged(self) -> int:
        """Updates so far."""
        return self._times.count.n_averaged

    @property
    def n_switches(self) -> int:
        """Switches so far."""
        return self._times.count.n_switches

    @property
    def n_skipped(self) -> int:
        """Updates that `skip_nonfinite` left out so far; they are counted in `n_averaged` too."""
        return self._averages.n_skipped

    def update(self) -> None:
        """Count a completed optimizer step, and update or switch if it is time; call it after `optimizer.step()`.

        Raises:
            RuntimeError: If the averaged weights are swapped in.
        """
        if torch.compiler.is_compiling():  # counting is no work for a graph
            torch.compiler.disable(self.update)()
            return
        self._refuse_while_swapped("update()")
        self._tick(self._times.clock.next_step())

    def end_epoch(self) -> None:
        """Count a completed epoch, and update or switch if it is time; call it once at the end of every epoch.

        Raises:
            RuntimeError: If the averaged weights are swapped in, or the model's tensors are not those it had.
        """
        self._refuse_while_swapped("end_epoch()")
        self._averages.check()
        self._tick(self._times.clock.next_epoch())

    def attach(self, *optimizers: Optimizer, overlap: bool = False) -> Handle:
        """Call `update()` after each step of the optimizer; a step that a GradScaler skips is no step.

        Args:
            optimizers: The optimizer that trains the model. Of several, the one that steps last in each step of
                training comes last.
            overlap: On CUDA, update while the next forward and backward pass run. Between optimizer steps nothing else
                may then change the parameters.

        Returns:
            A handle whose `remove()` detaches.

        Raises:
            RuntimeError: If an optimizer is attached already.
            ValueError: If no optimizer is given, or none holds one of the model's parameters.
        """
        side = SideStreams() if overlap else None
        self._handle = attach(
            self._handle,
            optimizers,
            [slot.tensor for slot in self._averages.slots.values()],
            before=side.join if side else None,
            after=self.update,
        )
        self._averages.side = side
        return self._handle

    def switch(self) -> None:
        """Copy the average into the model, from where training goes on; steps not yet in the average enter it first.

        Raises:
            RuntimeError: If nothing is averaged yet, the averaged weights are swapped in, or the optimizer state shall
                be reset and no optimizer is attached.
        """
        self._refuse_while_swapped("switch()")
        if not self._times.can_switch:
            raise RuntimeError("nothing is averaged yet; switch() needs an update() before it")
        if self._reset_optimizer and (self._handle is None or not self._handle.is_attached):
            raise RuntimeError("optimizer_state='reset' needs the optimizer; call attach(optimizer) first")
        if self._times.is_pending:
            self._take()
        self._averages.write_to_model()
        if self._reset_optimizer and self._handle is not None:
            self._handle.reset(slot.tensor for slot in self._averages.slots.values())
        interval, retained = self._times.count_switch()
        if not self._warned:
            self._warned = warn_of_freezing(retained, interval, self.fold, self._times.update, stacklevel=3)

    @contextmanager
    def average_parameters(self, *, exchange: bool | None = None) -> Iterator[None]:
        """Put the averaged weights and buffers into the model for the length of a `with` block.

        The model's own weights and buffers come back afterwards, also after an exception, whatever was done to them;
        the average is as before too. Parameters that are not averaged are left alone. Inside, `update`, `switch`,
        `state_dict` and a second `average_parameters` are refused.

        Args:
            exchange: Whether parameters may take over the average's memory (copied when something writes to it), so
                that nothing is copied. By default on the CPU only: a CUDA graph knows the weights by their address.

        Raises:
            RuntimeError: If the averaged weights are in already, or the model's tensors are not those it had.
        """
        self._refuse_while_swapped("average_parameters()")
        self._averages.check()
        slots = dict(self._averages.slots)
        if not self._options.use_buffers:  # evaluation may change buffers all the same
            every = find_slots(self._model, use_buffers=True)
            slots.update((name, slot) for name, slot in every.items() if not slot.is_parameter)
        averages = self._averages.tensors if self.n_averaged else {}
        self._swapped = True
        try:
            lent = self._averages.lend(exchange) if averages else {}
            with swapped_in(self._model, slots, averages, lent, self._spare):
                yield
        finally:
            self._swapped = False

    def functional_call(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model with the averaged weights and buffers, changing nothing, whatever its `forward` writes to.

        It gets tensors that are neither the model's nor the averages: on the CPU memory that is copied when something
        writes to it, else copies. No other thread may use the model during the call.

        Args:
            args: What the model's `forward` takes.
            kwargs: The same, by name.

        Returns:
            What the model's `forward` returns.

        Raises:
            RuntimeError: If the averaged weights are swapped in, the model's tensors are not those it had, or the model
                is fully sharded (FSDP2).
        """
        self._refuse_while_swapped("functional_call()")
        current = self._current()
        return call_with(self._model, self._averages.slots, current, args, kwargs)

    def copy_to(self, model: nn.Module) -> None:
        """Copy the average into a model of the same structure, such as one to export; the averaged model is left alone.

        Parameters that are not averaged are copied as they are.

        Args:
            model: The target; parts of names that wrappers put in (compile, DDP, FSDP) do not matter.

        Raises:
            RuntimeError: If the averaged weights are swapped in.
            ValueError: If names or shapes do not fit; nothing is copied then.
        """
        self._refuse_while_swapped("copy_to()")
        copy_all(self._model, self._current(), model, use_buffers=self._options.use_buffers)

    def averaged_state_dict(self) -> dict[str, Any]:
        """Return what `model.state_dict()` would be with the average in the model, in the model's types, as copies.

        Raises:
            RuntimeError: If the averaged weights are swapped in.
        """
        self._refuse_while_swapped("averaged_state_dict()")
        current = self._current()
        return state_dict_with(self._model, self._averages.slots, current)

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
        return self._times.retained_fraction(steps)

    def refresh(self) -> None:
        """Take the model's tensors as they are now, after parameters were added, removed or reshaped.

        New parameters (adapters that were put in late) and reshaped ones start with their present value as average,
        those that are gone are dropped, and the others go on.

        Raises:
            RuntimeError: If the averaged weights are swapped in.
        """
        self._refuse_while_swapped("refresh()")
        self._averages.refresh()
        self.fold.restore(self.fold.snapshots(self._averages.tensors))

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on: averages, snapshots, all counters. Tensors are not copied.

        Raises:
            RuntimeError: If the averaged weights are swapped in (the model would be saved with the wrong weights).
        """
        self._refuse_while_swapped("state_dict()")
        averages = self._averages.tensors
        return AveragerState(
            made_of=self._times.made_of(),
            counters=self._times.counters(self.n_skipped),
            averages=dict(plain_names(averages)),
            snapshots=[dict(plain_names(snapshot)) for snapshot in self.fold.snapshots(averages)],
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
        names = plain_names({name: name for name in self._averages.tensors})
        buffers = {plain for plain, name in names.items() if not self._averages.slots[name].is_parameter}
        loaded.check(self._times.made_of(), plain_names(self._averages.tensors), buffers)

        def by_own_name(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {names[plain]: tensor for plain, tensor in tensors.items()}

        self._averages.load(by_own_name(loaded.averages))
        self._averages.n_skipped = loaded.counters.n_skipped
        self.fold.restore([self._averages.alike(by_own_name(snapshot)) for snapshot in loaded.snapshots])
        self._times.restore(loaded.counters)

    def __repr__(self) -> str:
        times = self._times
        when = f", switch every {times.switch}" if times.switch else ""
        return f"Averager({times.fold}, update every {times.update}{when}, n_averaged={self.n_averaged})"

    def _tick(self, after: Clock) -> None:
        before = self._times.clock
        if self._advance(after):
            self._take()
        self._switch_if_due(before)

    def _advance(self, after: Clock) -> bool:
        """Let time pass; return whether the average is to be updated."""
        before, self._times.clock = self._times.clock, after
        if self._times.update.starts(before, after):
            self._averages.copy_()
        return self._times.update.fires(before, after)

    def _switch_if_due(self, before: Clock) -> None:
        if self._times.is_switch_due(before):
            self.switch()

    def _take(self) -> None:
        """Fold the weights, as they are now, into the average."""
        share = self._times.share()
        if share is None:
            self._averages.mean_(self.fold)
        else:
            self._averages.lerp_(share, seed=self.n_averaged)
        self._times.count_update()

    def _current(self) -> dict[str, Tensor]:
        self._averages.check()
        if self.n_averaged:
            return dict(self._averages.tensors)
        return {name: slot.tensor for name, slot in self._averages.slots.items()}

    def _refuse_while_swapped(self, what: str) -> None:
        if self._swapped:
            raise RuntimeError(
                f"{what} inside average_parameters(): the model holds the averaged weights; leave the block first"
            )
