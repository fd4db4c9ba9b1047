"""One pass over a model's weights that folds them into their averages: one way for each kind of device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from switch_ema.averaging.layout import Item, is_small
from switch_ema.averaging.rounding import Rounding

_BLOCK = 1 << 17  # elements: a block and its copy in another type fit into the cache of a core
_JOINED = (1 << 15) - 1  # elements: torch copies so many at once without starting threads


class Pass(Protocol):
    """Folds weights of one type into averages of one type, in one or several buffers (rows) that are laid out alike."""

    def lerp_(self, shares: Sequence[float], seeds: Sequence[int], keep: Tensor | None = None) -> None:
        """Move each average towards its weight: `average <- average + share * (weight - average)`.

        A weight equal to its average leaves it unchanged to the last bit; share 1 copies, exactly.

        Args:
            shares: Share of the weight, in [0, 1], for each row.
            seeds: For each row, the seed of stochastic rounding, if the averages are in bfloat16.
            keep: A truth value on the device; if false the averages stay as they are.
        """

    def copy_(self) -> None:
        """Copy the weights into the averages."""

    def finite(self) -> Tensor:
        """Return whether all weights are finite, as a truth value on their device."""


@final
class CpuPass:
    """On a CPU: small tensors are joined, and those that change their type go block by block through the cache.

    Args:
        buffers: The averages, one buffer for each row.
        items: The weights, in the order of the buffers.
    """

    def __init__(self, buffers: Sequence[Tensor], items: Sequence[Item]) -> None:
        self._dtype = buffers[0].dtype
        self._in_blocks = self._dtype != items[0].source.dtype or self._dtype is torch.bfloat16
        wide = torch.float32 if self._dtype is torch.bfloat16 else self._dtype
        self._scratch = torch.empty(_BLOCK if self._in_blocks else 0, dtype=wide)
        self._pieces = [_piece(buffers, run) for run in _runs(items)]

    @torch.no_grad()
    def lerp_(self, shares: Sequence[float], seeds: Sequence[int], keep: Tensor | None = None) -> None:
        """Fold the weights in."""
        if keep is not None and not keep:
            return
        roundings = [Rounding(seed) for seed in seeds] if self._dtype is torch.bfloat16 else []
        if not self._in_blocks:
            rows, values = zip(*self._blocks(), strict=True)
            for row, share in zip(zip(*rows, strict=True), shares, strict=True):
                torch._foreach_lerp_(row, values, share)
            return
        for targets, source in self._blocks():
            value = self._widened(source)
            for i, (target, share) in enumerate(zip(targets, shares, strict=True)):
                if roundings:
                    target.copy_(roundings[i](target.to(torch.float32).lerp_(value, share)))
                else:
                    target.lerp_(value, share)

    @torch.no_grad()
    def copy_(self) -> None:
        """Copy the weights."""
        for targets, value in self._blocks():
            for target in targets:
                target.copy_(value)

    @torch.no_grad()
    def finite(self) -> Tensor:
        """Look whether all weights are finite: a sum is faster than a look at each, which it spares nearly always."""
        for _, value in self._blocks():
            total = value.sum(dtype=torch.promote_types(value.dtype, torch.float32))
            if not total.isfinite() and not value.isfinite().all():
                return torch.tensor(False)
        return torch.tensor(True)

    def _widened(self, source: Tensor) -> Tensor:
        """Return weights in the type that is computed in; memory for them is not asked for anew each time."""
        if source.dim() != 1:
            return source.to(self._scratch.dtype)
        return self._scratch[: source.numel()].copy_(source)

    def _blocks(self) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
        """Yield the averages (one for each row) and weights that are worked on at once."""
        for targets, sources in self._pieces:
            if len(sources) > 1:
                yield targets, torch.cat(sources)
            elif self._in_blocks and sources[0].dim() == 1:
                yield from zip(
                    zip(*(target.split(_BLOCK) for target in targets), strict=True),
                    sources[0].split(_BLOCK),
                    strict=True,
                )
            else:
                yield targets, sources[0]


@final
class ForeachPass:
    """On other devices: torch's own operations on lists of tensors.

    Args:
        buffers: The averages, one buffer for each row.
        items: The weights.
    """

    def __init__(self, buffers: Sequence[Tensor], items: Sequence[Item]) -> None:
        self._dtype = buffers[0].dtype
        self._sources = [item.source for item in items]
        self._rows = [[item.target(buffer) for item in items] for buffer in buffers]

    @torch.no_grad()
    def lerp_(self, shares: Sequence[float], seeds: Sequence[int], keep: Tensor | None = None) -> None:
        """Fold the weights in."""
        narrow, device = self._dtype is torch.bfloat16, self._rows[0][0].device
        values = [source.to(device, torch.float32 if narrow else self._dtype) for source in self._sources]
        for targets, share, seed in zip(self._rows, shares, seeds, strict=True):
            rounding = Rounding(seed) if narrow else None
            averages = [target.to(torch.float32) for target in targets] if narrow else targets
            new = values
            if keep is not None:
                new = [torch.where(keep, value, average) for value, average in zip(values, averages, strict=True)]
            torch._foreach_lerp_(averages, new, share)
            if rounding:
                torch._foreach_copy_(targets, [rounding(average) for average in averages])

    @torch.no_grad()
    def copy_(self) -> None:
        """Copy the weights."""
        for targets in self._rows:
            torch._foreach_copy_(targets, self._sources)

    @torch.no_grad()
    def finite(self) -> Tensor:
        """Look whether all weights are finite, without waiting for the answer."""
        return torch.stack(torch._foreach_norm(self._sources, torch.inf)).isfinite().all()


def _runs(items: Sequence[Item]) -> list[list[Item]]:
    """Split items, in order, into runs whose memory is joined before it is folded in: neighbours, small together."""
    runs: list[list[Item]] = []
    for item in items:
        run = runs[-1] if runs else []
        fits = bool(run) and run[-1].end == item.start and item.end - run[0].start <= _JOINED
        if fits and _joins(run[-1]) and _joins(item):
            run.append(item)
        else:
            runs.append([item])
    return runs


def _joins(item: Item) -> bool:
    return item.source.dim() == 1 and is_small(item.source)


def _piece(buffers: Sequence[Tensor], run: Sequence[Item]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the averages of a run of weights, joined, one for each row; and the weights."""
    sources = [item.source for item in run]
    if len(run) == 1:
        return [run[0].target(buffer) for buffer in buffers], sources
    return [buffer[run[0].start : run[-1].end] for buffer in buffers], sources
