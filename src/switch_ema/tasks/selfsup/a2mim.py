"""A2MIM: masked image modeling for any network, convolutional ones too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.errors import InputError
from switch_ema.tasks.selfsup.masks import to_size
from switch_ema.tasks.selfsup.module import SelfSupervised, num_features
from switch_ema.tasks.selfsup.stages import Stages, find_stages, find_vit, freeze_pooling


class Restorer(nn.Module):
    """A backbone that is told of hidden patches on the way by a learnt token, and one layer that restores the pixels.

    The token is added to the features of hidden patches: in a ViT to the embedded patches, in another network to the
    maps that enter its last stage, the one that brings them to their final size.

    Args:
        backbone: Maps images (n, c, h, w) to features (n, d); a ViT of timm, or a network of maps.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels.

    Raises:
        InputError: The backbone has no maps to restore images from.
    """

    def __init__(self, backbone: nn.Module, in_channels: int, image_size: int) -> None:
        super().__init__()
        self.backbone = backbone
        found = find_vit(backbone)
        if found is not None:
            name, vit = found
            freeze_pooling(vit)
            self.prefix = int(vit.num_prefix_tokens)
            stages = Stages(f"{name}blocks", f"{name}norm", vit.embed_dim, int(vit.patch_embed.grid_size[0]), ())
        else:
            stages = find_stages(backbone, in_channels, image_size)
            for parameters in stages.behind:
                backbone.get_submodule(parameters).requires_grad_(False)
        self.entry, self.exit, self.cells = stages.entry, stages.exit, stages.cells
        stride = image_size // self.cells
        if stride * self.cells != image_size:
            raise InputError(f"a2mim: the model's maps do not tile images of {image_size} pixels; try --image-size 32")
        self.token = nn.Parameter(torch.zeros(stages.width))
        nn.init.trunc_normal_(self.token, std=0.02)
        self.predict = nn.Sequential(
            nn.Conv2d(num_features(backbone), stride**2 * in_channels, 1), nn.PixelShuffle(stride)
        )

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Map filled images (n, c, h, w) and masks (n, grid, grid) to restored images (n, c, h, w)."""
        with self._telling(masks) as maps:
            self.backbone(images)
        pixels: Tensor = self.predict(self._as_map(maps[0]))
        return pixels

    @contextmanager
    def _telling(self, masks: Tensor) -> Iterator[list[Tensor]]:
        """Add the token on the way of the block's forward pass, and collect the final maps."""
        maps: list[Tensor] = []

        def tell(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs[0] + self._token_at(masks, inputs[0]), *inputs[1:])

        def collect(module: nn.Module, inputs: Any, output: Tensor) -> None:
            maps.append(output)

        hooks = [
            self.backbone.get_submodule(self.entry).register_forward_pre_hook(tell),
            self.backbone.get_submodule(self.exit).register_forward_hook(collect),
        ]
        try:
            yield maps
        finally:
            for hook in hooks:
                hook.remove()

    def _token_at(self, masks: Tensor, x: Tensor) -> Tensor:
        if x.ndim == 4:
            at: Tensor = self.token[:, None, None] * to_size(masks, *x.shape[2:])
        else:
            shares = to_size(masks, self.cells, self.cells).flatten(1)[..., None]
            at = self.token * torch.cat([shares.new_zeros(len(x), self.prefix, 1), shares], dim=1)
        return at.to(x.dtype)

    def _as_map(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            return x
        return x[:, self.prefix :].transpose(1, 2).reshape(len(x), -1, self.cells, self.cells)


class A2MIM(SelfSupervised):
    """Hide patches under the mean colour, tell the network of them half-way, restore them in space and frequency.

    With the image x, the restored one y, the mask M, y' = M y + (1 - M) sg(y) (sg: no gradient) and F the orthonormal
    discrete Fourier transform of a channel,

        L = mean over hidden pixels of |y - x|  +  weight * mean_uv w(u, v) |F(y')(u, v) - F(x)(u, v)|^2
        w = |F(y') - F(x)| / max |F(y') - F(x)|, of each image and channel, without gradient

    The second term is the focal frequency loss. The authors' code has variants of it (spectra averaged over the batch,
    a logarithm in w); this is the loss as its own paper defines it.

    Args:
        backbone: Maps images to features (n, d); has `num_features`; a ViT of timm, or a network of maps.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels.
        frequency_weight: Weight of the second term, at least 0.

    Raises:
        InputError: The backbone has no maps to restore images from.

    References:
        Li et al.: Architecture-Agnostic Masked Image Modeling, arXiv:2205.13943, 2022.
        Jiang, Dai, Wu, Loy: Focal Frequency Loss for Image Reconstruction and Synthesis, arXiv:2012.12821, 2020.
    """

    online: Restorer

    def __init__(
        self, backbone: nn.Module, in_channels: int, image_size: int, *, frequency_weight: float = 0.1
    ) -> None:
        super().__init__()
        self.frequency_weight = frequency_weight
        self.online = Restorer(backbone, in_channels, image_size)

    @property
    def backbone(self) -> nn.Module:
        """The network that restores."""
        return self.online.backbone

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of images (n, c, h, w) and masks, bool (n, grid, grid), true where hidden."""
        hidden = to_size(masks, *images.shape[2:]).to(images.dtype)
        filled = torch.where(hidden > 0, images.mean((2, 3), keepdim=True), images)
        restored: Tensor = self.online(filled, masks).float()
        spatial = ((restored - images).abs() * hidden).sum() / (hidden.sum() * images.shape[1])
        mixed = restored * hidden + restored.detach() * (1 - hidden)
        return spatial + self.frequency_weight * focal_frequency_loss(mixed, images)


def focal_frequency_loss(restored: Tensor, images: Tensor) -> Tensor:
    """Return `mean w |F(y) - F(x)|^2` with `w = |F(y) - F(x)| / max |F(y) - F(x)|` of each image and channel.

    Args:
        restored: Images y (n, c, h, w).
        images: Images x of the same shape.

    Returns:
        A scalar; no gradient passes w.
    """
    squared = torch.view_as_real(torch.fft.fft2((restored - images).float(), norm="ortho")).square().sum(-1)
    weights = squared.detach().sqrt()
    weights = weights / weights.amax((2, 3), keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    loss: Tensor = (weights * squared).mean()
    return loss
