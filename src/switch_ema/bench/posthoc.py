"""Post-hoc EMA as a method of the bench: its snapshots lie in the run folder, and one width is measured in training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from switch_ema.averaging.averager import Averager
from switch_ema.averaging.posthoc import PostHocEMA


class PostHocRider:
    """A `PostHocEMA` that is measured like the other averages: at one width, over the training until now.

    Args:
        model: The model that is trained.
        folder: Where the snapshots go, of this rider alone.
        sigma_rel: The width that is measured, as a part of the training until now.
        options: Further arguments of `PostHocEMA`.

    Raises:
        ValueError: If an argument is out of range.
    """

    n_switches = 0

    def __init__(self, model: nn.Module, folder: Path, *, sigma_rel: float, **options: Any) -> None:
        self._model = model
        self._folder = folder
        self._sigma_rel = sigma_rel
        self._tracker = PostHocEMA(model, folder=folder, **options)

    @property
    def n_averaged(self) -> int:
        """Updates so far."""
        return self._tracker.n_averaged

    def attach(self, optimizer: Optimizer) -> None:
        """Update after each step of the optimizer."""
        self._tracker.attach(optimizer)

    def end_epoch(self) -> None:
        """Count a completed epoch."""
        self._tracker.end_epoch()

    def begin_anew(self) -> None:
        """Remove what a broken-off training that is not continued has left."""
        if not dist.is_initialized() or dist.get_rank() == 0:
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Store a snapshot, so that the average ends now, and swap the average of the measured width in."""
        self._tracker.snapshot()
        if dist.is_initialized():
            dist.barrier()  # the first process writes, all read
        kept = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        self._tracker.synthesize(sigma_rel=self._sigma_rel).copy_to(self._model)
        try:
            yield
        finally:
            self._model.load_state_dict(kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the tracker's state."""
        return self._tracker.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._tracker.load_state_dict(state)


Rider = Averager | PostHocRider
"""What averages the weights of a training run."""
