"""U-Nets of diffusers, made from their description, with the initial weights of DDPM."""

from __future__ import annotations

from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from switch_ema.tasks.generation.unets import UNETS, check_size


class Denoiser(nn.Module):
    """A U-Net that tells from a noisy image what the noise is.

    Args:
        unet: diffusers' network.

    Attributes:
        unet: The same.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Map noisy images (n, channels, size, size) and their timesteps (n,) to predictions of the same shape."""
        predicted: Tensor = self.unet(noisy, timesteps, return_dict=False)[0]
        return predicted


def build_unet(name: str, channels: int, size: int, dropout: float | None = None) -> Denoiser:
    """Make a U-Net; its weights come from torch's global random generator.

    Convolutions and linear layers begin with Xavier's uniform weights and biases of zero; the last ones of every
    residual branch and of the whole network begin at zero, so an untrained network says zero.

    Args:
        name: One of `switch_ema.tasks.generation.unets.UNETS`.
        channels: Channels of the images, such as 1 or 3.
        size: Side of the square images in pixels.
        dropout: Rate of dropout in the residual blocks, 0 to below 1; None takes the network's own.

    Returns:
        The network.

    Raises:
        FieldError: The network cannot halve images of this size as often as it has to.

    Example:
        >>> from torch import zeros
        >>> build_unet("unet-small", channels=1, size=8)(zeros(2, 1, 8, 8), zeros(2).long()).shape
        torch.Size([2, 1, 8, 8])

    References:
        Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, arXiv:2006.11239, 2020 (appendix B).
        Song, Meng, Ermon: Denoising Diffusion Implicit Models, arXiv:2010.02502, 2020 (appendix D.1, CelebA).
    """
    check_size(name, size)
    shape = UNETS[name]
    attends = [level == shape.attention for level in range(len(shape.channels))]
    unet = UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=shape.channels,
        layers_per_block=shape.blocks,
        down_block_types=tuple("AttnDownBlock2D" if yes else "DownBlock2D" for yes in attends),
        up_block_types=tuple("AttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attends)),
        norm_num_groups=shape.groups,
        norm_eps=1e-6,
        attention_head_dim=None,  # one head
        dropout=shape.dropout if dropout is None else dropout,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
    )
    _initialise(unet)
    return Denoiser(unet)


def _initialise(unet: UNet2DModel) -> None:
    last: list[nn.Module] = [unet.conv_out]
    for module in unet.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, ResnetBlock2D):
            last.append(module.conv2)
        elif isinstance(module, Attention):
            last.append(module.to_out[0])
    for module in last:
        nn.init.zeros_(module.weight)  # type: ignore[arg-type]  # a tensor
