"""The U-Nets are those of the papers, begin by saying zero, and take what they can halve."""

from __future__ import annotations

import re

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from switch_ema.errors import FieldError
from switch_ema.tasks.generation.networks import build_unet
from switch_ema.tasks.generation.unets import UNETS

# 35.7 M: Ho et al. 2020, appendix B; 78.7 M: what DDIM's configuration for CelebA comes to
COUNTS = {"unet-small": (1, 8, 649_329), "unet-cifar10": (3, 32, 35_746_307), "unet-celeba64": (3, 64, 78_700_803)}


@pytest.mark.parametrize("name", UNETS)
def test_sizes(name: str) -> None:
    channels, size, want = COUNTS[name]
    with torch.device("meta"):
        model = build_unet(name, channels, size)
    assert sum(parameter.numel() for parameter in model.parameters()) == want
    levels = {
        part.split(".")[2] for part, _ in model.named_modules() if re.match(r"unet.down_blocks.*attentions", part)
    }
    assert levels == {str(UNETS[name].attention)}
    rates = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    assert UNETS[name].dropout in rates
    assert all(len(attention.to_out) and attention.heads == 1 for attention in attentions(model))


def attentions(model: nn.Module) -> list[Attention]:
    return [module for module in model.modules() if isinstance(module, Attention)]


def test_an_untrained_network_says_zero_and_every_weight_learns() -> None:
    torch.manual_seed(0)
    model = build_unet("unet-small", 3, 8)
    images, timesteps = torch.randn(4, 3, 8, 8), torch.tensor([0, 10, 500, 999])
    assert not model(images, timesteps).any()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):  # the last layers begin at zero, and let gradients through when they have moved
        optimizer.zero_grad()
        (model(images, timesteps) - images).square().mean().backward()
        optimizer.step()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in idle if "to_k.bias" not in name] == []  # softmax does not see a shift of all keys
    assert model(images, timesteps)[0].ne(model(images, timesteps.flip(0))[0]).any()


def test_dropout() -> None:
    with torch.device("meta"):
        model = build_unet("unet-cifar10", 3, 32, dropout=0.3)
    assert {m.p for n, m in model.named_modules() if isinstance(m, nn.Dropout) and "resnets" in n} == {0.3}


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("unet-cifar10", 28, "halves the side 3 times; write 24 or 32"),
        ("unet-celeba64", 8, "halves the side 4 times; write 16"),
        ("unet-small", 30, "halves the side 2 times; write 28 or 32"),
    ],
)
def test_sizes_that_cannot_be_halved_are_refused(name: str, size: int, words: str) -> None:
    with pytest.raises(FieldError, match=f"image_size {size}: {name} {words}"):
        build_unet(name, 1, size)
