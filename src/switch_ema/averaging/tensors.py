"""Arithmetic over lists of tensors: what an average needs, on plain and sharded tensors, in one or two types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Buffer, Parameter

_PLAIN = {Tensor, Parameter, Buffer}
_BLOCK = 1 << 18  # elements: a block and its copy fit into the cache of a core


def average_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which a tensor of `dtype` is averaged: float32 at least.

    A bfloat16 average stands still: at decay 0.9999 the change of an update is below its resolution.
    """
    if dtype.is_floating_point:
        return dtype if dtype.itemsize >= 4 else torch.float32
    if dtype.is_complex:
        return dtype if dtype.itemsize >= 8 else torch.complex64
    return dtype


def is_averaged(tensor: Tensor) -> bool:
    """Return whether the tensor can be averaged at all: a float or complex one."""
    return tensor.dtype.is_floating_point or tensor.dtype.is_complex


@torch.no_grad()
def lerp_(averages: Sequence[Tensor], values: Sequence[Tensor], weight: float) -> None:
    """Move each average towards its value: `average <- average + weight * (value - average)`.

    A value equal to its average leaves it unchanged to the last bit; weight 1 copies, exactly. Of sharded tensors each
    process moves its own shard.

    Args:
        averages: Tensors changed in place.
        values: Tensors of the same shapes; a half-precision one is raised to the average's type first.
        weight: Share of the value, in [0, 1].
    """
    averages, values = _local(averages), _local(values)
    raised = [
        i for i, (average, value) in enumerate(zip(averages, values, strict=True)) if average.dtype != value.dtype
    ]
    for i in reversed(raised):
        _lerp_raised_(averages.pop(i), values.pop(i), weight)
    if averages:
        torch._foreach_lerp_(averages, values, weight)


def _lerp_raised_(average: Tensor, value: Tensor, weight: float) -> None:
    """Raise the value to the average's type and fold it in, on a CPU block by block so that the copy stays in cache."""
    blocks = average.device.type == "cpu" and average.is_contiguous() and value.is_contiguous()
    if not blocks or average.numel() <= _BLOCK:
        average.lerp_(value.to(average.dtype), weight)
        return
    for part, new in zip(torch.split(average.view(-1), _BLOCK), torch.split(value.view(-1), _BLOCK), strict=True):
        part.lerp_(new.to(average.dtype), weight)


@torch.no_grad()
def copy_(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source into its target, in place, changing type and device as needed.

    In place under `no_grad`, and never through `.data`: autograd then refuses a backward pass through overwritten
    weights, where a write through `.data` would give wrong gradients in silence.
    """
    if targets:
        torch._foreach_copy_(_local(targets), _local(sources))


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is one process's part of a larger one (a DTensor)."""
    return type(tensor) not in _PLAIN and hasattr(tensor, "to_local")


def _local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors, and of a sharded one (a DTensor) the shard of this process."""
    if set(map(type, tensors)) <= _PLAIN:
        return list(tensors)
    return [cast(Any, tensor).to_local() if is_sharded(tensor) else tensor for tensor in tensors]
