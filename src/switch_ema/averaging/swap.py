"""Averaged weights in the model for a while, without a second copy of the model where that is safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from switch_ema.averaging.slots import Slot, reshard, write
from switch_ema.averaging.tensors import is_sharded


@contextmanager
def swapped_in(
    model: nn.Module, slots: Mapping[str, Slot], averages: Mapping[str, Tensor], lent: Mapping[str, Tensor]
) -> Iterator[None]:
    """Put averages into a model for the length of a `with` block; what it had comes back, whatever happens inside.

    Args:
        model: The model.
        slots: Its tensors by name, all that come back.
        averages: The averages by name; tensors without one stay as they are.
        lent: Averages whose memory parameters take over instead of a copy of the values, by name.
    """
    exchanged = {name: slots[name] for name in lent}
    kept = {name: slot.tensor.detach() for name, slot in exchanged.items()}
    with torch.no_grad():
        own = {name: slot.tensor.clone() for name, slot in slots.items() if name not in exchanged}
    try:
        _give(exchanged, {name: lent[name].to(value) for name, value in kept.items()})
        write(slots, {name: average for name, average in averages.items() if name in own})
        yield
    finally:
        if any(map(is_sharded, own.values())):
            reshard(model)
        changed = [name for name, slot in exchanged.items() if not _is_like(slot.tensor, kept[name])]
        own.update((name, kept.pop(name)) for name in changed)  # the model was moved inside: its own values follow
        _give(exchanged, kept)
        write(slots, own)


def _give(slots: Mapping[str, Slot], values: Mapping[str, Tensor]) -> None:
    """Let parameters have other memory; a backward pass through what they had before is refused afterwards."""
    tensors = [slots[name].tensor for name in values]
    for tensor, value in zip(tensors, values.values(), strict=True):
        tensor.data = value
    if tensors:
        torch.autograd.graph.increment_version(tensors)


def _is_like(tensor: Tensor, other: Tensor) -> bool:
    return tensor.dtype == other.dtype and tensor.device == other.device and tensor.shape == other.shape
