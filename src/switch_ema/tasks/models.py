"""Networks for image classification, all with untrained weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn, no_grad, zeros

from switch_ema.errors import InputError
from switch_ema.tasks.catalog import TASKS, check_model, timm_name

_TRIED_SIZES = (32, 64, 128, 224)


def build_model(name: str, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Make a network; its weights come from torch's global random generator.

    Args:
        name: ``small-resnet``, ``mlp`` or ``timm/NAME``.
        num_classes: Number of outputs.
        in_channels: Channels of the images, 1 or 3.
        image_size: Side of the square images in pixels.

    Returns:
        A module that maps images (n, channels, size, size) to logits (n, classes).

    Raises:
        InputError: The name is unknown, or the network cannot take images of this size.
    """
    check_model(name, TASKS["classification"].models)
    if name == "small-resnet":
        return small_resnet(num_classes, in_channels)
    if name == "mlp":
        return mlp(num_classes, in_channels * image_size**2)
    return _timm_model(timm_name(name), num_classes, in_channels, image_size)


def small_resnet(num_classes: int, in_channels: int) -> nn.Module:
    """Make a ResNet for small images: a 3x3 stem, three residual blocks, global average pooling.

    References:
        He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv:1512.03385, 2015 (section 4.2).
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        ResidualBlock(16, 16, stride=1),
        ResidualBlock(16, 32, stride=2),
        ResidualBlock(32, 64, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


def mlp(num_classes: int, in_features: int) -> nn.Module:
    """Make a network of two hidden layers of 256 units, without normalisation."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_features, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, num_classes),
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


def _timm_model(name: str, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    try:
        return _tested_timm_model(name, num_classes, in_channels, image_size)
    except Exception as error:  # each of timm's models fails in its own way on images it cannot take
        cause = error
    for size in _TRIED_SIZES:
        try:
            _tested_timm_model(name, num_classes, in_channels, size)
        except Exception:  # looking for a size that works
            continue
        raise InputError(
            f"timm/{name} cannot take {in_channels}x{image_size}x{image_size} images; try --image-size {size}"
        ) from cause
    reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    raise InputError(
        f"timm/{name} cannot classify {in_channels}-channel images ({reason}); try another model"
    ) from cause


def _tested_timm_model(name: str, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Make a model and pass two blank images through it, which leaves no trace in it."""
    import timm

    settings: dict[str, Any] = {"pretrained": False, "num_classes": num_classes, "in_chans": in_channels}
    try:
        model: nn.Module = timm.create_model(name, img_size=image_size, **settings)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        model = timm.create_model(name, **settings)  # takes images of any size
    training = model.training
    with no_grad():
        logits = model.eval()(zeros(2, in_channels, image_size, image_size))
    if logits.shape != (2, num_classes) or not logits.isfinite().all():
        raise ValueError(f"output of shape {tuple(logits.shape)}")
    return model.train(training)
