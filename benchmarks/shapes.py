"""The models whose tensors are averaged: real shapes, no weights to download."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision
from torch import nn


class GPT2Shapes(nn.Module):
    """The 124,439,808 parameters of GPT-2 small, the embedding tied to the output layer; for averaging, not to run.

    References:
        Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    """

    def __init__(self, vocabulary: int = 50257, context: int = 1024, width: int = 768, depth: int = 12) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(context, width)
        self.h = nn.ModuleList(_block(width) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight


def _block(width: int) -> nn.Module:
    return nn.ModuleDict(
        {
            "ln_1": nn.LayerNorm(width),
            "c_attn": nn.Linear(width, 3 * width),
            "attn_c_proj": nn.Linear(width, width),
            "ln_2": nn.LayerNorm(width),
            "c_fc": nn.Linear(width, 4 * width),
            "mlp_c_proj": nn.Linear(4 * width, width),
        }
    )


def many_small(pairs: int = 100) -> nn.Module:
    """Return an MLP of many small tensors (400: weights of 1,024 elements, biases of 16 and 64)."""
    return nn.Sequential(*(layer for _ in range(pairs) for layer in (nn.Linear(16, 64), nn.Linear(64, 16))))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50": lambda: torchvision.models.resnet50(weights=None),
    "ViT-B/16": lambda: torchvision.models.vit_b_16(weights=None),
    "GPT-2 small": GPT2Shapes,
    "400 small": many_small,
}
LARGE = ("ResNet-50", "ViT-B/16", "GPT-2 small")
DTYPES = {"float32": torch.float32, "mixed": torch.bfloat16}
"""Weights in float32, or in bfloat16 with averages in float32."""


def build(name: str, dtype: str, device: torch.device) -> nn.Module:
    """Return a model of `MODELS` with random weights in a type of `DTYPES`."""
    torch.manual_seed(0)
    return MODELS[name]().to(device=device, dtype=DTYPES[dtype])


def is_tied(model: nn.Module) -> bool:
    """Return whether a parameter has two names."""
    names = sum(1 for _ in model.named_parameters(remove_duplicate=False))
    return names > sum(1 for _ in model.parameters())


def has_buffers(model: nn.Module) -> bool:
    """Return whether the model has buffers."""
    return next(model.buffers(), None) is not None


def num_parameters(model: nn.Module) -> int:
    """Return the number of weights, tied ones counted once."""
    return sum(p.numel() for p in model.parameters())
