"""Networks that turn images into feature maps, and the feature pyramid on top of them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from torch import nn
from torchvision.models import resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock
from torchvision.ops.misc import FrozenBatchNorm2d

from switch_ema.tasks.detection.models.precision import single
from switch_ema.tasks.detection.models.weights import load_weights
from switch_ema.tasks.models.plain import ResidualBlock

_FROZEN = ("conv1.", "bn1.", "layer1.")


@dataclass(frozen=True)
class Trunk:
    """A network whose children ``layer1``, ``layer2``, ... give feature maps.

    Attributes:
        network: Its children, called one after another, map images (n, 3, h, w) to feature maps.
        channels: Channels of ``layer1``, ``layer2``, ...; the strides are 4, 8, ... pixels.
    """

    network: nn.Module
    channels: tuple[int, ...]

    def maps(self, first: int) -> nn.Module:
        """Return a module that maps images to an ordered dict of the maps of layers `first`, `first` + 1, ..."""
        maps: nn.Module = IntermediateLayerGetter(self.network, self._names(first))
        return maps

    def pyramid(self, first: int, channels: int, top: ExtraFPNBlock | None = None) -> Any:
        """Return a feature pyramid upon layers `first`, `first` + 1, ...

        Args:
            first: Number of the lowest layer, from 1.
            channels: Channels of each level.
            top: What adds coarser levels; none adds one, every other place of the coarsest.

        Returns:
            A module that maps images to a dict of maps, in single precision, with an attribute `out_channels`.

        References:
            Lin, Dollár, Girshick, He, Hariharan, Belongie: Feature Pyramid Networks for Object Detection,
            arXiv:1612.03144, 2016.
        """
        channels_in = list(self.channels[first - 1 :])
        return single(BackboneWithFPN(self.network, self._names(first), channels_in, channels, top))

    def _names(self, first: int) -> dict[str, str]:
        return {f"layer{first + place}": str(place) for place in range(len(self.channels) - first + 1)}


def make_trunk(backbone: str, weights: str | None = None, frozen_stages: bool = False) -> Trunk:
    """Make a backbone.

    Args:
        backbone: One of `switch_ema.tasks.detection.models.names.BACKBONES`.
        weights: Path of a torchvision-style state_dict for a ResNet; its BatchNorm is then frozen, as is usual with the
            few images of a batch in detection.
        frozen_stages: Whether the stem and the first stage keep these weights.

    Raises:
        InputError: The file of weights does not fit.
    """
    if backbone == "small":
        return _small()
    norm = nn.BatchNorm2d if weights is None else FrozenBatchNorm2d
    network: nn.Module = getattr(resnet, backbone)(weights=None, norm_layer=norm)
    if weights is not None:
        load_weights(network, weights, backbone)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not (frozen_stages and name.startswith(_FROZEN)))
    width = 64 if backbone == "resnet18" else 256
    return Trunk(network, (width, 2 * width, 4 * width, 8 * width))


def _small() -> Trunk:
    stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
    layers = {
        "stem": stem,
        "layer1": ResidualBlock(24, 32, stride=2),
        "layer2": ResidualBlock(32, 64, stride=2),
        "layer3": ResidualBlock(64, 128, stride=2),
    }
    return Trunk(nn.Sequential(OrderedDict(layers)), (32, 64, 128))
