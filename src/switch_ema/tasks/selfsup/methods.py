"""The methods by name, with heads that fit the backbone, and their views."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.tasks.augment.base import Augmentation, Chain, Draws, cut
from switch_ema.tasks.augment.crop import ResizedCrop
from switch_ema.tasks.augment.views import byol_views, moco_v2_view, simclr_view
from switch_ema.tasks.selfsup.a2mim import A2MIM
from switch_ema.tasks.selfsup.contrastive import MoCoV2, MoCoV3, SimCLR
from switch_ema.tasks.selfsup.masked import MAE, SimMIM
from switch_ema.tasks.selfsup.masks import check_patch, draw_masks, mask_patch
from switch_ema.tasks.selfsup.module import SelfSupervised, num_features
from switch_ema.tasks.selfsup.siamese import BYOL, BarlowTwins, SimSiam
from switch_ema.tasks.selfsup.stages import find_vit

_JOINT: Mapping[str, tuple[Callable[..., SelfSupervised], int, int]] = {
    "simclr": (SimCLR, 2048, 128),
    "moco-v2": (MoCoV2, 2048, 128),
    "moco-v3": (MoCoV3, 4096, 256),
    "byol": (BYOL, 4096, 256),
    "simsiam": (SimSiam, 2048, 2048),
    "barlow-twins": (BarlowTwins, 8192, 8192),
}
"""Methods of two views: the class, and the papers' widths of heads and embeddings."""

_WIDEST = 16  # times the features: the papers' heads upon 512 features or more, smaller ones upon a small network
_MASK_RATIO = {"mae": 0.75, "simmim": 0.6, "a2mim": 0.6}
_CROP_SCALE = {"mae": 0.2, "simmim": 0.67, "a2mim": 0.8}
_RENAMED = {"target_momentum": "momentum", "hidden_dim": "hidden", "projection_dim": "dim"}
_KEYWORDS = (
    *("temperature", "target_momentum", "queue_size", "hidden_dim", "projection_dim"),
    *("decoder_dim", "decoder_depth", "norm_pix", "frequency_weight"),
)
_FEWEST_PIXELS = 16  # of an image that a view shows
_BLUR_FROM = 64  # pixels; SimCLR leaves the blur out for CIFAR and halves the change of colours


def build(
    method: str, backbone: nn.Module, in_channels: int, image_size: int, num_train: int, options: Mapping[str, Any]
) -> SelfSupervised:
    """Make a method upon a backbone.

    Args:
        method: One of `switch_ema.tasks.selfsup.options.METHODS`.
        backbone: Maps images (n, c, h, w) to features (n, d); has `num_features`.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels.
        num_train: Number of training images: a queue is not longer.
        options: Options by name, those that were given.

    Raises:
        InputError: The method cannot be made upon this backbone.
    """
    given = {_RENAMED.get(name, name): options[name] for name in _KEYWORDS if name in options}
    if method in _JOINT:
        make, hidden, dim = _JOINT[method]
        most = _WIDEST * num_features(backbone)
        widths = {"hidden": min(hidden, most), "dim": min(dim, most)}
        if method == "moco-v2":
            widths["queue_size"] = min(65536, num_train)
        if method == "moco-v3":
            widths["projector_layers"] = 3 if find_vit(backbone) else 2
        return make(backbone, **{**widths, **given})
    if method == "mae":
        return MAE(backbone, in_channels, mask_ratio=options.get("mask_ratio", _MASK_RATIO[method]), **given)
    if method == "simmim":
        return SimMIM(backbone, in_channels)
    return A2MIM(backbone, in_channels, image_size, **given)


@dataclass(frozen=True)
class Views:
    """What a method is shown of images: two views, or one and which of its patches are hidden.

    Attributes:
        chains: An augmentation for each view, from bytes (n, h, w, c) to floats (n, c, h, w) in [0, 1].
        grid: Patches on a side, of which some are hidden; 0 for none.
        mask_ratio: Share of the patches that are hidden.
    """

    chains: tuple[Augmentation, ...]
    grid: int = 0
    mask_ratio: float = 0.0

    def draw(self, count: int, generator: torch.Generator) -> tuple[Draws, ...]:
        """Draw all random numbers for `count` images from a generator on the CPU: for each view, then the masks."""
        draws = tuple(chain.draw(count, generator) for chain in self.chains)
        return (*draws, (draw_masks(count, self.grid, self.mask_ratio, generator),)) if self.grid else draws

    def __call__(
        self, images: Tensor, draws: tuple[Draws, ...], where: slice, normalised: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, ...]:
        """Make what `forward` of the method takes.

        Args:
            images: Bytes (n, h, w, c).
            draws: What `draw` returned.
            where: Which of the draws belong to the images.
            normalised: Maps floats (n, c, h, w) in [0, 1] to normalised ones.
        """
        mine = [cut(numbers, where, images.device) for numbers in draws]
        made = tuple(normalised(chain(images, d)) for chain, d in zip(self.chains, mine, strict=False))
        return (*made, mine[-1][0]) if self.grid else made


def views(method: str, backbone: nn.Module, in_channels: int, image_size: int, options: Mapping[str, Any]) -> Views:
    """Make the views of a method: those of its paper, but grey images are not mirrored (digits would change).

    Views show at least 4x4 pixels of an image, whatever share the paper has.

    Args:
        method: One of `switch_ema.tasks.selfsup.options.METHODS`.
        backbone: The network, for the size of its patches.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels.
        options: Options by name, those that were given.

    Raises:
        InputError: The patches to hide do not tile the image.
    """
    flip, scale = in_channels > 1, options.get("crop_scale")
    if method in _JOINT:
        return Views(tuple(_cropped(chain, flip, scale) for chain in _two_views(method, image_size)))
    shown = ResizedCrop(image_size, (_CROP_SCALE[method], 1.0), interpolation="bicubic")
    chain = _cropped(Chain((shown,)), flip, scale)
    found = find_vit(backbone)
    own = int(found[1].patch_embed.patch_size[0]) if found else 1
    patch = options.get("mask_patch") or (own if method == "mae" else mask_patch(image_size, own))
    check_patch(image_size, patch, own)
    return Views((chain,), image_size // patch, options.get("mask_ratio", _MASK_RATIO[method]))


def _two_views(method: str, size: int) -> tuple[Chain, Chain]:
    if method == "simclr":
        large = size >= _BLUR_FROM
        view = simclr_view(size, strength=1.0 if large else 0.5, blur=large)
        return view, view
    if method in ("moco-v2", "simsiam"):
        return moco_v2_view(size), moco_v2_view(size)
    return byol_views(size)


def _cropped(chain: Chain, flip: bool, scale: float | None) -> Chain:
    """Return a chain whose crop mirrors or not, and shows at least this share."""
    crop = chain.steps[0]
    if isinstance(crop, ResizedCrop):
        least = scale or min(1.0, max(crop.scale[0], _FEWEST_PIXELS / crop.size**2))
        crop = replace(crop, flip=crop.flip and flip, scale=(least, 1.0))
    return Chain((crop, *chain.steps[1:]))
