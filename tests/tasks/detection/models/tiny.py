"""Two tiny images, one with two boxes and one with none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.tasks.detection.models.build import build_detector
from switch_ema.tasks.detection.models.names import MASK_MODELS

CLASSES = 3
Targets = list[dict[str, Tensor]]


def images() -> list[Tensor]:
    noise = torch.Generator().manual_seed(0)
    found = [0.1 * torch.rand(3, 64, 64, generator=noise) for _ in range(2)]
    found[0][:, 8:28, 8:24] = 0.9
    found[0][0, 30:56, 36:52] = 0.8
    return found


def targets(masks: bool) -> Targets:
    boxes, labels = torch.tensor([[8.0, 8.0, 24.0, 28.0], [36.0, 30.0, 52.0, 56.0]]), torch.tensor([1, CLASSES])
    found = [{"boxes": boxes, "labels": labels}, {"boxes": boxes[:0], "labels": labels[:0]}]
    if masks:
        shapes = torch.zeros(2, 64, 64, dtype=torch.uint8)
        shapes[0, 8:28, 8:24] = 1
        shapes[1, 30:56, 36:52] = 1
        found[0]["masks"], found[1]["masks"] = shapes, shapes[:0]
    return found


def tiny(name: str, seed: int = 0, **arguments: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build_detector(name, CLASSES, masks=name in MASK_MODELS, **{"sizes": (64,), **arguments})


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
