"""Stochastic rounding: how an average in a narrow type takes changes that are below its resolution."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

_NOISE_BITS = 16  # a float32 has 16 bits more than a bfloat16


@final
class Rounding:
    """Rounds float32 to bfloat16, up or down at random, so that the mean over many roundings is exact.

    A value between two neighbours becomes the upper one with the probability of its place between them; one that
    bfloat16 can hold is left as it is. The random numbers depend on the seed alone.

    Args:
        seed: Any whole number; the same seed rounds the same values the same way.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __call__(self, values: Tensor) -> Tensor:
        """Return the values in bfloat16.

        Args:
            values: float32, of any shape.
        """
        bits = values.contiguous().view(torch.int32)
        words = torch.empty(-(-bits.numel() // 4), dtype=torch.int64, device=bits.device)
        words.random_(-(2**63), None, generator=self._on(bits.device))  # 64 random bits: noise for four values
        noise = words.view(torch.int16)[: bits.numel()].view(bits.shape).to(torch.int32)
        noise.bitwise_and_(2**_NOISE_BITS - 1).add_(bits).bitwise_and_(-(2**_NOISE_BITS))
        rounded = noise.view(torch.float32).to(torch.bfloat16)
        return torch.where(values.isfinite(), rounded, values.to(torch.bfloat16))

    def _on(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
            self._generators[device].manual_seed(self._seed)
        return self._generators[device]
