"""Averaged weights outside the loop: in another model, in a state dict, or in one run of the model."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.averaging.slots import Slot, all_slots, find_slots, is_fully_sharded, under_same_names, write_all
from switch_ema.averaging.swap import swapped_in
from switch_ema.averaging.tensors import PLAIN, copied_on_write, is_sharded


def copy_all(source: nn.Module, averages: Mapping[str, Tensor], target: nn.Module, *, use_buffers: bool) -> None:
    """Copy averages, and what is not averaged as it is, from one model to another of the same structure.

    Args:
        source: The model that is averaged.
        averages: The averages by name.
        target: Where they are copied to.
        use_buffers: Whether buffers are copied.

    Raises:
        ValueError: If names or shapes do not fit; nothing is copied then.
    """
    own = find_slots(source, use_buffers=use_buffers)
    values = {name: averages.get(name, slot.tensor) for name, slot in own.items()}
    write_all(*under_same_names(find_slots(target, use_buffers=use_buffers), values))


def state_dict_with(model: nn.Module, slots: Mapping[str, Slot], averages: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what `model.state_dict()` would be with the averages in the model, as copies in the model's types.

    Args:
        model: The model.
        slots: What is averaged, by name.
        averages: The averages by name.
    """
    state = model.state_dict(keep_vars=True)  # changed in place: it carries the versions of the modules
    if makes_tensors(model, state):
        return state_inside(model, slots, averages)
    by_identity = {id(slot.tensor): averages[name] for name, slot in slots.items()}
    for name, value in state.items():
        if isinstance(value, Tensor):
            average = by_identity.get(id(value), value).detach()
            state[name] = average.to(device=value.device, dtype=value.dtype, copy=True)
    return state


def makes_tensors(model: nn.Module, state: Mapping[str, Any]) -> bool:
    """Return whether a state dict holds tensors that are none of the model's, such as copies in another type.

    Args:
        model: The model.
        state: Its state dict, with `keep_vars=True`.
    """
    own = set(map(id, chain(model.parameters(), model.buffers())))
    return any(isinstance(value, Tensor) and id(value) not in own for value in state.values())


def state_inside(model: nn.Module, slots: Mapping[str, Slot], averages: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return copies of what a model saves while averages are in it: what it makes of its weights, it makes of averages.

    Args:
        model: The model.
        slots: What is averaged, by name.
        averages: The averages by name.
    """
    others = {name: average for name, average in averages.items() if average is not slots[name].tensor}
    with swapped_in(model, slots, others, {}, {}):
        state: dict[str, Any] = model.state_dict(keep_vars=True)
        copies: dict[int, Tensor] = {}
        for name, value in list(state.items()):
            if isinstance(value, Tensor):
                if id(value) not in copies:  # tied ones stay tied
                    copies[id(value)] = value.detach().clone()
                state[name] = copies[id(value)]
    return state


def call_with(
    model: nn.Module,
    slots: Mapping[str, Slot],
    averages: Mapping[str, Tensor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Return what a model returns with averages in place of its tensors.

    A forward pass may write to its tensors (an embedding with `max_norm`, forced weight normalization, statistics), so
    it gets none of the model's nor of the averages.

    Args:
        model: The model.
        slots: What is averaged, by name.
        averages: The averages by name.
        args: What the model's `forward` takes.
        kwargs: The same, by name.

    Raises:
        RuntimeError: If the model is fully sharded (FSDP2).
    """
    if any(map(is_fully_sharded, model.modules())):
        raise RuntimeError(
            "functional_call() cannot run a fully sharded model (FSDP2), which gathers its own weights; "
            "use average_parameters()"
        )
    by_identity = {id(slot.tensor): averages[name] for name, slot in slots.items()}
    given: dict[int, Tensor] = {}
    lent: dict[int, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    for name, slot in all_slots(model, unsaved=True):  # tied ones under each of their names
        value = slot.holder[slot.key]
        if value is None:
            continue
        if id(value) not in given:
            average = by_identity.get(id(value))
            if average is None:
                given[id(value)] = _copy(value, slot.is_parameter)
            elif slot.is_parameter and average is not value and _can_be_lent(average, value):
                given[id(value)] = _lend(average, lent)
            else:
                given[id(value)] = average.detach().to(value.device, value.dtype, copy=True)
        tensors[name] = given[id(value)]
    return torch.func.functional_call(model, tensors, args, dict(kwargs), tie_weights=False)


def _copy(value: Tensor, is_parameter: bool) -> Tensor:
    """Return a copy of what is not averaged; gradients reach the parameters behind it, as they would without one."""
    if not is_parameter:
        return value.detach().clone()
    return value.clone() if type(value) in PLAIN or is_sharded(value) else value  # a quantized one is more than values


def _can_be_lent(average: Tensor, value: Tensor) -> bool:
    """Return whether the average's memory will do for a value; on the CPU only, as in a swap."""
    on_cpu = average.device.type == value.device.type == "cpu"
    return on_cpu and average.dtype == value.dtype and type(average) in PLAIN


def _lend(average: Tensor, lent: dict[int, Tensor]) -> Tensor:
    """Return an average in memory that is copied when something writes to it; once for all that lie in one buffer.

    Args:
        average: The average.
        lent: The memory that is lent already.
    """
    storage = average.untyped_storage()
    if storage._cdata not in lent:
        lent[storage._cdata] = copied_on_write(average.new_empty(0).set_(storage))
    view = lent[storage._cdata].as_strided(average.shape, average.stride(), average.storage_offset())
    return view.data  # not counted as a write to all others in the buffer, which a backward pass may need
