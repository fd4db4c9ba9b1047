"""Networks by name, each tried on blank images before it is handed out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor, nn, no_grad, zeros

from switch_ema.errors import InputError
from switch_ema.tasks.models import from_timm, plain
from switch_ema.tasks.models.names import check_model
from switch_ema.tasks.models.request import Request
from switch_ema.tasks.models.wide_resnet import wide_resnet

_TRIED_SIZES = (32, 64, 128, 224)
_MAKERS: Mapping[str, Callable[[Request], nn.Module]] = {
    "small-resnet": plain.small_resnet,
    "mlp": plain.mlp,
    "vgg16": plain.vgg16,
    "resnet18": from_timm.resnet,
    "resnet34": from_timm.resnet,
    "resnet50": from_timm.resnet,
    "resnet101": from_timm.resnet,
    "resnext50": from_timm.resnet,
    "densenet121": from_timm.densenet,
    "convnext-t": from_timm.convnext,
    "convnext-s": from_timm.convnext,
    "deit-t": from_timm.vit,
    "deit-s": from_timm.vit,
    "vit-t": from_timm.vit,
    "vit-s": from_timm.vit,
    "swin-t": from_timm.swin,
    "mixer-s": from_timm.mixer,
}


class Backbone(nn.Module):
    """A network without its last layers.

    Args:
        network: Maps images (n, channels, size, size) to features (n, num_features).
        num_features: Number of features.

    Attributes:
        network: The network.
        num_features: Number of features.
    """

    def __init__(self, network: nn.Module, num_features: int) -> None:
        super().__init__()
        self.network = network
        self.num_features = num_features

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, size, size) to features (n, num_features)."""
        features: Tensor = self.network(images)
        return features


def build_model(
    name: str, num_outputs: int, in_channels: int, image_size: int, *, drop_path: float = 0.0, dropout: float = 0.0
) -> nn.Module:
    """Make a network; its weights come from torch's global random generator.

    Args:
        name: One of `switch_ema.tasks.models.names.MODELS`, such as ``resnet18``, ``wrn-28-10`` or ``timm/resnet50``.
        num_outputs: Number of outputs, such as classes; at least 1.
        in_channels: Channels of the images, such as 1 or 3.
        image_size: Side of the square images in pixels.
        drop_path: Rate of stochastic depth, 0 to below 1.
        dropout: Rate of dropout, 0 to below 1: before the last layer, in MLP-Mixer and Wide ResNet within the blocks;
            VGG-16 has 0.5 if this is 0.

    Returns:
        A module that maps images (n, channels, size, size) to outputs (n, num_outputs).

    Raises:
        InputError: The name is unknown, the network cannot take images of this size, or it has no use for a rate.

    Example:
        >>> from torch import zeros
        >>> build_model("wrn-10-1", 10, in_channels=3, image_size=32)(zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    if num_outputs < 1:
        raise InputError(f"num_outputs {num_outputs}: a network has at least 1 output; write 1 or more")
    return _fitting(Request(name, num_outputs, in_channels, image_size, drop_path, dropout))[0]


def build_backbone(name: str, in_channels: int, image_size: int, *, drop_path: float = 0.0) -> Backbone:
    """Make a network that gives the features before its last layers.

    Args:
        name: One of `switch_ema.tasks.models.names.MODELS`.
        in_channels: Channels of the images, such as 1 or 3.
        image_size: Side of the square images in pixels.
        drop_path: Rate of stochastic depth, 0 to below 1.

    Returns:
        A module that maps images (n, channels, size, size) to features (n, num_features).

    Raises:
        InputError: As for `build_model`.

    Example:
        >>> build_backbone("small-resnet", in_channels=1, image_size=8).num_features
        64
    """
    return Backbone(*_fitting(Request(name, 0, in_channels, image_size, drop_path)))


def _fitting(request: Request) -> tuple[nn.Module, int]:
    """Make a network and return it with the number of its outputs, or say which size it needs."""
    check_model(request.name)
    try:
        return _tried(request)
    except InputError:
        raise
    except Exception as error:  # each network fails in its own way on images it cannot take
        cause = error
    for size in _TRIED_SIZES:
        try:
            _tried(replace(request, image_size=size))
        except Exception:  # looking for a size that works
            continue
        images = f"{request.in_channels}x{request.image_size}x{request.image_size} images"
        raise InputError(f"{request.name} cannot take {images}; try --image-size {size}") from cause
    reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    raise InputError(
        f"{request.name} cannot take {request.in_channels}-channel images ({reason}); try another model"
    ) from cause


def _tried(request: Request) -> tuple[nn.Module, int]:
    """Make a model and pass two blank images through it, which leaves no trace in it."""
    model = _made(request)
    if request.drop_path and not any("DropPath" in type(module).__name__ for module in model.modules()):
        raise request.without("drop_path")
    training = model.training
    with no_grad():
        outputs = model.eval()(zeros(2, request.in_channels, request.image_size, request.image_size))
    if outputs.ndim != 2 or len(outputs) != 2 or not outputs.isfinite().all():
        raise ValueError(f"output of shape {tuple(outputs.shape)}")
    if request.num_outputs not in (0, outputs.shape[1]):
        raise ValueError(f"{outputs.shape[1]} outputs")
    return model.train(training), outputs.shape[1]


def _made(request: Request) -> nn.Module:
    if request.name.startswith("timm/"):
        return from_timm.any_timm(request)
    if request.name.startswith("wrn-"):
        return wide_resnet(request)
    return _MAKERS[request.name](request)
