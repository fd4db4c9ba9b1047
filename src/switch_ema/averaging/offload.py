"""Averages on the CPU of a model on an accelerator: weights are copied while the device works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from switch_ema.averaging.layout import Item
from switch_ema.averaging.passes import CpuPass, ForeachPass


@final
class OffloadPass:
    """Copies the weights into page-locked memory, without waiting, and folds them in when they are needed or replaced.

    The copies are in the order of the device's work: they are done before an optimizer step that comes later changes
    the weights.

    Args:
        buffers: The averages on the CPU, one buffer for each row.
        items: The weights on the device.
    """

    def __init__(self, buffers: Sequence[Tensor], items: Sequence[Item]) -> None:
        self._sources = [item.source for item in items]
        first = self._sources[0]
        memory = torch.empty(sum(s.numel() for s in self._sources), dtype=first.dtype, pin_memory=first.is_cuda)
        sizes = [source.numel() for source in self._sources]
        self._copies = [m.view(s.shape) for m, s in zip(memory.split(sizes), self._sources, strict=True)]
        self._fold = CpuPass(buffers, [Item(i.start, copy) for i, copy in zip(items, self._copies, strict=True)])
        self._on_device = ForeachPass(buffers, items)
        self._event = torch.cuda.Event() if first.is_cuda else None
        self._pending: tuple[Sequence[float], Sequence[int], Tensor | None] | None = None

    @torch.no_grad()
    def lerp_(self, shares: Sequence[float], seeds: Sequence[int], keep: Tensor | None = None) -> None:
        """Start to copy the weights; fold in those of the last time."""
        self.settle()
        self._fetch()
        self._pending = (shares, seeds, keep)

    @torch.no_grad()
    def copy_(self) -> None:
        """Copy the weights, and wait for them."""
        self.settle()
        self._fetch()
        self._wait()
        self._fold.copy_()

    def finite(self) -> Tensor:
        """Look whether all weights are finite, without waiting for the answer."""
        return self._on_device.finite()

    def settle(self) -> None:
        """Wait for the copies that were started, and fold them in."""
        if self._pending is not None:
            (shares, seeds, keep), self._pending = self._pending, None
            self._wait()
            self._fold.lerp_(shares, seeds, keep)

    def _fetch(self) -> None:
        for copy, source in zip(self._copies, self._sources, strict=True):
            copy.copy_(source, non_blocking=True)
        if self._event is not None:
            self._event.record()

    def _wait(self) -> None:
        if self._event is not None:
            self._event.synchronize()
