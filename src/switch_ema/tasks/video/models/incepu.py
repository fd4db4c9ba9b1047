"""The translator of the first SimVP: a U-Net of Inception blocks."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn

_KERNELS = (3, 5, 7, 11)
_GROUPS = 8


class InceptionUNet(nn.Module):
    """Blocks that go in and as many that come out; each but the first of these also takes what its mirror image gave.

    Within SimVP with 64 channels a frame, for 10 grey frames, at its default size the network has 57,946,113
    parameters. OpenSTL prints 58.0 M, perhaps 57.95 M rounded once more: for TaxiBJ, where it prints two decimals,
    the same blocks come to its 13.79 M.

    Args:
        channels: Channels of the maps of all frames together, a multiple of 8.
        hidden: Channels between the blocks, a multiple of 16.
        blocks: Number of blocks on either side, at least 2.

    References:
        Gao, Tan, Wu, Li: SimVP: Simpler yet Better Video Prediction, arXiv:2206.05099, 2022 (section 3).
    """

    def __init__(self, channels: int, hidden: int = 512, blocks: int = 8) -> None:
        super().__init__()
        inner = blocks - 1
        self.down = nn.ModuleList(InceptionBlock(hidden if i else channels, hidden) for i in range(blocks))
        self.up = nn.ModuleList(
            InceptionBlock(2 * hidden if i else hidden, channels if i == inner else hidden, hidden // 2)
            for i in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        given: list[Tensor] = []
        for block in self.down:
            x = block(x)
            given.append(x)
        given.pop()  # the innermost one goes on as it is
        for i, block in enumerate(self.up):
            x = block(torch.cat((x, given.pop()), dim=1) if i else x)
        return x


class InceptionBlock(nn.Module):
    """A 1x1 convolution, then the sum of four grouped ones with kernels of 3, 5, 7 and 11, normed and rectified.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result, a multiple of 8.
        hidden: Channels after the 1x1 convolution, a multiple of 8; half of `out_channels` unless given.
    """

    def __init__(self, in_channels: int, out_channels: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or out_channels // 2
        self.squeeze = nn.Conv2d(in_channels, hidden, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(hidden, out_channels, kernel, padding=kernel // 2, groups=_GROUPS),
                nn.GroupNorm(_GROUPS, out_channels),
                nn.LeakyReLU(0.2),
            )
            for kernel in _KERNELS
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, h, w)."""
        squeezed = self.squeeze(x)
        y: Tensor = reduce(torch.add, (branch(squeezed) for branch in self.branches))
        return y
