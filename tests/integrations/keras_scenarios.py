"""What the Keras callback must do, on the backend that KERAS_BACKEND names; test_keras.py runs this once for each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from switch_ema.averaging.safewriter import write_safetensors
from switch_ema.errors import InputError
from switch_ema.integrations.keras import WeightAveraging
from tests.integrations import vector


def linear(start: dict[str, Any] | None = None, **compiled: Any) -> Any:
    layer = keras.layers.Dense(2, name="layer")
    model = keras.Sequential([keras.Input((3,)), layer])
    layer.set_weights(list((start or vector.start()).values()))
    model.compile(keras.optimizers.SGD(vector.RATE, **compiled), loss=lambda y, out: ops.sum(y * out, axis=-1))
    return model


def fit(model: Any, *callbacks: Any, epochs: int = vector.EPOCHS, **options: Any) -> None:
    x, y = vector.data()
    for epoch in range(options.pop("initial_epoch", 0), epochs):
        rows = slice(epoch * vector.STEPS_PER_EPOCH, (epoch + 1) * vector.STEPS_PER_EPOCH)
        model.fit(
            x[rows], y[rows], batch_size=1, shuffle=False, verbose=0, callbacks=list(callbacks),
            epochs=epoch + 1, initial_epoch=epoch, **options,
        )  # fmt: skip


def named(model: Any) -> dict[str, Any]:
    return dict(zip(("kernel", "bias"), model.layers[-1].get_weights(), strict=True))


def average_of(averaging: WeightAveraging) -> dict[str, Any]:
    return {name.rpartition("/")[2]: value for name, value in averaging.state_dict()["averages"].items()}


@pytest.mark.parametrize("case", vector.CASES, ids=lambda case: case.name)
def test_it_agrees_with_the_twin(case: vector.Case) -> None:
    model = linear()
    averaging = WeightAveraging(**case.options, copy_at_end=False)
    fit(model, averaging)
    vector.check(case, named(model), average_of(averaging), averaging.n_averaged, averaging.n_switches)


def net(**compiled: Any) -> Any:
    keras.utils.set_random_seed(1)
    layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.05, **compiled), loss="mse")
    return model


# Keras asks torch tensors for numpy arrays in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation does:DeprecationWarning")
X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
DATA: dict[str, Any] = {"x": X, "y": Y, "batch_size": 4, "verbose": 0, "shuffle": False}


def weights(model: Any) -> list[Any]:
    return [np.array(value) for value in model.get_weights()]


def assert_same(first: list[Any], second: list[Any]) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def loss_with(values: list[Any]) -> float:
    model = net()
    model.set_weights(values)
    return float(model.evaluate(X, Y, verbose=0))


def test_accumulation_is_one_update_per_real_step() -> None:
    averaging = WeightAveraging(0.9, switch_every=2, copy_at_end=False)
    net(gradient_accumulation_steps=3).fit(**DATA, epochs=2, callbacks=[averaging])
    assert (averaging.n_averaged, averaging.n_switches) == (4, 2)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras refuses steps_per_execution on torch")
def test_several_steps_at_once_are_one_update() -> None:
    model = net()
    model.steps_per_execution = 3
    averaging = WeightAveraging(0.9, switch_every=6, copy_at_end=False)
    model.fit(**DATA, epochs=2, callbacks=[averaging])
    assert (averaging.n_averaged, averaging.n_switches) == (4, 2)
    assert averaging.state_dict()["counters"]["steps"] == 12


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[float, list[Any]]] = []

    def on_test_end(self, logs: Any = None) -> None:
        self.evaluated = weights(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.found.append((logs["val_loss"], self.evaluated))


def test_evaluation_is_on_the_average_and_training_goes_on() -> None:
    plain, model = net(), net()
    plain.fit(**DATA, epochs=3)
    averaging, watch = WeightAveraging(0.9, copy_at_end=False), Watch()
    model.fit(**DATA, epochs=3, callbacks=[watch, averaging], validation_data=(X, Y))
    assert_same(weights(model), weights(plain))  # a passive average does not touch training
    assert len({loss for loss, _ in watch.found}) == 3
    for loss, evaluated in watch.found:
        assert loss == pytest.approx(loss_with(evaluated), rel=1e-5)

    with averaging.average_parameters():
        average = weights(model)
    assert any(np.any(one != other) for one, other in zip(average, weights(model), strict=True))
    assert_same(weights(model), weights(plain))
    assert model.evaluate(X, Y, verbose=0, callbacks=[averaging]) == pytest.approx(loss_with(average), rel=1e-5)
    predicted = model.predict(X, verbose=0, callbacks=[averaging])
    assert float(np.mean((predicted - Y) ** 2)) == pytest.approx(loss_with(average), rel=1e-5)
    assert_same(weights(model), weights(plain))
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(loss_with(weights(plain)), rel=1e-5)


def test_statistics_of_batches_are_averaged_with_the_weights() -> None:
    model, averaging = net(), WeightAveraging(0.5)
    model.fit(**DATA, epochs=1, callbacks=[averaging])
    names = {variable.path.rpartition("/")[2] for variable in model.variables if "moving" in variable.path}
    assert names == {"moving_mean", "moving_variance"}
    averages = averaging.state_dict()["averages"]
    assert len(averages) == len(model.weights) == 8
    for average, weight in zip(averages.values(), model.weights, strict=True):  # the model holds the average at the end
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), average)


def test_what_is_trained_comes_back_after_an_exception() -> None:
    class BrokenError(Exception):
        pass

    class Broken(keras.callbacks.Callback):  # type: ignore[misc]
        def on_test_begin(self, logs: Any = None) -> None:
            raise BrokenError

    model, plain = net(), net()
    averaging = WeightAveraging(0.9)
    with pytest.raises(BrokenError):
        model.fit(**DATA, callbacks=[averaging, Broken()], validation_data=(X, Y))
    plain.fit(**DATA)
    averaging.restore()
    assert_same(weights(model), weights(plain))


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    model, pattern = net(), str(tmp_path / "averages-{epoch}.safetensors")
    options: dict[str, Any] = {"decay": 0.9, "switch_every": "1 epoch", "update_every": 4}
    whole = WeightAveraging(**options, checkpoint=pattern)
    saver = keras.callbacks.ModelCheckpoint(str(tmp_path / "model-{epoch}.keras"))
    model.fit(**DATA, epochs=4, callbacks=[whole, saver])

    again = keras.models.load_model(tmp_path / "model-2.keras")
    resumed = WeightAveraging(**options)
    resumed.load(tmp_path / "averages-2.safetensors")
    again.fit(**DATA, initial_epoch=2, epochs=4, callbacks=[resumed])
    assert_same(weights(again), weights(model))
    assert resumed.state_dict()["counters"] == whole.state_dict()["counters"]
    averages = resumed.state_dict()["averages"]
    assert len(averages) == 8
    for name, value in whole.state_dict()["averages"].items():
        np.testing.assert_array_equal(averages[name], value)


def test_narrow_weights_have_a_float32_average() -> None:
    layer = keras.layers.Dense(2, dtype="bfloat16")
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    averaging = WeightAveraging(0.9999)
    model.fit(X, np.tile(Y, 2), verbose=0, callbacks=[averaging])
    assert {value.dtype for value in averaging.state_dict()["averages"].values()} == {np.dtype("float32")}
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == "bfloat16"


def test_wrong_arguments_are_refused() -> None:
    for options, message in (
        ({"decay": 1.5}, "share of the old average"),
        ({"switch_every": "0.5 epoch"}, "needs steps_per_epoch"),
        ({"update_every": "1 epoch"}, "write update_every in steps"),
    ):
        with pytest.raises(InputError, match=message):
            WeightAveraging(**options)
    with pytest.raises(InputError, match=r"call model\.fit"):
        WeightAveraging().state_dict()


@pytest.mark.parametrize("fault", ["short", "flipped", "a pickle", "another file"])
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, fault: str) -> None:
    averaging, path = WeightAveraging(0.9), tmp_path / "averages.safetensors"
    net().fit(**DATA, callbacks=[averaging])
    averaging.save(path)
    content = bytearray(path.read_bytes())
    if fault == "short":
        content = content[:-40]
    elif fault == "flipped":
        content[len(content) // 2] ^= 1
    elif fault == "a pickle":
        content = bytearray(b"\x80\x04}.")
    else:
        write_safetensors(path, {}, {}, lambda name: [])
        content = bytearray(path.read_bytes())
    path.write_bytes(content)
    other = WeightAveraging(0.9)
    with pytest.raises(InputError) as refused:
        other.load(path)
    assert "\n" not in str(refused.value)
    assert other.n_averaged == 0


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    averaging = WeightAveraging(0.9)
    net().fit(**DATA, callbacks=[averaging])
    state = averaging.state_dict()
    other = WeightAveraging(0.9)
    other.load_state_dict(state)
    with pytest.raises(InputError, match="does not fit the model"):
        fit(linear(), other, epochs=1)
    with pytest.raises(InputError, match="not the state of WeightAveraging"):
        other.load_state_dict({"averages": {}})


DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "heading", "count"), [("migrate.md", "Keras: use_ema", 2), ("integrations.md", "Keras", 2)]
)
def test_the_pages_run(page: str, heading: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sections = re.split(r"^## ", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    [section] = [part for part in sections if part.startswith(f"{heading}\n")]
    blocks = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == count
    for code in blocks:
        exec(compile(code, page, "exec"), {"__name__": "__main__"})


def test_an_average_of_use_ema_is_ours() -> None:
    before, after = linear(use_ema=True, ema_momentum=0.9), linear()
    averaging = WeightAveraging(0.9, copy_at_end=False)
    x, y = vector.data()
    for row in range(6):
        before.train_on_batch(x[row : row + 1], y[row : row + 1])
    fit(after, averaging, epochs=1)
    theirs = zip(before.trainable_variables, before.optimizer._model_variables_moving_average, strict=True)
    ours = averaging.state_dict()["averages"]
    first = {v.path.rpartition("/")[2]: ops.convert_to_numpy(average) for v, average in theirs}
    # its average begins with a copy of the weights after the first step, ours with those at the start
    moved = {name: vector.RATE * value for name, value in vector.gradients(x[0], y[0]).items()}
    for path, average in ours.items():
        name = path.rpartition("/")[2]
        np.testing.assert_allclose(average, first[name] + 0.9**6 * moved[name], rtol=1e-5, atol=1e-6)
