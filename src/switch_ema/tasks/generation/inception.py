"""The Inception network of FID: is it there? Checked with the standard library alone, and nothing is downloaded."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, device

_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
_SOURCE = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{_WEIGHTS}"
_BATCH = 64


def missing() -> str | None:
    """Say what FID lacks on this machine and how to get it; None where all is there."""
    for module, package in (("torchmetrics", '"switch-ema[bench]"'), ("torch_fidelity", "torch-fidelity")):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed; run: pip install {package}"
    cache = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")
    file = os.path.join(os.path.expanduser(cache), "hub", "checkpoints", _WEIGHTS)
    return None if os.path.isfile(file) else f"no file {file}; download it from {_SOURCE}"


def inception_features(images: Tensor, white: int, where: device) -> Tensor:
    """Return the 2,048 features that FID is measured on, by torchmetrics and torch-fidelity.

    Args:
        images: uint8 of shape (n, size, size, 1 or 3).
        white: Largest value that a pixel can have, such as 255.
        where: Device to compute on.

    Returns:
        float64 of shape (n, 2048), on the CPU.

    References:
        Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs Trained by a Two Time-Scale Update Rule Converge to a
        Local Nash Equilibrium, arXiv:1706.08500, 2017.
    """
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    network = FrechetInceptionDistance(feature=2048).inception.to(where)
    with torch.no_grad(), torch.autocast(where.type, enabled=False):
        parts = []
        for part in images.split(_BATCH):
            full = (part.to(where) * (255 / white)).round().byte()
            parts.append(network(full.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)).cpu().double())
    return torch.cat(parts)
