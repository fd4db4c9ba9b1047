"""Small backbones and methods upon them, for quick tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from switch_ema.tasks.selfsup.a2mim import A2MIM
from switch_ema.tasks.selfsup.contrastive import MoCoV2, MoCoV3, SimCLR
from switch_ema.tasks.selfsup.masked import MAE, SimMIM
from switch_ema.tasks.selfsup.masks import draw_masks
from switch_ema.tasks.selfsup.module import MomentumMethod, SelfSupervised
from switch_ema.tasks.selfsup.siamese import BYOL, BarlowTwins, SimSiam


class Conv(nn.Sequential):
    """Two convolutions with BatchNorm: images (n, 1, 8, 8) to maps of 2x2, pooled to 8 features."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(nn.Conv2d(1, 4, 3, 2, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
            nn.Sequential(nn.Conv2d(4, 8, 3, 2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class Given(nn.Module):
    """A backbone that hands on what it is given: the features are the images."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, images: Tensor) -> Tensor:
        return images


def vit(pool: Literal["token", "avg"] = "token") -> VisionTransformer:
    """Images of 8x8 in patches of 2x2, two blocks."""
    return VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, num_classes=0, embed_dim=32, depth=2, num_heads=2, global_pool=pool
    )


JOINT: Mapping[str, Callable[[], SelfSupervised]] = {
    "simclr": lambda: SimCLR(Conv(), hidden=16, dim=8),
    "moco-v2": lambda: MoCoV2(Conv(), hidden=16, dim=8, queue_size=48),
    "moco-v3": lambda: MoCoV3(Conv(), hidden=16, dim=8),
    "byol": lambda: BYOL(Conv(), hidden=16, dim=8),
    "simsiam": lambda: SimSiam(Conv(), hidden=16, dim=8),
    "barlow-twins": lambda: BarlowTwins(Conv(), hidden=16, dim=8),
}
MASKED: Mapping[str, Callable[[], SelfSupervised]] = {
    "mae": lambda: MAE(vit(), 1, decoder_dim=32, decoder_depth=1),
    "mae-mean": lambda: MAE(vit("avg"), 1, decoder_dim=32, decoder_depth=1),
    "simmim": lambda: SimMIM(vit(), 1),
    "a2mim-vit": lambda: A2MIM(vit(), 1, 8),
    "a2mim-conv": lambda: A2MIM(Conv(), 1, 8),
}
METHODS = {**JOINT, **MASKED}
MOMENTUM = ("moco-v2", "moco-v3", "byol")


def make(name: str, seed: int = 0) -> SelfSupervised:
    torch.manual_seed(seed)
    return METHODS[name]()


def make_momentum(name: str, seed: int = 0) -> MomentumMethod:
    method = make(name, seed)
    assert isinstance(method, MomentumMethod)
    return method


def batch(name: str, count: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two noisy views of smooth images, or the images and masks of three patches in four."""
    generator = torch.Generator().manual_seed(seed)
    smooth = nn.functional.interpolate(torch.randn(count, 1, 2, 2, generator=generator), (8, 8), mode="bilinear")
    if name in MASKED:
        return smooth, draw_masks(count, 4, 0.75, generator)
    first, second = (smooth + 0.1 * torch.randn(smooth.shape, generator=generator) for _ in range(2))
    return first, second


def train(method: SelfSupervised, name: str, steps: int, first: int = 0, rate: float = 3e-3) -> list[float]:
    """Train with fresh batches and return the losses."""
    optimizer = torch.optim.SGD(method.online.parameters(), rate)  # without a state, so that runs can be cut
    losses = []
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss = method(*batch(name, seed=step))
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / 100)
        losses.append(loss.item())
    return losses
