"""Batches of any shape: their number of examples, and whether a second pass gives the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from switch_ema.errors import InputError


def num_examples(batch: Any) -> int:
    """Return the number of examples of a batch: the leading size of the first tensor found in it.

    Args:
        batch: A tensor, or a tuple, list or mapping with one, nested at will.

    Returns:
        The number of examples, 1 or more.

    Raises:
        InputError: There is no tensor in it, or the first one has no leading size, or that is 0.

    Example:
        >>> num_examples({"ids": torch.zeros(3, 7), "mask": torch.ones(3, 7)})
        3
    """
    first = next(_tensors(batch), None)
    if first is None or first.dim() == 0 or not len(first):
        got = "no tensor" if first is None else f"a tensor of shape {tuple(first.shape)} first"
        raise InputError(f"a batch ({type(batch).__name__}) holds {got}; give tensors of shape (examples, ...)")
    return len(first)


def check_repeatable(batches: Iterable[Any], prints: Sequence[bytes]) -> None:
    """Refuse batches that differ from those of an earlier pass.

    Args:
        batches: What is gone through again; a list or tuple is taken at its word.
        prints: What `fingerprint` returned for each batch of the earlier pass.

    Raises:
        InputError: Other batches come, or in another order.
    """
    if not isinstance(batches, list | tuple) and [fingerprint(batch) for batch in batches] != list(prints):
        raise InputError(
            f"batches ({type(batches).__name__}) gives other batches when gone through again; "
            "turn shuffling and random augmentation off, or write list(batches)"
        )


def fingerprint(batch: Any) -> bytes:
    """Return a digest of the tensors of a batch: equal for equal ones, and different for others.

    Args:
        batch: A tensor, or a tuple, list or mapping with some, nested at will.

    Returns:
        64 bytes, which depend on shapes, types and values.

    Example:
        >>> fingerprint(torch.arange(3)) == fingerprint(torch.arange(3).flip(0))
        False
    """
    digest = hashlib.blake2b()
    for tensor in _tensors(batch):
        digest.update(repr((tensor.shape, tensor.dtype)).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping | list | tuple):
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(part)
