"""Methods that restore hidden patches of an image with a vision transformer: MAE and SimMIM."""

from __future__ import annotations

import torch
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.models.utils import patchify, set_at_index
from torch import Tensor, nn

from switch_ema.errors import InputError
from switch_ema.tasks.selfsup.masks import num_masked, to_size
from switch_ema.tasks.selfsup.module import SelfSupervised
from switch_ema.tasks.selfsup.stages import find_vit, freeze_pooling


class MaskedViT(nn.Module):
    """A vision transformer that sees masked images, with what restores them upon it.

    Args:
        backbone: A `VisionTransformer` of timm, or a module that only passes images on to one. Its weights are
            initialised anew and its positions become fixed sine-cosine ones, as MAE has it.

    Raises:
        InputError: The backbone is another network.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        found = find_vit(backbone)
        if found is None:
            raise InputError("methods mae and simmim need a vision transformer; write --model vit-t, or --method a2mim")
        _, vit = found
        freeze_pooling(vit)
        self.encoder = MaskedVisionTransformerTIMM(vit)
        self.patch = int(vit.patch_embed.patch_size[0])
        self.num_prefix_tokens = int(vit.num_prefix_tokens)

    @property
    def backbone(self) -> nn.Module:
        """The vision transformer."""
        vit: nn.Module = self.encoder.vit
        return vit

    def token_masks(self, masks: Tensor) -> Tensor:
        """Map masks (n, grid, grid) to those of all tokens, bool (n, prefix + patches); class tokens stay visible."""
        grid = self.encoder.vit.patch_embed.grid_size
        hidden = to_size(masks, *grid).flatten(1) > 0
        return torch.cat([hidden.new_zeros(len(hidden), self.num_prefix_tokens), hidden], dim=1)


class MaskedAutoencoder(MaskedViT):
    """Encoder of the visible patches, decoder of all.

    Args:
        backbone: As for `MaskedViT`.
        in_channels: Channels of the images.
        mask_ratio: The share of patches that the masks hide.
        decoder_dim: Width of the decoder, a multiple of 32.
        decoder_depth: Blocks of the decoder.
    """

    def __init__(
        self, backbone: nn.Module, in_channels: int, mask_ratio: float, decoder_dim: int, decoder_depth: int
    ) -> None:
        super().__init__(backbone)
        self.encoder.mask_token.requires_grad_(False)  # the encoder sees no hidden patch
        self.mask_ratio = mask_ratio
        patches = self.encoder.vit.patch_embed.num_patches
        self.embed = nn.Linear(self.encoder.vit.embed_dim, decoder_dim)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            patches, decoder_dim, decoder_depth, max(1, decoder_dim // 32), self.num_prefix_tokens
        )
        self.predict = nn.Linear(decoder_dim, self.patch**2 * in_channels)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Map images (n, c, h, w) and masks (n, grid, grid) to the pixels of all patches (n, patches, patch^2 c)."""
        hidden = self.token_masks(masks)
        per_cell = (hidden.shape[1] - self.num_prefix_tokens) // masks[0].numel()
        num_hidden = num_masked(masks[0].numel(), self.mask_ratio) * per_cell
        order = hidden.int().argsort(dim=1, stable=True)
        visible = order[:, : hidden.shape[1] - num_hidden]
        encoded = self.embed(self.encoder.encode(images, idx_keep=visible))
        everywhere = encoded.new_zeros(*hidden.shape, encoded.shape[2])
        tokens = self.decoder(set_at_index(everywhere, visible, encoded), mask=hidden)
        pixels: Tensor = self.predict(tokens[:, self.num_prefix_tokens :])
        return pixels


class MAE(SelfSupervised):
    """Encode the visible patches alone and restore the hidden ones by a small decoder.

    With pixels x of a patch (standardised by its own mean and variance if `norm_pix`) and restored ones y,

        L = mean over hidden patches and their pixels of (y - x)^2

    Args:
        backbone: As for `MaskedViT`.
        in_channels: Channels of the images.
        mask_ratio: The share of patches that the masks hide, as they were drawn (see `draw_masks`).
        decoder_dim: Width of the decoder, a multiple of 32.
        decoder_depth: Blocks of the decoder.
        norm_pix: Whether the pixels of each patch are standardised.

    Raises:
        InputError: The backbone is no vision transformer.

    References:
        He, Chen, Xie, Li, Dollár, Girshick: Masked Autoencoders Are Scalable Vision Learners, arXiv:2111.06377, 2021.
    """

    online: MaskedAutoencoder

    def __init__(
        self,
        backbone: nn.Module,
        in_channels: int,
        *,
        mask_ratio: float = 0.75,
        decoder_dim: int = 192,
        decoder_depth: int = 6,
        norm_pix: bool = True,
    ) -> None:
        super().__init__()
        self.norm_pix = norm_pix
        self.online = MaskedAutoencoder(backbone, in_channels, mask_ratio, decoder_dim, decoder_depth)

    @property
    def backbone(self) -> nn.Module:
        """The vision transformer."""
        return self.online.backbone

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of images (n, c, h, w) and masks, bool (n, grid, grid), true where hidden."""
        pixels = patchify(images, self.online.patch)
        if self.norm_pix:
            pixels = (pixels - pixels.mean(2, keepdim=True)) / (pixels.var(2, keepdim=True) + 1e-6).sqrt()
        hidden = self.online.token_masks(masks)[:, self.online.num_prefix_tokens :]
        errors = (self.online(images, masks) - pixels).square().mean(2)
        loss: Tensor = (errors * hidden).sum() / hidden.sum()
        return loss


class MaskedImageModel(MaskedViT):
    """Encoder of all tokens, a learnt one in place of each hidden patch, and one layer that restores the pixels.

    Args:
        backbone: As for `MaskedViT`.
        in_channels: Channels of the images.
    """

    def __init__(self, backbone: nn.Module, in_channels: int) -> None:
        super().__init__(backbone)
        nn.init.trunc_normal_(self.encoder.mask_token, std=0.02)
        self.predict = nn.Linear(self.encoder.vit.embed_dim, self.patch**2 * in_channels)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Map images (n, c, h, w) and masks (n, grid, grid) to the pixels of all patches (n, patches, patch^2 c)."""
        tokens = self.encoder.encode(images, mask=self.token_masks(masks))
        pixels: Tensor = self.predict(tokens[:, self.num_prefix_tokens :])
        return pixels


class SimMIM(SelfSupervised):
    """Put a learnt token in place of each hidden patch and restore its pixels by one linear layer.

    With pixels x and restored ones y,

        L = mean over hidden pixels of |y - x|

    Args:
        backbone: As for `MaskedViT`.
        in_channels: Channels of the images.

    Raises:
        InputError: The backbone is no vision transformer.

    References:
        Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu: SimMIM: A Simple Framework for Masked Image Modeling,
        arXiv:2111.09886, 2021.
    """

    online: MaskedImageModel

    def __init__(self, backbone: nn.Module, in_channels: int) -> None:
        super().__init__()
        self.online = MaskedImageModel(backbone, in_channels)

    @property
    def backbone(self) -> nn.Module:
        """The vision transformer."""
        return self.online.backbone

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of images (n, c, h, w) and masks, bool (n, grid, grid), true where hidden."""
        pixels = patchify(images, self.online.patch)
        hidden = self.online.token_masks(masks)[:, self.online.num_prefix_tokens :]
        errors = (self.online(images, masks) - pixels).abs().mean(2)
        loss: Tensor = (errors * hidden).sum() / hidden.sum()
        return loss
