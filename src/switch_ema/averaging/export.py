"""Averaged weights outside the loop: in another model, in a state dict, or in one run of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.averaging.slots import Slot, all_slots, find_slots, is_fully_sharded, under_same_names, write_all


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
    by_identity = {id(slot.tensor): averages[name] for name, slot in slots.items()}
    state = model.state_dict(keep_vars=True)  # changed in place: it carries the versions of the modules
    for name, value in state.items():
        if isinstance(value, Tensor):
            average = by_identity.get(id(value), value).detach()
            state[name] = average.to(device=value.device, dtype=value.dtype, copy=True)
    return state


def call_with(
    model: nn.Module,
    slots: Mapping[str, Slot],
    averages: Mapping[str, Tensor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Return what a model returns with averages in place of its tensors, which are left alone.

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
    tensors = {}
    for name, slot in all_slots(model):  # tied tensors under each of their names
        value = slot.holder[slot.key]
        if id(value) in by_identity:  # of buffers copies: a forward pass may write to them
            average = by_identity[id(value)].detach()
            tensors[name] = average.to(value.device, value.dtype, copy=not slot.is_parameter)
    others = {name: b for name, b in model.named_buffers() if id(b) not in by_identity}
    tensors.update((name, buffer.detach().clone()) for name, buffer in others.items())
    return torch.func.functional_call(model, tensors, args, dict(kwargs), tie_weights=False)
