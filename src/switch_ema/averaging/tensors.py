"""What averages need to know of tensors: their type, their shards, and how to copy them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Buffer, Parameter

PLAIN = {Tensor, Parameter, Buffer}


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
def copy_(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source into its target, in place, changing type and device as needed.

    In place under `no_grad`, and never through `.data`: autograd then refuses a backward pass through overwritten
    weights, where a write through `.data` would give wrong gradients in silence. Of sharded tensors each process copies
    its own shard.
    """
    if targets:
        torch._foreach_copy_(local(targets), local(sources))


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is one process's part of a larger one (a DTensor)."""
    return type(tensor) not in PLAIN and hasattr(tensor, "to_local")


@torch.no_grad()
def local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors, and of a sharded one (a DTensor) the shard of this process."""
    if set(map(type, tensors)) <= PLAIN:
        return list(tensors)
    return [cast(Any, tensor).to_local() if is_sharded(tensor) else tensor for tensor in tensors]


def like(whole: Tensor, target: Tensor) -> Tensor:
    """Return a tensor laid out as another one: of a sharded one this process's own shard. Nothing is communicated.

    Args:
        whole: A whole tensor, the same in all processes; one that is sharded already is returned as it is.
        target: A tensor of the same shape; plain or sharded.

    Returns:
        The tensor itself, or a sharded one that does not keep it in memory.

    Raises:
        ValueError: If the target is shared out in a way that is not known here.
    """
    if not is_sharded(target) or is_sharded(whole):
        return whole
    sharded = cast(Any, target)
    mesh, part = sharded.device_mesh, whole.detach()
    # FSDP2 splits (as "strided" shards) what tensor parallelism has split before
    for i, placement in sorted(enumerate(sharded.placements), key=lambda pair: hasattr(pair[1], "split_factor")):
        if hasattr(placement, "dim"):
            chunks = part.chunk(mesh.size(i), placement.dim)
            rank = mesh.get_local_rank(i)
            part = chunks[rank] if rank < len(chunks) else part.narrow(placement.dim, 0, 0)
    if part.shape != sharded.to_local().shape:
        raise ValueError(
            f"this process's part has shape {tuple(sharded.to_local().shape)} by its placements {sharded.placements}, "
            f"and {tuple(part.shape)} was expected; load the weights before the model is shared out"
        )
    return sharded_like(part.clone(), target)


def sharded_like(shard: Tensor, like: Tensor) -> Tensor:
    """Return a shard of this process as part of a tensor that is sharded as another one; a plain one as it is."""
    if not is_sharded(like):
        return shard
    from torch.distributed.tensor import DTensor  # slow to import

    whole = cast(Any, like)
    return DTensor.from_local(
        shard, whole.device_mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride()
    )


def copied_on_write(tensor: Tensor) -> Tensor:
    """Return a tensor of the same values whose memory is copied when one of the two is written to."""
    try:
        lent: Tensor = torch._lazy_clone(tensor)
    except RuntimeError:  # memory of another kind, such as page-locked
        lent = tensor.clone()
    return lent
