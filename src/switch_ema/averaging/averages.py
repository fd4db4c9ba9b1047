"""The averages of a model's tensors, kept in step with a model that moves, grows buffers or replaces its parameters."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import cast, final

import torch
from torch import Tensor, nn

from switch_ema.averaging.buffers import copied_names
from switch_ema.averaging.slots import Slot, differences, find_slots, reshard, write
from switch_ema.averaging.tensors import average_dtype, copy_, is_sharded


@final
class Averages:
    """One tensor for every parameter and saved buffer of a model: a copy at first, an average after the first update.

    Args:
        model: The model; it is never copied.
        use_buffers: Whether buffers are included.

    Raises:
        ValueError: If the model has no (initialised) parameters.
    """

    _seen: Sequence[Tensor | None]
    _looks: list[object]

    def __init__(self, model: nn.Module, *, use_buffers: bool) -> None:
        self._model = model
        self._use_buffers = use_buffers
        self._slots = find_slots(model, use_buffers=use_buffers)
        self._copied = copied_names(model, self._slots)
        self.restart()

    def restart(self) -> None:
        """Make every average a copy of the model's tensor."""
        self._arrange({name: _average_of(slot.tensor) for name, slot in self._slots.items()})

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The averages by name, in the model's order."""
        return self._tensors

    @property
    def averaged_names(self) -> Sequence[str]:
        """Names of those that are averaged; the others are copies of the latest value."""
        return self._names[: self._num_averaged]

    @property
    def slots(self) -> Mapping[str, Slot]:
        """The model's tensors by name."""
        return self._slots

    def take(self, fold: Callable[[Sequence[Tensor], Sequence[Tensor]], None]) -> None:
        """Fold the model's tensors, as they are now, into the averages.

        Args:
            fold: Changes the averages it is given, in place, by the model's values that it is given beside them.
        """
        values = self._values()
        fold(self._ordered[: self._num_averaged], values[: self._num_averaged])
        copy_(self._ordered[self._num_averaged :], values[self._num_averaged :])

    def write_to_model(self) -> None:
        """Copy the averages into the model."""
        self._values()
        write(self._slots, self._tensors)

    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Take the values of other averages of the same names and shapes."""
        self._arrange(
            {
                name: averages[name].detach().to(device=old.device, dtype=old.dtype, copy=True)
                for name, old in self._tensors.items()
            }
        )

    def check(self) -> None:
        """Look the model's tensors up anew: parameters must be those it had, buffers may come and go.

        Raises:
            RuntimeError: If a parameter was added, removed or reshaped.
        """
        reshard(self._model)
        slots = find_slots(self._model, use_buffers=self._use_buffers)
        names = differences(
            (name for name, slot in slots.items() if slot.is_parameter),
            (name for name, slot in self._slots.items() if slot.is_parameter),
        )
        if names:
            raise RuntimeError(f"the model's parameters are not those it had ({names}); make a new averager for it")
        for name, slot in slots.items():
            if slot.is_parameter:
                average, value = self._tensors[name], slot.tensor
                if average.shape != value.shape:
                    raise RuntimeError(
                        f"parameter {name!r} had shape {tuple(average.shape)} and now has {tuple(value.shape)}; "
                        "make a new averager after changing the model"
                    )
        if slots.keys() != self._slots.keys():
            self._copied = copied_names(self._model, slots)
        self._slots = slots
        self._arrange(
            {name: self._tensors[name] if name in self._tensors else _average_of(s.tensor) for name, s in slots.items()}
        )

    def _values(self) -> list[Tensor]:
        """Return the model's tensors in order, after following the model if it changed."""
        values = [holder.get(key) for holder, key in self._places]
        if not (all(map(operator.is_, values, self._seen)) and _looks(values) == self._looks):
            if not all(map(_fits, self._ordered, values)):
                self._follow()
                values = [holder[key] for holder, key in self._places]
            self._seen, self._looks = values, _looks(values)
        return cast(list[Tensor], values)

    def _follow(self) -> None:
        """Move averages to where the model went; a buffer that changed its shape starts anew."""
        self.check()
        averages = dict(self._tensors)
        for name, slot in self._slots.items():
            average, value = averages[name], slot.tensor
            if average.shape != value.shape:
                averages[name] = _average_of(value)
            elif not _fits(average, value):
                averages[name] = average.to(value.device, torch.promote_types(average.dtype, value.dtype))
        self._arrange(averages)

    def _arrange(self, averages: dict[str, Tensor]) -> None:
        """Lay out what an update needs, those that are averaged before those that are copied."""
        self._tensors = averages
        self._names = sorted(averages, key=lambda name: name in self._copied)
        self._num_averaged = len(averages) - len(self._copied)
        self._ordered = [averages[name] for name in self._names]
        self._seen, self._looks = [], []
        self._places = [(self._slots[name].holder, self._slots[name].key) for name in self._names]


def _looks(values: Sequence[Tensor | None]) -> list[object]:
    """Return what may change in a tensor that stays the same object, as the tensors of a module that is moved do."""
    return [(value.dtype, value.device, value.shape) for value in values if value is not None]


def _fits(average: Tensor, value: Tensor | None) -> bool:
    return (
        value is not None
        and average.shape == value.shape
        and average.device == value.device
        and is_sharded(average) == is_sharded(value)
        and (average.dtype is value.dtype or average.dtype.itemsize >= value.dtype.itemsize)
    )


def _average_of(value: Tensor) -> Tensor:
    return value.detach().to(average_dtype(value.dtype), copy=True)
