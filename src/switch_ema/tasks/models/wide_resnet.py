"""Wide residual networks."""

from __future__ import annotations

from torch import Tensor, nn

from switch_ema.tasks.models.names import wide_resnet_shape
from switch_ema.tasks.models.request import Request


def wide_resnet(request: Request) -> nn.Module:
    """Make a Wide ResNet for small images: three groups of 16K, 32K and 64K channels, batch norm before convolution.

    Dropout, if any, acts between the two convolutions of a block.

    References:
        Zagoruyko, Komodakis: Wide Residual Networks, arXiv:1605.07146, 2016 (table 1).
    """
    blocks, width = wide_resnet_shape(request.name)
    layers: list[nn.Module] = [nn.Conv2d(request.in_channels, 16, 3, padding=1, bias=False)]
    channels = 16
    for group in range(3):
        for block in range(blocks):
            wide = 16 * 2**group * width
            layers.append(WideBlock(channels, wide, 2 if group and not block else 1, request.dropout))
            channels = wide
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if request.num_outputs:
        layers.append(nn.Linear(channels, request.num_outputs))
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


class WideBlock(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, twice, added to the input (a 1x1 convolution where the shape changes)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        self.skip: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, h / stride, w / stride)."""
        active = self.first(x)
        y: Tensor = self.body(active) + (x if self.skip is None else self.skip(active))
        return y
