"""The weighted sum of checkpoint files, a block at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from switch_ema.averaging.safewriter import Entry, beyond_range, kind_of, wider, write_safetensors
from switch_ema.averaging.slots import differences, plain_name, plain_names
from switch_ema.averaging.sources import Source, open_source

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def blend(
    paths: Sequence[Path],
    output: Path,
    weigh: Callable[[Sequence[dict[str, Any] | None]], Sequence[float]],
    key: str | None,
    dtype: str | None,
) -> dict[str, Any]:
    """Write the weighted sum of checkpoints.

    Args:
        paths: The checkpoints.
        output: The file to write.
        weigh: Returns the weights from what the files say about themselves; they are divided by their sum, at the end.
        key: Where the weights lie in a torch checkpoint.
        dtype: Type in which floats are stored; `None` for the type they have.

    Returns:
        What the file says about itself.

    Raises:
        ValueError: If a file is damaged, names, shapes or types differ, or a mean is beyond the range of its type.
    """
    with ExitStack() as stack:
        sources = [stack.enter_context(open_source(path, key)) for path in paths]
        for source in sources:
            if any(output.resolve() == path.resolve() for path in source.files):
                raise ValueError(f"{output} is one of the inputs; write another name for the output")
        weights = weigh([source.about for source in sources])
        total = math.fsum(weights)
        names = _agreed_names(sources)
        entries = {name: _agreed(name, sources, names, dtype) for name in names[0]}
        plain = {own: name for name, own in names[0].items()}
        aliases = {plain[alias]: plain[name] for alias, name in sources[0].aliases.items()}
        for source, own in zip(sources[1:], names[1:], strict=True):
            aliases = {a: n for a, n in aliases.items() if _tied(source, own[a], own[n])}

        def blocks(name: str) -> Iterator[Tensor]:
            own = [names_of[name] for names_of in names]
            if not _is_averaged(entries[name].dtype):
                yield from sources[-1].blocks(own[-1])
                return
            counting = [(s.blocks(n), w) for s, n, w in zip(sources, own, weights, strict=True) if w]
            for parts in zip(*(blocks for blocks, _ in counting), strict=True):
                yield weighted_mean(parts, [weight for _, weight in counting], total, entries[name].dtype, repr(name))

        shares = [weight / total for weight in weights]
        about = {"inputs": [path.name for path in paths], "weights": shares, "aliases": aliases}
        stored = {name: entry for name, entry in entries.items() if name not in aliases}
        return write_safetensors(output, stored, about, blocks)


def weighted_mean(
    blocks: Sequence[Tensor], weights: Sequence[float], divisor: float, dtype: torch.dtype, what: str = "the mean"
) -> Tensor:
    """Return the weighted mean, taken in double precision; a value that all blocks have comes out bit for bit.

    Args:
        blocks: Flat tensors of the same length.
        weights: One for each.
        divisor: Their sum.
        dtype: Type of the result.
        what: What is averaged, for the message.

    Raises:
        ValueError: If a finite mean is beyond the range of the type.
    """
    first = blocks[0]
    wide = torch.complex128 if first.is_complex() else torch.float64
    total = first.to(wide) * weights[0]
    agree: Tensor | None = torch.ones(len(first), dtype=torch.bool)
    for block, weight in zip(blocks[1:], weights[1:], strict=True):
        total.add_(block.to(wide), alpha=weight)
        if agree is not None:
            agree &= _equal_bits(first, block)
            agree = agree if bool(agree.any()) else None  # mostly: then there is no need to compare further
    mean = total.div_(divisor).to(dtype)
    if agree is not None:
        _bits(mean)[agree] = _bits(first.to(dtype))[agree]  # as bits: some types have no other way of choosing
    if not bool(mean.to(wide).sum().isfinite()):
        cure = f"store it in a wider type with dtype (--dtype {str(wider(dtype)).removeprefix('torch.')})"
        if refusal := beyond_range(what, total, mean, cure):
            raise ValueError(refusal)
    return mean


def _equal_bits(one: Tensor, other: Tensor) -> Tensor:
    return _bits(one) == _bits(other) if one.dtype == other.dtype else one.double() == other.double()


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(_BITS[tensor.dtype.itemsize])


def _agreed_names(sources: Sequence[Source]) -> list[Mapping[str, str]]:
    """Return each file's own names by the names of the output, refusing files that differ in them."""
    names: list[Mapping[str, str]] = [{name: name for name in source.entries} for source in sources]
    wrapped = all(plain_name(name) != name for name in names[0])
    if wrapped or any(other.keys() != names[0].keys() for other in names):
        names = [plain_names(other) for other in names]
    for source, other in zip(sources[1:], names[1:], strict=True):
        if found := differences(other, names[0]):
            raise ValueError(
                f"{source.path} does not hold the tensors of {sources[0].path} ({found}); "
                "name checkpoints of the same model"
            )
    return names


def _agreed(name: str, sources: Sequence[Source], names: Sequence[Mapping[str, str]], dtype: str | None) -> Entry:
    """Return type and shape of a tensor in the output, refusing files that differ in them."""
    first, last = sources[0].entries[names[0][name]], sources[-1].entries[names[-1][name]]
    for source, own in zip(sources, names, strict=True):
        entry = source.entries[own[name]]
        if entry.shape != first.shape:
            raise ValueError(
                f"{name!r} has shape {first.shape} in {sources[0].path} and {entry.shape} in {source.path}; "
                "name checkpoints of the same model"
            )
        if kind_of(entry.dtype) != kind_of(first.dtype):
            raise ValueError(
                f"{name!r} is {first.dtype} in {sources[0].path} and {entry.dtype} in {source.path}; "
                "name checkpoints of the same model"
            )
        if entry.dtype != first.dtype and first.dtype.is_floating_point and dtype is None:
            raise ValueError(
                f"{name!r} is {first.dtype} in {sources[0].path} and {entry.dtype} in {source.path}; "
                "choose the type of the average with dtype (--dtype float32)"
            )
    if dtype is not None and first.dtype.is_floating_point:
        return Entry(getattr(torch, dtype), first.shape)
    return last


def _is_averaged(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def _tied(source: Source, alias: str, name: str) -> bool:
    return source.aliases.get(alias, alias) == source.aliases.get(name, name)
