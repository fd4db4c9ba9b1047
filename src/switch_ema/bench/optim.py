"""Optimizers and learning-rate schedules of the bench."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from switch_ema.bench.settings import Settings


def build_optimizer(model: nn.Module, settings: Settings) -> Optimizer:
    """Make the optimizer; weight decay leaves out vectors and scalars (norm weights, biases).

    Args:
        model: The model to train.
        settings: Optimizer, momentum and weight decay.
    """
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if settings.optimizer == "sgd":
        return SGD(groups, lr=1.0, momentum=settings.momentum, nesterov=settings.momentum > 0)
    return AdamW(groups, lr=1.0)


def lr_factor(schedule: str, step: int, total: int, warmup: int) -> float:
    """Return the learning rate at a step as a share of its peak.

    A linear warm-up `(step + 1) / (warmup + 1)`, then for the share `t` of the remaining steps: cosine
    `(1 + cos(pi t)) / 2`, constant 1, or step 1, 0.1, 0.01 from `t` = 0, 1/2, 3/4.

    Args:
        schedule: `"cosine"`, `"constant"` or `"step"`.
        step: Steps completed, from 0.
        total: Steps of the whole training.
        warmup: Steps of the warm-up.

    Example:
        >>> [round(lr_factor("cosine", step, 4, 0), 3) for step in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    t = (step - warmup) / max(1, total - warmup)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * t)) / 2
    if schedule == "step":
        return 1.0 if t < 0.5 else 0.1 if t < 0.75 else 0.01
    return 1.0
