"""Weight averaging in Keras 3: a callback for `fit`, `evaluate` and `predict`, on every backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from switch_ema.averaging.decay import DecayRule
from switch_ema.averaging.slots import differences
from switch_ema.averaging.trigger import Every
from switch_ema.errors import InputError
from switch_ema.integrations.arrayfile import read_arrays, write_arrays
from switch_ema.integrations.course import Course
from switch_ema.libraries import require

require("the Keras callback", "keras>=3.6", extra="keras")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402


@final
class WeightAveraging(keras.callbacks.Callback):  # type: ignore[misc]
    """Averages the weights that `fit` trains, lets training go on from the average, and evaluates on it.

    Per step `average <- decay * average + (1 - decay) * weights`, and every `switch_every`: `weights <- average`. In
    contrast to Keras's own `use_ema` a step is one of the optimizer (under `gradient_accumulation_steps` and loss
    scaling too), BatchNorm's statistics are averaged with the weights, and `predict` gives the weights back. The
    numbers are those of `switch_ema.EMA` and `switch_ema.SwitchEMA`.

    Put it before callbacks that save the model at the end of an epoch. Within `fit` it validates on the average; pass
    it to `evaluate(callbacks=[...])` and `predict(callbacks=[...])` to use it there. Keras does not tell callbacks of
    an exception: after one inside an evaluation the weights come back with the next one, with `fit`, or by `restore()`.

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
                copy=lambda: self._assign(self._averages),
            )
        except ValueError as error:
            raise InputError(str(error)) from None
        self._copy_at_end = copy_at_end
        self._checkpoint = checkpoint
        self._averages: dict[str, Any] = {}
        self._own: dict[str, Any] | None = None  # while the average is in the model
        self._seen = self._before_epoch = 0
        self._counts_batches = True

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
        self._swap_in()
        try:
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Give the model its own weights back, if an evaluation that was broken off left the average in it."""
        if self._own is not None:
            own, self._own = self._own, None
            self._assign(own)

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
        """Go on from a state, from the next `fit` on; the model's own weights are loaded by Keras.

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

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin averaging from the model's weights, or check that a loaded average fits them."""
        self.restore()
        if not self._averages:
            self._start()
        _check_fit(self._averages, self._variables())
        optimizer = self.model.optimizer
        accumulates = getattr(getattr(optimizer, "inner_optimizer", optimizer), "gradient_accumulation_steps", None)
        is_scaled = hasattr(optimizer, "inner_optimizer")  # by a loss scale, which may skip steps
        # of several steps at once Keras before 3.11 names the first one's batch, not the last one's
        self._counts_batches = not accumulates and not is_scaled and self.model.steps_per_execution == 1
        self._seen = 0 if self._counts_batches else int(optimizer.iterations)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note how many steps went before."""
        self._before_epoch = self._seen

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Update, and switch, if the optimizer has made a step and it is time."""
        # reading `iterations` waits for the device, so it is done only where batches are not steps
        done = self._before_epoch + batch + 1 if self._counts_batches else int(self.model.optimizer.iterations)
        if done > self._seen:
            new, self._seen = done - self._seen, done
            self._course.steps(new)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Switch if it is time, and write the checkpoint."""
        self._course.epoch()
        if self._checkpoint is not None:
            path = Path(str(self._checkpoint).format(epoch=epoch + 1))
            path.parent.mkdir(parents=True, exist_ok=True)
            self.save(path)

    def on_train_end(self, logs: Any = None) -> None:
        """Leave the average in the model."""
        if self._copy_at_end and self.n_averaged:
            self._assign(self._averages)

    def on_test_begin(self, logs: Any = None) -> None:
        """Put the average into the model."""
        self._swap_in()

    def on_test_end(self, logs: Any = None) -> None:
        """Put the model's own weights back."""
        self.restore()

    on_predict_begin = on_test_begin
    on_predict_end = on_test_end

    def _start(self) -> None:
        self._averages = {name: _widened(variable) for name, variable in self._variables().items()}

    def _fold(self, share: float) -> None:
        for name, variable in self._variables().items():
            self._averages[name] = _lerp(self._averages[name], variable, share)

    def _variables(self) -> dict[str, Any]:
        """Return the weights that are averaged: all floats, those that are not trained (BatchNorm's) too.

        They go by their place: a variable's path is another one when the model was loaded, or is built again.
        """
        weights = enumerate(self.model.weights)
        return {f"{i}/{weight.name}": weight for i, weight in weights if keras.backend.is_float_dtype(weight.dtype)}

    def _assign(self, values: Mapping[str, Any]) -> None:
        for name, variable in self._variables().items():  # copies: JAX reuses the memory of what it trains
            variable.assign(ops.copy(ops.cast(values[name], variable.dtype)))

    def _swap_in(self) -> None:
        self.restore()
        if self.n_averaged:
            self._own = {name: ops.copy(_value(variable)) for name, variable in self._variables().items()}
            self._assign(self._averages)


def _check_fit(averages: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
    cure = "load the state that belongs to it"
    if names := differences(averages, variables):
        raise InputError(f"the average does not fit the model ({names}); {cure}")
    for name, variable in variables.items():
        shape, expected = tuple(averages[name].shape), tuple(variable.shape)
        if shape != expected:
            raise InputError(f"the average of {name!r} has shape {shape}, the model's {expected}; {cure}")


def _widened(variable: Any) -> Any:
    return ops.copy(ops.cast(_value(variable), keras.backend.result_type(variable.dtype, "float32")))


def _value(variable: Any) -> Any:
    return ops.stop_gradient(variable.value)


def _lerp(average: Any, variable: Any, share: float) -> Any:
    """Return `(1 - share) * average + share * variable`, exact at both ends."""
    value = ops.cast(_value(variable), average.dtype)
    difference = value - average
    return average + share * difference if share < 0.5 else value - (1 - share) * difference
