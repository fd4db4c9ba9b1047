"""What is done differently on CUDA: one kernel for all tensors, and updates beside the model's own work."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor

from switch_ema.averaging.fused import FusedPass
from switch_ema.averaging.layout import Item
from switch_ema.averaging.passes import ForeachPass

_log = logging.getLogger(__name__)


@final
class CudaPass:
    """One launch over all tensors; torch's own operations on lists of tensors where Triton fails.

    Args:
        buffers: The averages, one buffer for each row.
        items: The weights, dense in memory.
    """

    def __init__(self, buffers: Sequence[Tensor], items: Sequence[Item]) -> None:
        self._buffers = list(buffers)
        self._foreach = ForeachPass(buffers, items)
        self._fused: FusedPass | None = FusedPass([i.source for i in items], [i.start for i in items])
        dtype = torch.float64 if buffers[0].dtype is torch.float64 else torch.float32
        self._on_device = torch.zeros(len(buffers), dtype=dtype, device=buffers[0].device)
        self._shares: list[float] = [0.0] * len(buffers)

    @torch.no_grad()
    def lerp_(self, shares: Sequence[float], seeds: Sequence[int], keep: Tensor | None = None) -> None:
        """Fold the weights in."""
        if self._fused is not None:
            for row, share in enumerate(shares):
                if share != self._shares[row]:  # a constant decay is sent to the device once
                    self._on_device[row].fill_(share)
            self._shares = list(shares)
            try:
                self._fused.lerp_(self._buffers, self._on_device, seed=self._seed(seeds), keep=keep)
                return
            except Exception as error:  # whatever Triton fails with, it fails before the launch
                _log.warning("the fused update does not run here (%s); torch's own operations take over", error)
                self._fused = None
        self._foreach.lerp_(shares, seeds, keep)

    def copy_(self) -> None:
        """Copy the weights."""
        self._foreach.copy_()

    def finite(self) -> Tensor:
        """Look whether all weights are finite, without waiting for the answer."""
        return self._foreach.finite() if self._fused is None else self._fused.all_finite()

    def _seed(self, seeds: Sequence[int]) -> int | Tensor | None:
        if self._buffers[0].dtype is not torch.bfloat16:
            return None
        if len(set(seeds)) == 1:
            return seeds[0]
        device = self._buffers[0].device
        told = torch.tensor(seeds, dtype=torch.int64, device="cpu")
        return told.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else told


@final
class SideStreams:
    """CUDA streams on which updates run while the model's next forward and backward pass run on theirs."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    @contextmanager
    def beside(self, device: torch.device, used: Tensor | None = None) -> Iterator[None]:
        """Run what is in a `with` block after the work so far, and beside the work that comes.

        Args:
            device: Where it runs.
            used: A tensor of the work so far that it reads; its memory goes to nobody else before that.
        """
        if device.type != "cuda":
            yield
            return
        stream = self._streams.setdefault(device, torch.cuda.Stream(device))
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            if used is not None and used.device.type == "cuda":
                used.record_stream(stream)
            yield

    def join(self) -> None:
        """Let the work that comes begin after what runs beside; the host does not wait."""
        for device, stream in self._streams.items():
            torch.cuda.current_stream(device).wait_stream(stream)
