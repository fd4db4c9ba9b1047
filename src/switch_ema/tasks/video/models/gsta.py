"""The translator of the second SimVP: blocks of gated attention by large kernels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

_LAYER_SCALE = 1e-2


def attention_blocks(
    channels: int, hidden: int, blocks: int, mlp_ratio: int, attention: Callable[[int], nn.Module]
) -> nn.Sequential:
    """Make a translator of attention blocks: the first works on `channels`, the others on `hidden`.

    Within SimVP with 64 channels a frame, for 10 grey frames, with 512 hidden channels, 8 blocks and an MLP ratio of 8
    the network has 46,769,665 parameters (published by OpenSTL: 46.8 M). There is no stochastic depth.

    Args:
        channels: Channels of the maps of all frames together.
        hidden: Channels between the blocks.
        blocks: Number of blocks, at least 2.
        mlp_ratio: Channels within the feed-forward part of a block, by those of the block.
        attention: Makes the attention for a number of channels: `GatedAttention`, or TAU's.

    Returns:
        A module that maps (n, channels, h, w) to the same shape.

    References:
        Tan, Gao, Li, Li: SimVP: Towards Simple yet Powerful Spatiotemporal Predictive Learning (v2),
        arXiv:2211.12509, 2022.
    """
    widths = [channels, *[hidden] * (blocks - 1)]
    layers: list[nn.Module] = []
    for width, following in zip(widths, [*widths[1:], channels], strict=True):
        layers.append(AttentionBlock(width, mlp_ratio, attention(width)))
        if width != following:
            layers.append(nn.Conv2d(width, following, 1))
    return nn.Sequential(*layers)


class AttentionBlock(nn.Module):
    """Attention, then a feed-forward part: each after BatchNorm, times a learnt scale, added to its input.

    Args:
        channels: Channels of the map.
        mlp_ratio: Channels within the feed-forward part, by `channels`.
        attention: Maps (n, channels, h, w), already normed, to the same shape.
    """

    def __init__(self, channels: int, mlp_ratio: int, attention: nn.Module) -> None:
        super().__init__()
        inner = mlp_ratio * channels
        self.norm1 = nn.BatchNorm2d(channels)
        self.attention = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.GELU(), attention, nn.Conv2d(channels, channels, 1)
        )
        self.norm2 = nn.BatchNorm2d(channels)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner),
            nn.GELU(),
            nn.Conv2d(inner, channels, 1),
        )
        self.scale1 = nn.Parameter(torch.full((channels, 1, 1), _LAYER_SCALE))
        self.scale2 = nn.Parameter(torch.full((channels, 1, 1), _LAYER_SCALE))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        normed = self.norm1(x)
        x = x + self.scale1 * (normed + self.attention(normed))
        y: Tensor = x + self.scale2 * self.mlp(self.norm2(x))
        return y


class LargeKernel(nn.Sequential):
    """A 21x21 convolution taken apart: 5x5 depthwise, then 7x7 depthwise with dilation 3, then 1x1.

    Args:
        channels: Channels of the map.
        out_channels: Channels of the result.

    References:
        Guo, Lu, Liu, Cheng, Hu: Visual Attention Network, arXiv:2202.09741, 2022.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels),
            nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels),
            nn.Conv2d(channels, out_channels, 1),
        )


class GatedAttention(nn.Module):
    """Gated spatiotemporal attention: `sigmoid(g) . f` for the halves f, g of a large-kernel convolution of the input.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.large = LargeKernel(channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        f, g = self.large(x).chunk(2, dim=1)
        gated: Tensor = g.sigmoid() * f
        return gated
