"""Finding one's way about a backbone: its vision transformer, or the stages of its maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from switch_ema.errors import InputError
from switch_ema.tasks.selfsup.module import num_features

_Hook = Callable[[nn.Module, tuple[Any, ...], Any], None]


@dataclass(frozen=True)
class Stages:
    """Where the last stage of a backbone begins and ends.

    Attributes:
        entry: Name of the module that makes the maps as small as the final ones.
        exit: Name of the module that puts out the final maps, with as many channels as there are features.
        width: Channels of the maps that enter.
        cells: Side of the final maps.
        behind: Names of the modules that come after the final maps, such as a norm of pooled features.
    """

    entry: str
    exit: str
    width: int
    cells: int
    behind: tuple[str, ...]


@dataclass(frozen=True)
class _Pass:
    """A module that a tensor went through, with the sizes before and after."""

    name: str
    before: torch.Size
    after: torch.Size

    @property
    def of_maps(self) -> bool:
        return len(self.before) == len(self.after) == 4


def find_vit(backbone: nn.Module) -> tuple[str, Any] | None:
    """Return the vision transformer of timm in a backbone, which may be one, with the prefix of its modules' names."""
    for name, module in backbone.named_modules():
        if isinstance(module, VisionTransformer):
            return f"{name}." if name else "", module
    return None


def freeze_pooling(vit: Any) -> None:
    """Take the gradient from what a vision transformer does to pooled features: no loss upon patches sees it."""
    for module in (vit.fc_norm, vit.attn_pool):
        if module is not None:
            module.requires_grad_(False)


def find_stages(backbone: nn.Module, in_channels: int, image_size: int) -> Stages:
    """Find the last stage of a network of maps by passing a blank image through it, which leaves no trace.

    Args:
        backbone: Maps images (n, c, h, w) to features (n, d).
        in_channels: Channels of the images.
        image_size: Side of the images in pixels.

    Raises:
        InputError: The network makes no maps (n, d, h, w) with a side of at least 2 cells.

    Example:
        >>> conv, pool = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1)
        >>> backbone = nn.Sequential(conv, pool, nn.Flatten())
        >>> backbone.num_features = 8
        >>> find_stages(backbone, 3, 8)
        Stages(entry='0', exit='0', width=3, cells=4, behind=('1', '2'))
    """
    passes = _trace(backbone, torch.zeros(1, in_channels, image_size, image_size))
    width = num_features(backbone)
    finals = [index for index, p in enumerate(passes) if p.of_maps and p.after[1] == width and p.after[2] > 1]
    if finals:
        last = passes[finals[-1]]
        cells = last.after[2]
        smaller = [p for p in passes if p.of_maps and p.before[2] > p.after[2] == cells]
        if smaller:
            entry = min(smaller, key=lambda p: (p.before[2], p.name.count(".")))  # the outermost of the last step
            behind = tuple(p.name for p in passes[finals[-1] + 1 :] if not last.name.startswith(f"{p.name}."))
            if _num_parameters(backbone, behind) <= _num_parameters(backbone, [""]) / 2:  # or the maps are but a stem
                return Stages(entry.name, last.name, entry.before[1], cells, behind)
    raise InputError(
        f"a2mim finds no maps to restore images of {image_size}x{image_size} pixels from in this model; "
        "take a ResNet or a ViT, or a larger --image-size"
    )


def _num_parameters(network: nn.Module, names: Iterable[str]) -> int:
    parameters = {id(p): p.numel() for name in names for p in network.get_submodule(name).parameters()}
    return sum(parameters.values())


def _trace(network: nn.Module, images: Tensor) -> list[_Pass]:
    """List the modules in the order in which they finish."""
    passes: list[_Pass] = []

    def note(name: str) -> _Hook:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                passes.append(_Pass(name, inputs[0].shape, output.shape))

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad():
            network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    return passes
