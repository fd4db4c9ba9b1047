"""Tensors that lie in parts on several processes (DTensors): gathered into one file."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from switch_ema.averaging.safewriter import Entry, header_checksum, in_blocks, in_order, write_safetensors
from switch_ema.averaging.tensors import is_sharded

_T = TypeVar("_T")


def write_gathered(
    path: Path, tensors: Mapping[str, Tensor], entries: Mapping[str, Entry], about: Mapping[str, Any]
) -> None:
    """Write tensors as one safetensors file, in memory of the size of the largest of them.

    If some are sharded, all processes must call this, with the same names. Each tensor is gathered in turn, the first
    process writes the file, and all return when it is there, or raise what went wrong there. Otherwise nothing is
    communicated, and the process that calls this writes.

    Args:
        path: The file; one that is there is replaced.
        tensors: What is written, by name.
        entries: Type in which each is stored, and its (whole) shape.
        about: What the file says about itself.

    Raises:
        OSError: If the disk is full or the folder cannot be written; nothing is left behind then.
        ValueError: If a value is beyond the range of its type, or the processes do not have the same tensors.
    """
    if not any(map(is_sharded, tensors.values())):
        write_safetensors(path, entries, about, lambda name: in_blocks(tensors[name].detach().cpu()))
        return
    if len(set(_from_all(header_checksum({}, entries)))) > 1:
        raise ValueError(
            "the processes do not hold the same tensors (names, types, shapes), so they cannot write one file; call "
            "this on all processes, for models of the same structure"
        )
    gathered = (_gather(tensors[name]) for name in in_order(entries))  # in the order of the file, in all processes
    failure: Exception | None = None
    if dist.get_rank() == 0:
        try:
            write_safetensors(path, entries, about, lambda _: in_blocks(next(gathered).cpu()))
        except Exception as error:
            failure = error
    deque(gathered, maxlen=0)  # to the end also after a failure: the others wait for each tensor
    raise_everywhere(failure)


def raise_everywhere(failure: Exception | None) -> None:
    """Raise, in all processes, what went wrong in the first; return in all of them at the same time otherwise.

    Args:
        failure: What went wrong in this process, the first.
    """
    found = _from_all(None if failure is None else _sendable(failure))[0]
    if failure is not None:
        raise failure
    if found is not None:
        found.add_note("(raised in the process of rank 0, which writes the file)")
        raise found


@torch.no_grad()
def _gather(tensor: Tensor) -> Tensor:
    if not is_sharded(tensor):
        return tensor.detach()
    sharded = cast(Any, tensor.detach())
    return cast(Tensor, sharded.to(sharded.device_mesh.device_type).full_tensor())  # it may be kept on the CPU


def _from_all(value: _T) -> list[_T]:
    """Return the values of all processes."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _sendable(error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, str(error.filename) if error.filename else None)
    kinds = (OSError, ValueError, RuntimeError)
    return next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)(str(error))
