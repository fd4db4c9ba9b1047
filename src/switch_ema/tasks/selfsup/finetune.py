"""What a pre-trained backbone is worth as a beginning: trained further, with labels."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from switch_ema.tasks.images import ImageBatches
from switch_ema.tasks.selfsup.module import num_features

_BATCH = 128
_RATE = 1e-3
_WEIGHT_DECAY = 0.05
_WARMUP = 0.1


def finetune(
    backbone: nn.Module, batches: ImageBatches, labels: Tensor, num_classes: int, epochs: int, seed: int
) -> nn.Module:
    """Train a copy of a backbone and a linear layer upon it.

    AdamW with weight decay 0.05 (none on vectors) and batches of 128; the rate rises to 0.001 over a tenth of the steps
    and falls to 0 on a cosine.

    Args:
        backbone: Maps images (n, c, h, w) to features (n, d); has `num_features`; left as it is.
        batches: Has the images of a split ``train``.
        labels: Their classes (N,), where the network is.
        num_classes: Number of classes.
        epochs: From 1.
        seed: Decides the new layer, the order and the augmentation; torch's global random generator is left alone.

    Returns:
        The classifier, in evaluation mode.
    """
    device = labels.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(seed)
        head = nn.Linear(num_features(backbone), num_classes, device=device)
        classifier = nn.Sequential(copy.deepcopy(backbone), head).requires_grad_(True).train()
        size = min(_BATCH, len(labels))
        optimizer = _optimizer(classifier)
        total, step = epochs * (len(labels) // size), 0
        for epoch in range(epochs):
            for images, numbers, _ in batches.epoch(size, seed * 10_007 + epoch, device):
                step += 1
                for group in optimizer.param_groups:
                    group["lr"] = _rate(step, total)
                optimizer.zero_grad()
                cross_entropy(classifier(images), labels[numbers]).backward()
                optimizer.step()
    return classifier.eval()


@torch.no_grad()
def accuracy(classifier: nn.Module, batches: ImageBatches, split: str, labels: Tensor) -> float:
    """Return the share of a split's images that a classifier names right.

    Args:
        classifier: Maps images (n, c, h, w) to logits (n, classes).
        batches: Has the images of the split.
        split: Its name.
        labels: Its classes (N,), where the classifier is.
    """
    parts = batches.held_out(split, 256, labels.device)
    right = [(classifier(images).argmax(1) == labels[part]).sum() for images, part in parts]
    return float(torch.stack(right).sum()) / len(labels)


def _optimizer(network: nn.Module) -> torch.optim.Optimizer:
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=_RATE)


def _rate(step: int, total: int) -> float:
    """Return the learning rate of a step, the first being 1."""
    warmup = max(1, round(_WARMUP * total))
    if step <= warmup:
        return _RATE * step / warmup
    return _RATE * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2
