"""Networks of the timm library: as they are, and fitted to small images."""

from __future__ import annotations

from typing import Any

from torch import nn

from switch_ema.tasks.models.names import timm_name
from switch_ema.tasks.models.request import Request

_RATES = {"drop_path_rate": "drop_path", "drop_rate": "dropout"}
_OPTIONAL = ("img_size", *_RATES)
_NAMES = {
    "resnext50": "resnext50_32x4d",
    "convnext-t": "convnext_tiny",
    "convnext-s": "convnext_small",
    "deit-t": "deit_tiny_patch16_224",
    "deit-s": "deit_small_patch16_224",
    "vit-t": "vit_tiny_patch16_224",
    "vit-s": "vit_small_patch16_224",
    "swin-t": "swin_tiny_patch4_window7_224",
}


def any_timm(request: Request) -> nn.Module:
    """Make a model of timm for the size of the images; some have a fixed size, others take any."""
    return _create(timm_name(request.name), request, img_size=request.image_size)


def resnet(request: Request) -> nn.Module:
    """Make a ResNet or ResNeXt whose first layers keep the size: a 3x3 convolution with stride 1, no max-pooling.

    References:
        He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv:1512.03385, 2015.
    """
    model: Any = _create(_NAMES.get(request.name, request.name), request)
    model.conv1 = _stem(request.in_channels, mode="fan_out")
    model.maxpool = nn.Identity()
    return model  # type: ignore[no-any-return]


def densenet(request: Request) -> nn.Module:
    """Make a DenseNet whose first layers keep the size, as in `resnet`.

    References:
        Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks, arXiv:1608.06993, 2016.
    """
    model: Any = _create(request.name, request)
    model.features.conv0 = _stem(request.in_channels, mode="fan_in")
    model.features.pool0 = nn.Identity()
    return model  # type: ignore[no-any-return]


def _stem(in_channels: int, mode: Any) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode=mode, nonlinearity="relu")  # as timm does for the layer it replaces
    return conv


def convnext(request: Request) -> nn.Module:
    """Make a ConvNeXt with patches of one pixel, so that 32 pixels end as a map of 4x4.

    References:
        Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: A ConvNet for the 2020s, arXiv:2201.03545, 2022.
    """
    return _create(_NAMES[request.name], request, patch_size=1)


def vit(request: Request) -> nn.Module:
    """Make a ViT or DeiT (without distillation) with patches of `patch_size` pixels.

    References:
        Dosovitskiy et al.: An Image is Worth 16x16 Words, arXiv:2010.11929, 2020.
        Touvron et al.: Training data-efficient image transformers, arXiv:2012.12877, 2020.
    """
    size = request.image_size
    return _create(_NAMES[request.name], request, img_size=size, patch_size=patch_size(size))


def swin(request: Request) -> nn.Module:
    """Make a Swin with patches of 4 pixels from 64 pixels on, 2 from 16, 1 below, and windows of 7x7 or else 4x4.

    References:
        Liu et al.: Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, arXiv:2103.14030, 2021.
    """
    size = request.image_size
    patch = 4 if size >= 64 else 2 if size >= 16 else 1
    window = 7 if size // patch % 7 == 0 else 4
    return _create(_NAMES[request.name], request, img_size=size, patch_size=patch, window_size=window)


def mixer(request: Request) -> nn.Module:
    """Make an MLP-Mixer of size S with patches of `patch_size` pixels; dropout acts in its blocks.

    References:
        Tolstikhin et al.: MLP-Mixer: An all-MLP Architecture for Vision, arXiv:2105.01601, 2021 (table 1).
    """
    from timm.models.mlp_mixer import MlpMixer

    model: nn.Module = MlpMixer(  # not by create_model, which leaves its patch size at 16
        num_classes=request.num_outputs,
        img_size=request.image_size,
        in_chans=request.in_channels,
        patch_size=patch_size(request.image_size),
        num_blocks=8,
        embed_dim=512,
        proj_drop_rate=request.dropout,
        drop_path_rate=request.drop_path,
    )
    return model


def patch_size(image_size: int) -> int:
    """Return the side of the patches for ViT and MLP-Mixer: 16 from 128 pixels on, 8 from 64, 4 from 16, 2 below.

    Raises:
        ValueError: The patches do not fill the image.

    Example:
        >>> [patch_size(size) for size in (8, 28, 32, 96, 224)]
        [2, 4, 4, 8, 16]
    """
    patch = 16 if image_size >= 128 else 8 if image_size >= 64 else 4 if image_size >= 16 else 2
    if image_size % patch:
        raise ValueError(f"patches of {patch} pixels do not fill {image_size}")
    return patch


def _create(name: str, request: Request, **settings: Any) -> nn.Module:
    """Make a model of timm; of the size and the rates it is given those that it knows."""
    import timm

    settings = {"drop_path_rate": request.drop_path, "drop_rate": request.dropout, **settings}
    while True:
        try:
            model: nn.Module = timm.create_model(
                name, pretrained=False, num_classes=request.num_outputs, in_chans=request.in_channels, **settings
            )
        except TypeError as error:
            refused = next((key for key in _OPTIONAL if key in settings and f"'{key}'" in str(error)), None)
            if refused is None:
                raise
            if settings.pop(refused) and refused in _RATES:
                raise request.without(_RATES[refused]) from error
        else:
            return model
