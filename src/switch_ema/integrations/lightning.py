"""Weight averaging in Lightning: a callback for `lightning.pytorch.Trainer`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import PurePath
from typing import Any, Generic, cast, final

import torch
from torch import Tensor

from switch_ema.averaging.attach import Handle
from switch_ema.averaging.averager import Averager
from switch_ema.averaging.tensors import local
from switch_ema.errors import InputError
from switch_ema.integrations.method import Method, Tracker, check_method, make_averager
from switch_ema.libraries import require

require("the Lightning callback", "lightning>=2.5", extra="lightning")

from lightning.pytorch import Callback, LightningModule, Trainer, callbacks, strategies  # noqa: E402
from lightning.pytorch.utilities.rank_zero import rank_zero_warn  # noqa: E402

from switch_ema.integrations.lightning_length import length  # noqa: E402
from switch_ema.integrations.lightning_state import STATE, TRAINED, load_weights, put, take  # noqa: E402
from switch_ema.integrations.whole import whole  # noqa: E402


@final
class WeightAveraging(Callback, Generic[Tracker]):
    """Average the weights while `Trainer.fit` trains them; validate, test, predict and save with the average.

    The averager is made when training starts, from weights that are loaded, placed and sharded. It is updated after
    every step of the (last) optimizer: not while gradients accumulate, nor when a gradient scaler skips a step. An
    epoch ends after its last batch, before it is validated. A checkpoint's `state_dict` is the average, and training
    goes on from such a checkpoint bit for bit. After `fit` the module holds the average; another `fit` goes on with the
    trained weights.

    Args:
        method: Makes the averager from the module: `partial(SwitchEMA, decay=0.999, switch_every="1 epoch")`.
            `steps_per_epoch` and `epochs` are filled in where the method takes them. With `PostHocEMA` the module
            keeps the trained weights throughout.

    Raises:
        InputError: The method cannot be called.

    Example:
        >>> from functools import partial
        >>> from switch_ema import SwitchEMA
        >>> callback = WeightAveraging(partial(SwitchEMA, decay=0.999, switch_every="1 epoch"))
        >>> trainer = Trainer(callbacks=[callback], max_epochs=90, logger=False)
    """

    def __init__(self, method: Method[Tracker]) -> None:
        check_method(method)
        self._method = method
        self._averager: Tracker | None = None
        self._module: LightningModule | None = None
        self._handle: Handle | None = None
        self._loaded: dict[str, Any] | None = None
        self._trained: dict[str, Any] | None = None  # while the module holds the average, after training
        self._swap: ExitStack | None = None
        self._in_epoch = False

    @property
    def averager(self) -> Tracker:
        """What the method made; there from the start of training on.

        Raises:
            RuntimeError: Training has not started in this process.
        """
        if self._averager is None:
            raise RuntimeError("there is no averager yet; fit() makes it when training starts")
        return self._averager

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work together.

        Raises:
            InputError: Another callback averages weights too, or the strategy keeps the weights in a form of its own.
        """
        if stage != "fit":
            return
        self._loaded = None  # of a fit() that did not come to its start
        rivals = (WeightAveraging, callbacks.StochasticWeightAveraging, getattr(callbacks, "WeightAveraging", ()))
        for other in cast(Any, trainer).callbacks:
            if other is not self and isinstance(other, rivals):
                raise InputError(
                    f"two callbacks average the weights, {type(self).__name__} and {type(other).__name__}, and the "
                    "module can hold one average at a time; leave one of them out"
                )
        if isinstance(trainer.strategy, (strategies.FSDPStrategy, strategies.DeepSpeedStrategy)):
            raise InputError(
                f"{type(trainer.strategy).__name__} keeps the weights in flat pieces of its own, which cannot be "
                "averaged one by one; use ModelParallelStrategy and torch's fully_shard (FSDP2)"
            )
        for other in trainer.checkpoint_callbacks:
            if getattr(other, "save_weights_only", False):
                rank_zero_warn(
                    "with save_weights_only=True Lightning asks no callback: the files hold the trained weights, not "
                    "the average; leave it out"
                )

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember what training goes on from, until it starts; if it is under way, go on from that at once."""
        loaded = {key: checkpoint[key] for key in (TRAINED, STATE) if key in checkpoint}
        if self._handle is not None:  # a finder of Lightning brings back what it saved
            take(trainer, pl_module, self.averager, loaded)
            return
        if trainer.state.fn != "fit" or _is_of_a_search(trainer.ckpt_path):
            return
        self._averager, self._module, self._trained, self._loaded = None, pl_module, None, loaded
        if STATE not in checkpoint:
            rank_zero_warn("the checkpoint was saved without this callback; the average starts from the weights in it")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the averager, or go on with the one there is."""
        loaded, self._loaded, trained, self._trained = self._loaded, None, self._trained, None
        if self._module is not pl_module:
            self._averager = trained = None
        if trained is not None and not self._holds_average(pl_module):
            rank_zero_warn("the weights were changed after the last fit(); the average starts anew from them")
            self._averager = trained = None
        if trained is not None:
            load_weights(pl_module, trained)
        if self._averager is None:
            self._averager, self._module = make_averager(self._method, pl_module, **length(trainer)), pl_module
        if loaded is not None:
            take(trainer, pl_module, self._averager, loaded)
        if not trainer.optimizers:
            raise InputError(
                f"configure_optimizers() of {type(pl_module).__name__} returns no optimizer, so there are no steps to "
                "average over; return the one that trains it"
            )
        self._handle = self._averager.attach(*trainer.optimizers)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Know that an epoch is under way."""
        self._in_epoch = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the epoch after its last batch, before it is validated and saved."""
        if trainer.is_last_batch:
            self._end_epoch()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End an epoch of which the last batch was not known to be the last; one that was cut short does not count."""
        if not trainer.should_stop and not 0 <= trainer.max_steps <= trainer.global_step:
            self._end_epoch()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the module."""
        if self._handle is not None and isinstance(self._averager, Averager):
            self._swap = ExitStack()
            with torch.inference_mode(False):  # the weights must be usable for training afterwards
                self._swap.enter_context(self._averager.average_parameters())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        self._swap_back()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module, and keep the trained weights for another `fit`."""
        self._release()
        if isinstance(self._averager, Averager):
            self._trained = _copied(pl_module.state_dict())
            self._averager.copy_to(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell if nothing was averaged."""
        steps = self._averager.state_dict()["counters"]["steps"] if self._averager is not None else 0
        if not steps and self._loaded is None:
            rank_zero_warn(
                "the (last) optimizer made no step in fit(), so nothing is averaged; give the Trainer epochs, steps "
                "and batches, and return last the optimizer that completes a step"
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the trained weights back."""
        self._release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the trained weights back."""
        self._release()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as `state_dict`, the trained weights and the averager's state beside it."""
        if self._module is not pl_module:
            return
        if self._averager is None:
            if not isinstance(trainer.strategy, strategies.ModelParallelStrategy):  # shards are still in the old files
                checkpoint.update(self._loaded or {})  # training has not started, or there was nothing left to do
            return
        if not isinstance(self._averager, Averager):
            checkpoint[STATE] = whole(self._averager.state_dict())
            return
        if self._trained is not None and not self._holds_average(pl_module):
            return  # other weights were put into the module after training
        swapped = self._swap is not None
        with torch.inference_mode(False):
            self._swap_back()
            trained = pl_module.state_dict() if self._trained is None else self._trained
            put(checkpoint, self._averager, _copied(trained) if swapped else trained)
        if swapped:
            self.on_validation_start(trainer, pl_module)

    def _end_epoch(self) -> None:
        if self._in_epoch:
            self._in_epoch = False
            self.averager.end_epoch()

    def _release(self) -> None:
        """Let go of optimizer and module."""
        self._swap_back()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _swap_back(self) -> None:
        if self._swap is not None:
            with torch.inference_mode(False):
                self._swap.close()
            self._swap = None

    def _holds_average(self, module: LightningModule) -> bool:
        """Return whether the parameters are those that were left in the module after training."""
        averaged = cast(Averager, self._averager).averaged_state_dict()
        left = ((averaged[name], value) for name, value in module.named_parameters() if name in averaged)
        return all(torch.equal(*local(pair)) for pair in left)


def _is_of_a_search(path: Any) -> bool:
    """Return whether a finder of Lightning brings back what it saved; before training it moves nothing of ours."""
    return PurePath(str(path)).name.startswith((".lr_find_", ".scale_batch_size_"))


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in state.items()}
