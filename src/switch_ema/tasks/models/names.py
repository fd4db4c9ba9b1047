"""The names of networks, checked without importing torch: the standard library suffices."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from switch_ema.errors import InputError, unknown

MODELS: Mapping[str, str] = {
    "small-resnet": "three residual blocks of 16, 32 and 64 channels, BatchNorm",
    "mlp": "two hidden layers of 256 units, no normalisation",
    "resnet18": "ResNet-18 for small images: 3x3 stem with stride 1, no max-pooling",
    "resnet34": "ResNet-34 for small images",
    "resnet50": "ResNet-50 for small images",
    "resnet101": "ResNet-101 for small images",
    "resnext50": "ResNeXt-50 (32x4d) for small images",
    "wrn-D-K": "Wide ResNet of depth D = 6n + 4 and width K, such as wrn-28-10",
    "densenet121": "DenseNet-121 for small images: 3x3 stem with stride 1, no max-pooling",
    "vgg16": "VGG-16 without BatchNorm, classifier of two hidden layers of 512 units with dropout 0.5",
    "convnext-t": "ConvNeXt-T for small images: 1x1 stem",
    "convnext-s": "ConvNeXt-S for small images: 1x1 stem",
    "deit-t": "DeiT-T, patches of 16 pixels from a side of 128, 8 from 64, 4 from 16, 2 below",
    "deit-s": "DeiT-S, patches as deit-t",
    "vit-t": "ViT-T, patches as deit-t",
    "vit-s": "ViT-S, patches as deit-t",
    "swin-t": "Swin-T, patches of 4 pixels from a side of 64, 2 from 16, 1 below",
    "mixer-s": "MLP-Mixer-S, patches as deit-t",
    "timm/NAME": "any model of the timm library, untrained; at 224 pixels write timm/resnet50",
}
"""All networks by name; ``wrn-D-K`` and ``timm/NAME`` stand for families."""


def check_model(model: str, models: Mapping[str, str] = MODELS) -> None:
    """Check the name of a model.

    Args:
        model: The name.
        models: The accepted ones, as in `MODELS`.

    Raises:
        InputError: There is no such model, or it needs timm and timm is not installed.
    """
    if model.startswith("timm/") and "timm/NAME" in models:
        names = timm_names()
        if timm_name(model) not in names:
            raise unknown("model", model, sorted(f"timm/{name}" for name in names), hint="an example is timm/resnet18")
    elif model.startswith("wrn-") and "wrn-D-K" in models:
        wide_resnet_shape(model)
    elif model not in models:
        if "timm/NAME" in models and timm_name(model) in _timm_names_if_any():
            raise InputError(f"unknown model {model!r}; it is one of timm's: write timm/{model}")
        raise unknown("model", model, models)


def wide_resnet_shape(model: str) -> tuple[int, int]:
    """Return blocks for each of the three groups, and width, of a Wide ResNet.

    Args:
        model: The name ``wrn-D-K``: depth D = 6n + 4 for n blocks, width K, both at least 1.

    Raises:
        InputError: The name is malformed.

    Example:
        >>> wide_resnet_shape("wrn-28-10")
        (4, 10)
    """
    match = re.fullmatch(r"wrn-(\d{1,4})-(\d{1,4})", model, re.ASCII)
    depth, width = (int(match[1]), int(match[2])) if match else (0, 0)
    if width < 1 or depth < 10 or depth % 6 != 4:
        raise InputError(f"unknown model {model!r}; write wrn-D-K with depth D = 6n + 4, such as wrn-16-4 or wrn-28-10")
    return (depth - 4) // 6, width


def timm_name(model: str) -> str:
    """Return NAME of ``timm/NAME`` or ``timm/NAME.TAG``: the tag chooses pretrained weights, which are not used."""
    return model.removeprefix("timm/").split(".")[0]


def timm_names() -> frozenset[str]:
    """List the models of the installed timm, without the seconds that its import takes.

    Raises:
        InputError: timm is not installed.
    """
    names = _timm_names_if_any()
    if not names:
        raise InputError(
            'models named timm/NAME need timm, which is not installed; run: pip install "switch-ema[bench]"'
        )
    return names


@cache
def _timm_names_if_any() -> frozenset[str]:
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    sources = Path(spec.submodule_search_locations[0], "models").rglob("*.py")
    pattern = re.compile(r"^@register_model\s*\ndef (\w+)", re.MULTILINE)
    return frozenset(name for source in sources for name in pattern.findall(source.read_text(encoding="utf-8")))
