"""Which way of folding weights in is taken on which device, and on which stream it runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import final

import torch
from torch import Tensor

from switch_ema.averaging import fused
from switch_ema.averaging.cuda import CudaPass, SideStreams
from switch_ema.averaging.layout import Item, Layout, Part
from switch_ema.averaging.offload import OffloadPass
from switch_ema.averaging.passes import CpuPass, ForeachPass, Pass


@final
class Passes:
    """All passes over a model that are needed to fold it into one or several averages (rows) that are laid out alike.

    Args:
        layouts: Where the averages lie, one layout for each row.
        parts: The model's tensors.

    Attributes:
        copied: Passes over tensors that are not averaged.
    """

    def __init__(self, layouts: Sequence[Layout], parts: Sequence[Part]) -> None:
        self._averaged: list[tuple[Part, Pass]] = []
        self.copied: list[Pass] = []
        for part in parts:
            for one in _choose([layout.buffers[part.buffer] for layout in layouts], part.items):
                if part.kind == "copied":
                    self.copied.append(one)
                else:
                    self._averaged.append((part, one))

    @property
    def all(self) -> list[Pass]:
        """All passes."""
        return [*(one for _, one in self._averaged), *self.copied]

    def lerp_(
        self, shares: Sequence[float], seeds: Sequence[int], keep: Tensor | None, side: SideStreams | None
    ) -> None:
        """Fold averaged tensors in and copy the others; see `Pass.lerp_`.

        Args:
            shares: Share of the weights for each row.
            seeds: Seed of stochastic rounding for each row.
            keep: A truth value; if false the averages stay as they are.
            side: Where parameters are folded in, if not where the model works; buffers change in a forward pass.
        """
        for part, one in self._averaged:
            device = part.items[0].source.device
            with side.beside(device, keep) if side and part.kind == "parameter" else nullcontext():
                one.lerp_(shares, seeds, keep)
        for one in self.copied:
            one.copy_()

    def finite(self) -> Tensor:
        """Return whether all tensors that are averaged are finite, as a truth value on a device."""
        found = [one.finite() for _, one in self._averaged]
        return found[0] if len(found) == 1 else torch.stack([each.to(found[0].device) for each in found]).all()

    def settle(self) -> None:
        """Finish what was begun."""
        for one in self.all:
            if isinstance(one, OffloadPass):
                one.settle()


def _choose(buffers: Sequence[Tensor], items: Sequence[Item]) -> list[Pass]:
    there, here = buffers[0].device, items[0].source.device
    if there.type == "cpu":
        return [CpuPass(buffers, items) if here.type == "cpu" else OffloadPass(buffers, items)]
    if there == here and fused.fits(items[0].source.dtype, buffers[0].dtype) and fused.available(there):
        whole = [item for item in items if item.source.dim() == 1]
        gaps = [item for item in items if item.source.dim() != 1]
        return [way(buffers, some) for way, some in ((CudaPass, whole), (ForeachPass, gaps)) if some]
    return [ForeachPass(buffers, items)]
