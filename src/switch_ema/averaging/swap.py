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
    """
    exchanged = [slots[name] for name in lent]
    copied = {name: slot for name, slot in slots.items() if name not in lent}
    kept = [slot.tensor.detach() for slot in exchanged]
    own = _copies(copied, spare)
    try:
        _give(exchanged, [average.to(value) for average, value in zip(lent.values(), kept, strict=True)])
        write(slots, {name: averages[name] for name in copied if name in averages})
        yield
    finally:
        if any(map(is_sharded, own.values())):
            reshard(model)
        _give_back(exchanged, kept)
        write(copied, own)


def _copies(slots: Mapping[str, Slot], spare: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors by name; for small ones, new memory would take longer than the copy."""
    tensors = {name: slot.tensor for name, slot in slots.items()}
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
