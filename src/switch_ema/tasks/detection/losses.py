"""A detector's losses, whichever mode its layers are in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from switch_ema.tasks.detection.batches import Batch


def summed_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Return the sum of the losses of a batch.

    A detector gives losses in training mode alone. One in evaluation mode gives them, too; its BatchNorm and dropout
    layers stay in the mode they are in, so that their statistics can be measured anew, or the loss of a trained model.

    Args:
        model: The detector (see `switch_ema.tasks.detection.models.build.build_detector`).
        batch: Images and what is to be found in them.

    Returns:
        A scalar in single precision.
    """
    if model.training:
        losses: dict[str, Tensor] = model(*batch)
    else:
        with _asked_for_losses(model):
            losses = model(*batch)
    return torch.stack([loss.float() for loss in losses.values()]).sum()


@contextmanager
def _asked_for_losses(model: nn.Module) -> Iterator[None]:
    changed = [
        module for module in model.modules() if not module.training and not isinstance(module, _BatchNorm | _DropoutNd)
    ]
    try:
        for module in changed:
            module.training = True
        yield
    finally:
        for module in changed:
            module.training = False
