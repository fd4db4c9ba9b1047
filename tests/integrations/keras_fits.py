"""What one `fit` leaves to the next, and what other callbacks find, on the backend that KERAS_BACKEND names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from switch_ema.errors import InputError
from switch_ema.integrations.keras import WeightAveraging
from tests.integrations import keras_scenarios
from tests.integrations.keras_scenarios import DATA, X, Y, assert_same, loss_with, net, weights

pytestmark = keras_scenarios.pytestmark


class Stop(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.stop_training = batch == self.batch


@pytest.mark.parametrize(("batch", "epochs"), [(3, 0), (5, 1)])
@pytest.mark.parametrize("is_first", [True, False])
def test_an_epoch_that_is_cut_short_does_not_count(batch: int, epochs: int, is_first: bool) -> None:
    averaging, stop = WeightAveraging(0.9, switch_every="1 epoch"), Stop(batch)
    net().fit(**DATA, epochs=3, callbacks=[stop, averaging] if is_first else [averaging, stop])  # 6 batches an epoch
    counters = averaging.state_dict()["counters"]
    assert (counters["steps"], counters["epochs"], counters["n_switches"]) == (batch + 1, epochs, epochs)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras refuses steps_per_execution on torch")
@pytest.mark.parametrize(("batch", "epochs"), [((0, 3), 0), ((4, 7), 1)])  # the first or the last of the four at once
def test_an_epoch_of_several_steps_at_once_is_whole_or_not(batch: tuple[int, int], epochs: int) -> None:
    class StopAt(Stop):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training |= batch in among

    among = range(batch[0], batch[1] + 1)
    model, averaging = net(), WeightAveraging(0.9)
    model.steps_per_execution = 4
    model.fit(**DATA, epochs=2, callbacks=[averaging, StopAt(0)])
    assert averaging.state_dict()["counters"]["epochs"] == epochs


def test_where_an_epoch_ends_may_be_unknown() -> None:
    batches = ((X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4))
    averaging = WeightAveraging(0.9)
    net().fit(batches, verbose=0, shuffle=False, callbacks=[averaging, Stop(3)])
    counters = averaging.state_dict()["counters"]
    assert (counters["steps"], counters["epochs"]) == (4, 1)


def same_states(one: WeightAveraging, other: WeightAveraging) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first["counters"] == second["counters"]
    assert_same(list(first["averages"].values()), list(second["averages"].values()))


def test_another_model_has_an_average_of_its_own() -> None:
    options: dict[str, Any] = {"decay": 0.9, "switch_every": "1 epoch", "update_every": 4, "update_after_step": 2}
    averaging, alone = WeightAveraging(**options), WeightAveraging(**options)
    other = net()
    other.fit(**DATA, epochs=1, callbacks=[averaging])
    left = weights(other)
    model, expected = net(), net()
    for trained, callback in ((model, averaging), (expected, alone)):
        trained.fit(**DATA, epochs=1, callbacks=[callback])
        trained.fit(**DATA, epochs=1, callbacks=[callback])  # the same model goes on
    assert averaging.state_dict()["counters"]["steps"] == 12
    same_states(averaging, alone)
    assert_same(weights(model), weights(expected))
    assert_same(weights(other), left)


def test_a_state_that_was_loaded_is_taken_up_by_another_model() -> None:
    source, averaging = WeightAveraging(0.9), WeightAveraging(0.9)
    net().fit(**DATA, epochs=2, callbacks=[source])
    net().fit(**DATA, epochs=1, callbacks=[averaging])
    averaging.load_state_dict(source.state_dict())
    model = net()
    model.fit(**DATA, epochs=1, callbacks=[averaging])
    model.fit(**DATA, epochs=1, callbacks=[averaging])
    assert averaging.n_averaged == 24


def test_a_model_gets_its_weights_back_when_another_takes_its_place() -> None:
    class BrokenError(Exception):
        pass

    class Broken(keras.callbacks.Callback):  # type: ignore[misc]
        def on_test_begin(self, logs: Any = None) -> None:
            raise BrokenError

    model, plain, other = net(), net(), net()
    averaging = WeightAveraging(0.9)
    with pytest.raises(BrokenError):
        model.fit(**DATA, callbacks=[averaging, Broken()], validation_data=(X, Y))
    plain.fit(**DATA)
    other.fit(**DATA, callbacks=[averaging])
    assert_same(weights(model), weights(plain))
    assert averaging.n_averaged == 6


class Found(keras.callbacks.Callback):  # type: ignore[misc]
    """What it finds in the model at the end of each epoch, and the loss that was measured."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[list[Any]] = []
        self.losses: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.weights.append(weights(self.model))
        self.losses.append(logs["val_loss"])


@pytest.mark.parametrize(
    "update_every", [4, 100]
)  # there is something left for a switch; there is no average before it
def test_a_callback_on_the_average_finds_what_was_measured(update_every: int) -> None:
    options: dict[str, Any] = {"decay": 0.9, "switch_every": "1 epoch", "update_every": update_every}
    model, plain = net(), net()
    averaging, found, trained = WeightAveraging(**options), Found(), Found()
    callbacks = [averaging, averaging.on_average(found), trained]
    model.fit(**DATA, epochs=4, callbacks=callbacks, validation_data=(X, Y))
    for loss, value in zip(found.losses, found.weights, strict=True):
        assert loss == pytest.approx(loss_with(value), rel=1e-5)
    without = WeightAveraging(**options)
    also_trained = Found()
    plain.fit(**DATA, epochs=4, callbacks=[without, also_trained], validation_data=(X, Y))
    for one, other in zip(trained.weights, also_trained.weights, strict=True):
        assert_same(one, other)  # the other callbacks, and training, are as without it
    same_states(averaging, without)


def test_the_best_weights_are_those_that_were_measured(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "best.keras"
    x, y = X[::-1] + 1, Y * 0.5  # it gets worse after a while
    averaging, found = WeightAveraging(0.9), Found()
    saver = keras.callbacks.ModelCheckpoint(path, save_best_only=True)
    stopper = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    callbacks = [averaging, *map(averaging.on_average, (saver, stopper, found))]
    model.fit(**DATA, epochs=20, callbacks=callbacks, validation_data=(x, y))
    best = int(np.argmin(found.losses))
    assert best == len(found.losses) - 3
    assert_same(weights(model), found.weights[best])
    assert_same(weights(keras.models.load_model(path)), found.weights[best])
    assert model.evaluate(x, y, verbose=0) == pytest.approx(found.losses[best], rel=1e-5)


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_callback_on_the_average_comes_after_it(is_listed: bool) -> None:
    averaging = WeightAveraging(0.9)
    found = averaging.on_average(Found())
    with pytest.raises(InputError, match=r"write callbacks=\[averaging, Found\]"):
        net().fit(**DATA, callbacks=[found, averaging] if is_listed else [found], validation_data=(X, Y))
