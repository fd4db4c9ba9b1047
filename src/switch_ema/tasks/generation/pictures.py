"""What the report shows of a diffusion model: samples, and noise that becomes images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from switch_ema.bench.exhibit import Picture

_ROW = 8  # images in a row of samples
_STRIPS = 4  # images shown at several steps
_GREY = 128


def as_bytes(images: Tensor, white: int = 255) -> Tensor:
    """Map floats (n, c, h, w) in [-1, 1] to bytes (n, h, w, c) from 0 to `white`; what is outside is clipped."""
    return ((images + 1) * (white / 2)).round_().clamp_(0, white).byte().permute(0, 2, 3, 1)


def samples_picture(samples: Tensor) -> Picture:
    """Show samples, (n, c, h, w) in [-1, 1], n a multiple of 8, in rows of 8."""
    return Picture(
        name="samples",
        title="Samples",
        text="What the sampler makes of the same noise, for every method.",
        frames=_grid(samples, _ROW)[None],
    )


def denoising_picture(stages: Sequence[Tensor]) -> Picture:
    """Show how the first images come out of noise: `stages`, each (n, c, h, w) in [-1, 1], from left to right."""
    strips = torch.stack([stage[:_STRIPS] for stage in stages], 1).flatten(0, 1)
    return Picture(
        name="denoising",
        title="From noise to image",
        text="The first samples at evenly spaced steps of the sampler, from left to right.",
        frames=_grid(strips, len(stages))[None],
    )


def _grid(images: Tensor, columns: int) -> Tensor:
    """Lay images out in rows, with a line of grey around each: uint8 (height, width, 3), on the CPU."""
    tiles = pad(as_bytes(images).cpu(), (0, 0, 1, 1, 1, 1), value=_GREY)
    _, height, width, channels = tiles.shape
    rows = tiles.view(-1, columns, height, width, channels).transpose(1, 2)
    return rows.reshape(-1, columns * width, channels).expand(-1, -1, 3).contiguous()
