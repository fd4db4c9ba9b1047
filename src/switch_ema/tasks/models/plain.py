"""Networks without a library: a small ResNet, an MLP, and VGG-16."""

from __future__ import annotations

from torch import Tensor, nn

from switch_ema.tasks.models.request import Request

_VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def head(request: Request, num_features: int) -> list[nn.Module]:
    """Return the last layers, dropout and a linear one; none where features are asked for."""
    if not request.num_outputs:
        return []
    dropout = [nn.Dropout(request.dropout)] if request.dropout else []
    return [*dropout, nn.Linear(num_features, request.num_outputs)]


def small_resnet(request: Request) -> nn.Module:
    """Make a ResNet for small images: a 3x3 stem, three residual blocks, global average pooling.

    References:
        He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv:1512.03385, 2015 (section 4.2).
    """
    return nn.Sequential(
        nn.Conv2d(request.in_channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        ResidualBlock(16, 16, stride=1),
        ResidualBlock(16, 32, stride=2),
        ResidualBlock(32, 64, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        *head(request, 64),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to the input (a 1x1 convolution of it where the shape changes)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, h / stride, w / stride)."""
        y: Tensor = self.relu(self.body(x) + self.skip(x))
        return y


def mlp(request: Request) -> nn.Module:
    """Make a network of two hidden layers of 256 units, without normalisation."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(request.in_channels * request.image_size**2, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        *head(request, 256),
    )


def vgg16(request: Request) -> nn.Module:
    """Make VGG-16 without BatchNorm for small images, from 32 pixels on.

    The classifier has two hidden layers of 512 units, each after a dropout of 0.5 (or `request.dropout`, if not 0).

    References:
        Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv:1409.1556, 2014
        (table 1, column D).
    """
    layers: list[nn.Module] = []
    channels = request.in_channels
    for width in _VGG16:
        if not width:
            layers.append(nn.MaxPool2d(2))
            continue
        conv = nn.Conv2d(channels, width, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # it has one
        layers += [conv, nn.ReLU()]
        channels = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if request.num_outputs:
        for _ in range(2):
            layers += [nn.Dropout(request.dropout or 0.5), nn.Linear(512, 512), nn.ReLU()]
        layers.append(nn.Linear(512, request.num_outputs))
    return nn.Sequential(*layers)
