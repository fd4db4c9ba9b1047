"""How long a training of Lightning is, for methods that choose by it."""

from __future__ import annotations

import math
from typing import Any, cast

from lightning.pytorch import Trainer, callbacks


def length(trainer: Trainer) -> dict[str, Any]:
    """Return how long training is, as far as it can be known; its last epoch may be a part of one.

    Args:
        trainer: The Trainer, when training starts.

    Returns:
        `steps_per_epoch`, the optimizer's steps, and `epochs`; `None` for what is not known.
    """
    batches = trainer.num_training_batches
    uneven = callbacks.GradientAccumulationScheduler
    accumulates_evenly = not any(isinstance(other, uneven) for other in cast(Any, trainer).callbacks)
    known = trainer.lightning_module.automatic_optimization and accumulates_evenly and not math.isinf(batches)
    steps = math.ceil(batches / trainer.accumulate_grad_batches) if known else None
    epochs = trainer.max_epochs or 0
    limits: list[float] = [epochs] if epochs > 0 else []
    if trainer.max_steps >= 0:
        limits = [*limits, trainer.max_steps / steps] if steps else []
    return {"steps_per_epoch": steps, "epochs": min(limits, default=None)}
