"""Which of the batches that Keras tells its callbacks of are steps of the optimizer, and whether an epoch was whole."""

from __future__ import annotations

from typing import Any, final


@final
class Steps:
    """Counts the optimizer's steps in one `fit`.

    Args:
        model: The model in training.
        batches: Batches in an epoch, if known.
    """

    def __init__(self, model: Any, batches: int | None) -> None:
        optimizer = model.optimizer
        accumulates = getattr(getattr(optimizer, "inner_optimizer", optimizer), "gradient_accumulation_steps", None)
        is_scaled = hasattr(optimizer, "inner_optimizer")  # by a loss scale, which may skip steps
        self._at_once = model.steps_per_execution
        # of several steps at once Keras before 3.11 names the first one's batch, not the last one's
        self._counts_batches = not accumulates and not is_scaled and self._at_once == 1
        self._batches = batches
        self._seen = 0 if self._counts_batches else int(optimizer.iterations)
        self._before_epoch = self._calls = 0

    def begin_epoch(self) -> None:
        """Note how many steps went before."""
        self._before_epoch, self._calls = self._seen, 0

    def end_batch(self, model: Any, batch: int) -> int:
        """Return how many steps there were since the last call."""
        self._calls += 1
        # reading `iterations` waits for the device, so it is done only where batches are not steps
        done = self._before_epoch + batch + 1 if self._counts_batches else int(model.optimizer.iterations)
        new, self._seen = max(0, done - self._seen), max(done, self._seen)
        return new

    def was_whole(self, model: Any) -> bool:
        """Return whether the epoch ended by itself; if its length is not known, it is taken to."""
        is_cut_short = self._batches is not None and self._calls * self._at_once < self._batches
        return not (model.stop_training and is_cut_short)
