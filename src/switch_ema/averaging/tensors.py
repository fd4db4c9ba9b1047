"""Arithmetic over lists of tensors: the exact, small version of what an average needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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

    A value equal to its average leaves it unchanged to the last bit; weight 1 copies, exactly.

    Args:
        averages: Tensors changed in place.
        values: Tensors of the same shapes; a half-precision one is raised to the average's type first.
        weight: Share of the value, in [0, 1].
    """
    same = [(a, v) for a, v in zip(averages, values, strict=True) if a.dtype == v.dtype]
    if same:
        torch._foreach_lerp_([a for a, _ in same], [v for _, v in same], weight)
    if len(same) < len(averages):
        for average, value in zip(averages, values, strict=True):
            if average.dtype != value.dtype:
                average.lerp_(value.to(average.dtype), weight)


@torch.no_grad()
def copy_(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source into its target, in place, changing type and device as needed.

    In place under `no_grad`, and never through `.data`: autograd then refuses a backward pass through overwritten
    weights, where a write through `.data` would give wrong gradients in silence.
    """
    if targets:
        torch._foreach_copy_(list(targets), list(sources))
