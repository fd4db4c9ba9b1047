"""Averaged weights in the model for a while, without a second copy of the model where that is safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from switch_ema.averaging.slots import Slot, reshard, write
from switch_ema.averaging.tensors import copy_, is_sharded

LARGE = 1 << 14  # elements: below it is faster to copy than to exchange memory


@contextmanager
def swapped_in(
    model: nn.Module,
    slots: Mapping[str, Slot],
    averages: Mapping[str, Tensor],
    lent: Mapping[str, Tensor],
    spare: dict[str, Tensor],
) -> Iterator[None]:
    """Put averages into a model for the length of a `with` block; what it had comes back, whatever happens inside.

    Args:
        model: The model.
        slots: Its tensors by name, all that come back.
        averages: The averages by name; tensors without one stay as they are.
        lent: Averages whose memory parameters take over instead of a copy of the values, by name.
        spare: Memory for the values of small tensors, kept from one swap to the next.

    Raises:
        RuntimeError: If a tensor was taken out of the model inside, and so cannot come back; all others have.
    """
    before = {name: slot.tensor for name, slot in slots.items()}
    kept = {name: before[name].detach() for name in lent}
    copied = [name for name in slots if name not in lent]
    own = _copies({name: before[name] for name in copied}, spare)
    try:
        given = [average.to(value) for average, value in zip(lent.values(), kept.values(), strict=True)]
        _give([slots[name] for name in lent], given)
        write(slots, {name: averages[name] for name in copied if name in averages})
        yield
    finally:
        if any(map(is_sharded, own.values())):
            reshard(model)
        lost = _put_back(slots, before)
        there = [name for name in lent if name not in lost]
        _give_back([slots[name] for name in there], [kept[name] for name in there])
        write(slots, {name: value for name, value in own.items() if name not in lost})
    if lost:
        raise RuntimeError(
            f"{', '.join(sorted(lost))}: taken out of the model inside average_parameters(), so that what it had there "
            "cannot come back; do that outside of it"
        )


def _put_back(slots: Mapping[str, Slot], before: Mapping[str, Tensor]) -> set[str]:
    """Put tensors back where there is none now; return the names of those that have no place any more."""
    for name, slot in slots.items():
        if slot.key in slot.holder and slot.holder[slot.key] is None:
            slot.holder[slot.key] = before[name]
    return {name for name, slot in slots.items() if slot.key not in slot.holder}


def _copies(tensors: Mapping[str, Tensor], spare: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors by name; for small ones, new memory would take longer than the copy."""
    copies: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        known = spare.get(name)
        if known is None or not _is_like(known, tensor):
            known = torch.empty_like(tensor, requires_grad=False)
            if tensor.numel() < LARGE:
                spare[name] = known
        copies[name] = known
    copy_(list(copies.values()), list(tensors.values()))
    return copies


def _give(slots: Sequence[Slot], values: Sequence[Tensor]) -> None:
    """Let parameters have other memory; a backward pass through what they had before is refused afterwards."""
    tensors = [slot.tensor for slot in slots]
    for tensor, value in zip(tensors, values, strict=True):
        tensor.data = value
    if tensors:
        torch.autograd.graph.increment_version(tensors)


def _give_back(slots: Sequence[Slot], kept: Sequence[Tensor]) -> None:
    """Let parameters have their own memory again; if the model was moved, their own values where it is."""
    back = [
        value if _is_like(slot.tensor, value) else value.to(slot.tensor)
        for slot, value in zip(slots, kept, strict=True)
    ]
    _give(slots, back)


def _is_like(tensor: Tensor, other: Tensor) -> bool:
    return tensor.dtype == other.dtype and tensor.device == other.device and tensor.shape == other.shape
