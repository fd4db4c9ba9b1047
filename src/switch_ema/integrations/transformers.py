"""Weight averaging in the Trainer of Hugging Face transformers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, final

from switch_ema.averaging.attach import Handle
from switch_ema.averaging.averager import Averager
from switch_ema.errors import InputError
from switch_ema.integrations.method import Method, check_method
from switch_ema.integrations.statefile import read_state, write_state
from switch_ema.libraries import require

require("the Trainer callback", "transformers>=4.56", "accelerate>=1.3", extra="transformers")

from accelerate.optimizer import AcceleratedOptimizer  # noqa: E402
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # noqa: E402
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint  # noqa: E402

from switch_ema.integrations.transformers_averager import averager_of  # noqa: E402

STATE_FILE = "switch_ema.safetensors"
"""The averager's state in each checkpoint folder of the Trainer."""
_SAVE = "_save_checkpoint"  # no public name, but all checkpoints pass it, and `on_save` does not come after each


@final
class WeightAveragingCallback(TrainerCallback):  # type: ignore[misc]
    """Averages the weights that a Trainer trains; evaluates on the average, and resumes with the Trainer's checkpoints.

    The average is updated after every real optimizer step (once under gradient accumulation, not at all when mixed
    precision skips a step). Epochs end for the averager when they end for the Trainer, not where `max_steps` breaks one
    off. `evaluate()` and `predict()` run on the average, also after an exception inside one of them. Checkpoints hold
    the weights that are trained, which load without this library, and beside them the average in a file of its own.
    With `load_best_model_at_end` the best checkpoint's average, on which it was measured, is taken back too.

    Args:
        method: Makes an averager from the model, such as `partial(SwitchEMA, decay=0.999, switch_every="1 epoch")`.
            It is called when training begins; `steps_per_epoch` and `epochs` are filled in where it takes them. Of PEFT
            models only what is trained (the adapter) is averaged, unless the method names `parameters` itself.
        copy_at_end: Whether the model holds the average when training has ended; otherwise what was trained last.

    Raises:
        InputError: If the method cannot be called.
        MissingLibraryError: On import, if transformers is missing or too old.

    Example:
        >>> from functools import partial
        >>> from switch_ema import SwitchEMA
        >>> averaging = WeightAveragingCallback(partial(SwitchEMA, decay=0.99, switch_every="1 epoch"))
        >>> trainer = Trainer(model, arguments, train_dataset=data)  # doctest: +SKIP
        >>> averaging.attach(trainer)  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP

    References:
        Li et al., "Switch EMA: A Free Lunch for Better Flatness and Sharpness", arXiv 2402.09240, 2024.
    """

    def __init__(self, method: Method[Averager], *, copy_at_end: bool = True) -> None:
        check_method(method)
        self._method = method
        self._copy_at_end = copy_at_end
        self._trainer: Any = None
        self._averager: Averager | None = None
        self._handle: Handle | None = None
        self._checkpoint: Path | None = None
        self._trial: Any = None
        self._in_epoch = False
        self._is_copied = False

    @property
    def averager(self) -> Averager:
        """The averager of the training that runs, or ran last.

        Raises:
            InputError: If no training has begun.
        """
        if self._averager is None:
            raise InputError("there is no average before training begins; call trainer.train() first")
        return self._averager

    def attach(self, trainer: Trainer) -> Self:
        """Follow a Trainer: take part in its training, and put the average in where it evaluates and predicts.

        The Trainer's callbacks are not told when an evaluation begins, nor of every checkpoint, so its `train`,
        `evaluation_loop` and `_save_checkpoint` are wrapped, on this one instance.

        Args:
            trainer: The Trainer; none of its arguments need to change.

        Returns:
            The callback itself.

        Raises:
            InputError: If the callback follows a Trainer already, the Trainer has such a callback already, or it uses
                DeepSpeed, which keeps weights of its own.
        """
        if self._trainer is not None:
            raise InputError("this callback follows a Trainer already; make another callback for another Trainer")
        others = trainer.callback_handler.callbacks
        if any(isinstance(other, WeightAveragingCallback) and other is not self for other in others):
            raise InputError("the Trainer's weights are averaged already; attach one callback to it")
        if trainer.is_deepspeed_enabled:
            raise InputError(
                "DeepSpeed keeps weights of its own, which an average can neither read nor replace; "
                "train with DDP or FSDP2 instead"
            )
        self._trainer = trainer
        if self not in others:
            trainer.add_callback(self)
        trainer.train = self._follow(trainer.train)
        trainer.evaluation_loop = self._on_average(trainer.evaluation_loop)
        if hasattr(trainer, _SAVE):
            setattr(trainer, _SAVE, self._with_state(getattr(trainer, _SAVE)))
        return self

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Save the averaged model, or averaged adapter of a PEFT model, as `from_pretrained` reads it.

        Args:
            folder: The folder.
            options: What the model's own `save_pretrained` takes.

        Raises:
            InputError: If no training has begun, or the model has no `save_pretrained`.
        """
        model: Any = self.averager.model
        if not hasattr(model, "save_pretrained"):
            raise InputError(
                f"a {type(model).__name__} has no save_pretrained(); "
                "write switch_ema.save_averaged(callback.averager, 'model.safetensors')"
            )
        options.setdefault("is_main_process", self._trainer.args.should_save)
        with self._average_in_model():
            model.save_pretrained(folder, **options)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the averager, or let it go on from the checkpoint that training resumes from."""
        if self._trainer is None:
            raise InputError(
                "the callback does not know its Trainer; call callback.attach(trainer) "
                "instead of passing callbacks=[callback]"
            )
        self._detach()
        self._averager = averager_of(kwargs["model"], self._method, args, state, kwargs["train_dataloader"])
        self._in_epoch = self._is_copied = False
        if self._checkpoint is not None:
            about = _read(self._checkpoint, self._averager)
            if about["in_epoch"] and float(state.epoch or 0).is_integer():  # saved between its last step and its end
                self._averager.end_epoch()
        optimizer = kwargs["optimizer"]
        self._handle = self._averager.attach(
            optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer
        )

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note that an epoch is under way, of which a checkpoint may hold the last step and not the end."""
        self._in_epoch = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let the epoch end for the averager, unless it was broken off."""
        if not control.should_training_stop or float(state.epoch or 0).is_integer():
            self.averager.end_epoch()
            self._in_epoch = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the averager's state into the checkpoint's folder, with a Trainer of which that is not wrapped."""
        if not hasattr(self._trainer, _SAVE):
            self._write(self._trial)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the best checkpoint's average where the Trainer took its weights, and leave the average in the model."""
        if not state.global_step:
            raise InputError(
                "training took no optimizer step, so nothing is averaged; check num_train_epochs, max_steps and data"
            )
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            _read(Path(state.best_model_checkpoint), self.averager)
        if self._copy_at_end:
            self.averager.copy_to(self.averager.model)
            self._is_copied = True

    def _follow(self, train: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(train)
        def followed(resume_from_checkpoint: str | Path | bool | None = None, *args: Any, **kwargs: Any) -> Any:
            if resume_from_checkpoint is True:
                resume_from_checkpoint = get_last_checkpoint(self._trainer.args.output_dir) or True
            named = resume_from_checkpoint is not None and not isinstance(resume_from_checkpoint, bool)
            self._checkpoint = Path(str(resume_from_checkpoint)) if named else None
            self._trial = kwargs.get("trial", args[0] if args else None)
            try:
                return train(resume_from_checkpoint, *args, **kwargs)
            finally:
                self._detach()

        return followed

    def _on_average(self, loop: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(loop)
        def averaged(*args: Any, **kwargs: Any) -> Any:
            with self._average_in_model():
                return loop(*args, **kwargs)

        return averaged

    def _with_state(self, save: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(save)
        def saved(model: Any, trial: Any = None, *args: Any, **kwargs: Any) -> Any:
            if self._averager is not None:
                self._write(trial)  # before it is pushed to the hub
            return save(model, trial, *args, **kwargs)

        return saved

    def _write(self, trial: Any) -> None:
        """Put the averager's state into the folder of the checkpoint of now."""
        args, step = self._trainer.args, self._trainer.state.global_step
        folder = Path(self._trainer._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{step}")
        if args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
        about = {"in_epoch": self._in_epoch, "step": step}
        write_state(folder / STATE_FILE, self.averager, about, writes=args.should_save)

    @contextmanager
    def _average_in_model(self) -> Iterator[None]:
        """Put the average into the model for a while, unless there is none yet or the model holds it for good."""
        if self._averager is None or self._is_copied:
            yield
        else:
            with self._averager.average_parameters():
                yield

    def _detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()


def _read(checkpoint: Path, averager: Averager) -> dict[str, Any]:
    """Let an averager go on from the state in a checkpoint's folder."""
    try:
        return read_state(checkpoint / STATE_FILE, averager)
    except FileNotFoundError:
        raise InputError(
            f"{checkpoint} has no {STATE_FILE}: it was saved without an average, or broken off; resume from another "
            "one, or begin an average from its weights without resume_from_checkpoint"
        ) from None
