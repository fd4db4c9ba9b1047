"""Weight averaging in Keras 3: a callback for `fit`, `evaluate` and `predict`, on every backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from switch_ema.averaging.decay import DecayRule
from switch_ema.averaging.trigger import Every
from switch_ema.errors import InputError
from switch_ema.integrations.arrayfile import read_arrays, write_arrays
from switch_ema.integrations.course import Course
from switch_ema.libraries import require

require("the Keras callback", "keras>=3.6", extra="keras")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402

from switch_ema.integrations.keras_steps import Steps  # noqa: E402
from switch_ema.integrations.keras_weights import assign, check_fit, copies, lerp, variables, widened  # noqa: E402


@final
class WeightAveraging(keras.callbacks.Callback):  # type: ignore[misc]
    """Averages the weights that `fit` trains, lets training go on from the average, and evaluates on it.

    Per step `average <- decay * average + (1 - decay) * weights`, and every `switch_every`: `weights <- average`. In
    contrast to Keras's own `use_ema` a step is one of the optimizer (under `gradient_accumulation_steps` and loss
    scaling too), BatchNorm's statistics are averaged with the weights, and `predict` gives the weights back. The
    numbers are those of `switch_ema.EMA` and `switch_ema.SwitchEMA`.

    Put it before all callbacks that act at the end of an epoch. Within `fit` it validates on the average; pass it to
    `evaluate(callbacks=[...])` and `predict(callbacks=[...])` to use it there. Other callbacks find the weights that
    train, so those that keep the best weights (`ModelCheckpoint(save_best_only=True)`,
    `EarlyStopping(restore_best_weights=True)`) would keep what was not measured: wrap them in `on_average(...)`.

    Another `fit` of the same model goes on; that of another model starts anew, unless a state was loaded for it.
    Keras does not tell callbacks of an exception: after one inside an evaluation the weights come back with the next
    one, with `fit`, or by `restore()`.

    Args:
        decay: Share of the old average kept per step, in [0, 1], or a text or rule as for `switch_ema.EMA`.
        switch_every: When to switch: steps, or `"1 epoch"`, `"0.5 epoch"`; `None` for never (EMA).
        update_every: Steps between updates; an update after k steps uses the product of their decays.
        update_after_step: Averaging begins after this many steps, from the weights of that moment.
        steps_per_epoch: Optimizer steps in an epoch; needed where a decay speaks of epochs, or a switch falls inside.
        copy_at_end: Whether the model holds the average when `fit` has ended; otherwise what was trained last. Another
            `fit` goes on from what the model holds.
        checkpoint: File to which the state is written at the end of each epoch; `"run/{epoch}.safetensors"` keeps all.

    Raises:
        InputError: If an argument is out of range.
        MissingLibraryError: On import, if Keras is missing or too old.

    Example:
        >>> averaging = WeightAveraging(decay=0.99, switch_every="1 epoch")  # doctest: +SKIP
        >>> model.fit(x, y, validation_data=held_out, callbacks=[averaging])  # doctest: +SKIP

    References:
        Li et al., "Switch EMA: A Free Lunch for Better Flatness and Sharpness", arXiv 2402.09240, 2024.
    """

    def __init__(
        self,
        decay: float | str | DecayRule = 0.999,
        *,
        switch_every: int | str | Every | None = None,
        update_every: int | str | Every = 1,
        update_after_step: int = 0,
        steps_per_epoch: int | None = None,
        copy_at_end: bool = True,
        checkpoint: str | Path | None = None,
    ) -> None:
        super().__init__()
        try:
            self._course = Course(
                decay,
                None if switch_every is None else Every.of(switch_every),
                Every.of(update_every, start=update_after_step),
                steps_per_epoch,
                restart=self._start,
                fold=self._fold,
                copy=lambda: assign(self.model, self._averages),
            )
        except ValueError as error:
            raise InputError(str(error)) from None
        self._copy_at_end = copy_at_end
        self._checkpoint = checkpoint
        self._at_first = self._course.to_dict()
        self._averages: dict[str, Any] = {}
        self._averaged: Any = None  # the model they are of; none if they were loaded for the next one
        self._own: dict[str, Any] | None = None  # while the average is in the model
        self._validated: dict[str, Any] = {}  # the weights that validation has measured in this epoch
        self._has_ended_epoch = False
        self._steps: Any = None  # `Steps` of the `fit` that runs

    @property
    def n_averaged(self) -> int:
        """Updates so far."""
        return self._course.count.n_averaged

    @property
    def n_switches(self) -> int:
        """Switches so far."""
        return self._course.count.n_switches

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Put the average into the model for the length of a `with` block, outside of training.

        What the model had comes back, also after an exception. Before the first update the average is the model.
        """
        with self._holding(self._average()):
            yield

    def on_average(self, callback: Any) -> Any:
        """Let a callback find, at the end of each epoch, the weights that were validated: the average.

        It is for callbacks that keep the best weights: without it they keep those that train, not those that were
        measured. What is saved so is for use; to train on, save the weights that train and the state (`checkpoint`).

        Args:
            callback: A Keras callback, to be listed after this one. Its own `on_epoch_end` is wrapped, no other method.

        Returns:
            The same callback. Its `on_epoch_end` raises `InputError` if this callback is not listed before it.

        Example:
            >>> best = keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True)  # doctest: +SKIP
            >>> callbacks = [averaging, averaging.on_average(best)]  # doctest: +SKIP
        """
        end = callback.on_epoch_end

        def on_epoch_end(epoch: int, logs: Any = None) -> None:
            if not self._has_ended_epoch:
                name = type(callback).__name__
                raise InputError(f"on_average({name}) acts after the averaging; write callbacks=[averaging, {name}]")
            with self._holding(self._validated or self._average()):
                end(epoch, logs)

        callback.on_epoch_end = on_epoch_end
        return callback

    def restore(self) -> None:
        """Give the model its own weights back, if an evaluation that was broken off left the average in it."""
        if self._own is not None:
            own, self._own = self._own, None
            assign(self.model, own)

    def state_dict(self) -> dict[str, Any]:
        """Return averages (arrays by the place of the weight in `model.weights` and its name) and all counters.

        Raises:
            InputError: If training has not begun.
        """
        if not self._averages:
            raise InputError("there is no average before training begins; call model.fit(...) first")
        return {
            "averages": {name: np.array(ops.convert_to_numpy(average)) for name, average in self._averages.items()},
            "counters": self._course.to_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, from the next `fit` on, of any model; the model's own weights are loaded by Keras.

        Args:
            state: What `state_dict` returned, for a model of the same names and shapes.

        Raises:
            InputError: If it is no such state. Names and shapes are compared with the model when `fit` begins.
        """
        try:
            averages = dict(state["averages"])
            self._course.restore(state["counters"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"this is not the state of WeightAveraging ({error}); load what state_dict() gave"
            ) from None
        self._averages = {name: ops.copy(ops.convert_to_tensor(value)) for name, value in averages.items()}
        self._averaged = None

    def save(self, path: str | Path) -> None:
        """Write the state as a safetensors file with a checksum, whole or not at all.

        Args:
            path: The file; one that is there is replaced.

        Raises:
            OSError: If the disk is full or the folder cannot be written.
        """
        state = self.state_dict()
        write_arrays(Path(path), state["averages"], state["counters"])

    def load(self, path: str | Path) -> None:
        """Go on from a file that `save` wrote, or that `checkpoint` names; nothing in it is ever unpickled.

        Args:
            path: The file.

        Raises:
            FileNotFoundError: If it is not there.
            InputError: If it is damaged or no such file.
        """
        averages, counters = read_arrays(Path(path))
        self.load_state_dict({"averages": averages, "counters": counters})

    def set_model(self, model: Any) -> None:
        """Take another model, after giving the one before its own weights back."""
        if model is not self._model:
            self.restore()
        super().set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin averaging from the model's weights, or check that a loaded average fits them."""
        self.restore()
        if self._averaged is not None and self._averaged is not self.model:
            self._averages = {}
            self._course.restore(self._at_first)
        if not self._averages:
            self._start()
        check_fit(self._averages, self.model)
        self._averaged = self.model
        self._steps = Steps(self.model, (self.params or {}).get("steps"))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note how many steps went before."""
        self._steps.begin_epoch()
        self._validated, self._has_ended_epoch = {}, False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Update, and switch, if the optimizer has made a step and it is time."""
        if new := self._steps.end_batch(self.model, batch):
            self._course.steps(new)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Switch if it is time, unless the epoch was cut short, and write the checkpoint."""
        if self._steps.was_whole(self.model):
            self._course.epoch()
        self._has_ended_epoch = True
        if self._checkpoint is not None:
            path = Path(str(self._checkpoint).format(epoch=epoch + 1))
            path.parent.mkdir(parents=True, exist_ok=True)
            self.save(path)

    def on_train_end(self, logs: Any = None) -> None:
        """Leave the average in the model."""
        self._validated, self._has_ended_epoch = {}, False
        if self._copy_at_end and self.n_averaged:
            assign(self.model, self._averages)

    def on_test_begin(self, logs: Any = None) -> None:
        """Put the average into the model."""
        self.restore()
        self._validated = self._average() or copies(self.model)
        self._swap_in(self._average())

    def on_test_end(self, logs: Any = None) -> None:
        """Put the model's own weights back."""
        self.restore()

    def on_predict_begin(self, logs: Any = None) -> None:
        """Put the average into the model."""
        self._swap_in(self._average())

    on_predict_end = on_test_end

    def _start(self) -> None:
        self._averages = {name: widened(variable) for name, variable in variables(self.model).items()}

    def _fold(self, share: float) -> None:
        for name, variable in variables(self.model).items():
            self._averages[name] = lerp(self._averages[name], variable, share)

    def _average(self) -> dict[str, Any]:
        """Return the average of now; it is empty before the first update, when the average is the model."""
        return dict(self._averages) if self.n_averaged else {}

    def _swap_in(self, values: Mapping[str, Any]) -> None:
        self.restore()
        if values:
            self._own = copies(self.model)
            assign(self.model, values)

    @contextmanager
    def _holding(self, values: Mapping[str, Any]) -> Iterator[None]:
        self._swap_in(values)
        try:
            yield
        finally:
            self.restore()
