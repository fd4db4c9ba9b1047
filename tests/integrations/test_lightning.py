"""The Lightning callback: the same numbers as a plain loop, and the right weights at every moment."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from switch_ema import EMA, LAWA, SWA, Averager, Lookahead, PostHocEMA, SwitchEMA
from switch_ema.integrations.lightning import WeightAveraging
from tests.integrations.lightning_modules import QUIET, Module, fit, trainer
from tests.integrations.modules import Batch, Loader, assert_same, batches, network, plain_loop, sgd

pytestmark = QUIET
SWITCH = partial(SwitchEMA, decay=0.9, switch_every="1 epoch")


def under_net(state: dict[str, Any]) -> dict[str, Any]:
    return {f"net.{name}": value for name, value in state.items()}


def saved_after(trains: Any, folder: Path) -> dict[str, Any]:
    trains.save_checkpoint(folder / "after.ckpt")
    saved: dict[str, Any] = torch.load(folder / "after.ckpt", weights_only=True)
    return saved


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    "method",
    [
        partial(SwitchEMA, decay=0.8, switch_every="0.4 epoch"),
        partial(EMA, decay="window 1 epoch"),
        SWA,
        partial(LAWA, window=2),
        partial(Lookahead, k=3),
    ],
    ids=["part of an epoch", "window", "SWA", "LAWA", "Lookahead"],
)
def test_equals_a_plain_loop(tmp_path: Path, method: Any, accumulate: int) -> None:
    asks = isinstance(method, partial) and method.func in (SwitchEMA, EMA)
    told = partial(method, steps_per_epoch=5 if accumulate == 1 else 3) if asks else method
    plain = plain_loop(told, accumulate=accumulate)
    module, trains = fit(tmp_path, WeightAveraging(method), accumulate_grad_batches=accumulate)
    assert_same(module.seen, plain.seen)
    assert_same(dict(module.net.state_dict()), dict(plain.averager.averaged_state_dict()))
    saved, expected = saved_after(trains, tmp_path), plain.averager.state_dict()
    assert_same(saved["state_dict"], under_net(plain.averager.averaged_state_dict()))
    assert_same(saved["current_model_state"], under_net(dict(plain.model.state_dict())))
    assert_same(saved["switch_ema"]["counters"], expected["counters"])
    assert_same(saved["switch_ema"]["averages"], under_net(expected["averages"]))


def test_training_under_autocast(tmp_path: Path) -> None:
    callback = WeightAveraging(SWITCH)
    module, _ = fit(tmp_path, callback, precision="bf16-mixed", max_epochs=1)
    assert callback.averager.n_averaged == 5
    assert all(
        average.dtype == torch.float32
        for average in callback.averager.state_dict()["averages"].values()
        if average.is_floating_point()
    )
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_a_step_that_a_scaler_skips_is_no_step(tmp_path: Path) -> None:
    class Overflows(Module):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * float("inf") if batch_idx == 2 else loss

    callback = WeightAveraging(SWITCH)
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0))
    trains = trainer(tmp_path, callback, plugins=[precision], max_epochs=2)
    trains.fit(Overflows(), Loader(batches()))
    assert callback.averager.n_averaged == 8


def test_of_several_optimizers_the_last_completes_a_step(tmp_path: Path) -> None:
    class Gan(Module):
        automatic_optimization = False

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.critic = nn.Linear(4, 1)

        def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
            critic, generator = cast(list[Any], self.optimizers())
            for _ in range(2):
                self.manual_backward(self.critic(batch[0]).mean())
                critic.step()
            self.manual_backward(super().training_step(batch, batch_idx))
            generator.step()

        def configure_optimizers(self) -> Any:
            return [sgd(self.critic), sgd(self.net)]

    callback = WeightAveraging(SWITCH)
    trainer(tmp_path, callback, max_epochs=2).fit(Gan(), Loader(batches()))
    assert callback.averager.n_averaged == 10
    assert callback.averager.n_switches == 2


def test_validates_on_the_average_in_the_middle_of_an_epoch_too(tmp_path: Path) -> None:
    method = partial(EMA, decay=0.9)
    module, trains = fit(tmp_path, WeightAveraging(method), max_epochs=1, val_check_interval=1, num_sanity_val_steps=1)
    plain = [plain_loop(method, epochs=1, number=i).averager.averaged_state_dict() for i in range(1, 6)]
    assert_same(module.seen, list(map(dict, plain)))
    assert_same(
        saved_after(trains, tmp_path)["current_model_state"],
        under_net(dict(plain_loop(method, epochs=1).model.state_dict())),
    )


def test_the_module_is_averaged_as_it_is_when_training_starts(tmp_path: Path) -> None:
    class Late(Module):
        def configure_model(self) -> None:
            self.net = network(seed=3)

    callback = WeightAveraging(SWITCH)
    module = Late()
    trainer(tmp_path, callback, max_epochs=1).fit(module, Loader(batches()))
    assert callback.averager.n_averaged == 5
    assert callback.averager.model is module


class Fails(Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if self.trainer.current_epoch == 1:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_the_trained_weights_come_back_after_an_exception(tmp_path: Path, error: BaseException) -> None:
    handler = signal.getsignal(signal.SIGINT)
    callback, module = WeightAveraging(SWITCH), Fails(error)
    try:
        with pytest.raises((RuntimeError, SystemExit, KeyboardInterrupt)):
            trainer(tmp_path, callback).fit(module, Loader(batches()), Loader(batches(1)))
    finally:
        signal.signal(signal.SIGINT, handler)
    plain = plain_loop(SWITCH, epochs=2)
    assert_same(dict(module.net.state_dict()), dict(plain.model.state_dict()))
    assert_same(callback.averager.state_dict()["counters"], plain.averager.state_dict()["counters"])
    assert_same(callback.averager.averaged_state_dict(), under_net(plain.averager.averaged_state_dict()))


def test_tests_and_predicts_on_the_average_after_training(tmp_path: Path) -> None:
    method = partial(EMA, decay=0.9)
    module, trains = fit(tmp_path, WeightAveraging(method), max_epochs=1)
    average = plain_loop(method, epochs=1).averager.averaged_state_dict()
    trains.validate(module, Loader(batches(1)), verbose=False)
    trains.test(module, Loader(batches(1)), verbose=False)
    assert_same(module.seen[-2:], [dict(average), dict(average)])
    predicted = cast(list[Any], trains.predict(module, Loader(batches(1))))[0]
    plain = network()
    plain.load_state_dict(average)
    assert torch.equal(torch.as_tensor(predicted), plain.eval()(batches(1)[0][0]))


def test_evaluates_without_training(tmp_path: Path) -> None:
    module = Module()
    trainer(tmp_path, WeightAveraging(SWITCH)).validate(module, Loader(batches(1)), verbose=False)
    assert_same(module.seen, [dict(network().state_dict())])


def without_momentum(module: Module) -> Any:
    return torch.optim.SGD(module.parameters(), lr=0.05)


@pytest.mark.parametrize("method", [SWITCH, partial(EMA, decay=0.9)], ids=["SwitchEMA", "EMA"])
def test_another_fit_goes_on_with_the_trained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    monkeypatch.setattr(Module, "configure_optimizers", without_momentum)  # it is made anew by each fit()
    whole = WeightAveraging(method)
    expected, _ = fit(tmp_path, whole)
    callback = WeightAveraging(method)
    module, trains = fit(tmp_path, callback, max_epochs=1)
    trains.fit_loop.max_epochs = 3
    trains.fit(module, Loader(batches()), Loader(batches(1)))
    assert_same(module.state_dict(), expected.state_dict())
    assert_same(callback.averager.state_dict(), whole.averager.state_dict())


def test_weights_that_are_loaded_between_two_fits_are_trained(tmp_path: Path) -> None:
    callback = WeightAveraging(SWITCH)
    module, trains = fit(tmp_path, callback, max_epochs=1)
    module.net.load_state_dict(network(seed=5).state_dict())
    assert "switch_ema" not in saved_after(trains, tmp_path)
    trains.fit_loop.max_epochs = 2
    with pytest.warns(UserWarning, match="were changed after the last fit"):
        trains.fit(module, Loader(batches()))
    assert callback.averager.n_averaged == 5


def test_an_epoch_that_is_cut_short_does_not_count(tmp_path: Path) -> None:
    callback = WeightAveraging(SWA)
    fit(tmp_path, callback, max_epochs=-1, max_steps=13)
    assert callback.averager.state_dict()["counters"]["epochs"] == 2


def test_an_epoch_that_the_module_ends_counts(tmp_path: Path) -> None:
    class Ends(Module):
        def on_train_batch_start(self, batch: Batch, batch_idx: int) -> int | None:
            return -1 if batch_idx == 3 else None

    callback = WeightAveraging(SWA)
    trainer(tmp_path, callback, max_epochs=2).fit(Ends(), Loader(batches()))
    counters = callback.averager.state_dict()["counters"]
    assert (counters["epochs"], counters["steps"]) == (2, 6)


def test_post_hoc_averages_leave_the_module_alone(tmp_path: Path) -> None:
    callback = WeightAveraging(partial(PostHocEMA, snapshot_every="1 epoch", folder=tmp_path / "snapshots"))
    module, trains = fit(tmp_path, callback)
    assert_same(dict(module.net.state_dict()), dict(plain_loop(SWA).model.state_dict()))
    assert callback.averager.n_averaged == 15
    assert len(list((tmp_path / "snapshots").iterdir())) == 6
    assert saved_after(trains, tmp_path)["switch_ema"]["run"] == callback.averager.run


@pytest.mark.parametrize("given", [{"fast_dev_run": True}, {"barebones": True}], ids=str)
def test_short_ways_to_train(tmp_path: Path, given: dict[str, Any]) -> None:
    callback = WeightAveraging(SWITCH)
    fit(tmp_path, callback, **given)
    assert callback.averager.n_averaged == (1 if "fast_dev_run" in given else 15)


@pytest.mark.parametrize("given", [{"max_epochs": 0}, {"limit_train_batches": 0}], ids=str)
def test_a_training_without_steps_is_told(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match="made no step"):
        fit(tmp_path, WeightAveraging(SWITCH), **given)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_epochs": 1000, "max_steps": 12},
        {"max_epochs": -1, "max_steps": 12},
        {"max_epochs": None, "max_steps": 7, "accumulate_grad_batches": 2},
        {"max_epochs": 2, "max_steps": 40},
        {"max_epochs": 2},
    ],
    ids=str,
)
def test_a_method_is_told_how_long_training_will_be(tmp_path: Path, limits: dict[str, Any]) -> None:
    told: list[float] = []

    def method(model: nn.Module, steps_per_epoch: int | None = None, epochs: float | None = None) -> Averager:
        told.append((steps_per_epoch or 0) * (epochs or 0))
        return EMA(model, decay="auto", steps_per_epoch=steps_per_epoch, epochs=epochs)

    _, trains = fit(tmp_path, WeightAveraging(method), **limits)
    assert told == [pytest.approx(trains.global_step)]


def test_a_length_that_is_not_known_is_not_guessed(tmp_path: Path) -> None:
    class Endless(Loader):
        __len__ = None  # type: ignore[assignment]

    trains = trainer(tmp_path, WeightAveraging(partial(EMA, decay="auto", steps_per_epoch=5)), max_steps=5)
    with pytest.raises(ValueError, match="'auto' needs the length of training"):
        trains.fit(Module(), Endless(batches()))


class Untrained(Module):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return []


def test_misuse(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging
    from lightning.pytorch.strategies import FSDPStrategy

    with pytest.raises(ValueError, match="method is a float; give what makes the averager"):
        WeightAveraging(0.999)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="makes a Linear, not an averager"):
        fit(tmp_path, WeightAveraging(lambda model: nn.Linear(1, 1)))
    with pytest.raises(RuntimeError, match="no averager yet"):
        _ = WeightAveraging(SWITCH).averager
    for other in (WeightAveraging(SWA), EMAWeightAveraging(), StochasticWeightAveraging(1e-2)):
        with pytest.raises(ValueError, match="two callbacks average the weights"):
            fit(tmp_path, WeightAveraging(SWITCH), other)
    with pytest.raises(ValueError, match=r"configure_optimizers\(\) of Untrained returns no optimizer"):
        trainer(tmp_path, WeightAveraging(SWITCH)).fit(Untrained(), Loader(batches()))
    trains = trainer(tmp_path)
    trains.strategy.__class__ = FSDPStrategy
    with pytest.raises(ValueError, match="FSDPStrategy keeps the weights in flat pieces"):
        WeightAveraging(SWITCH).setup(trains, Module(), "fit")
    checkpoint = ModelCheckpoint(tmp_path / "weights", save_weights_only=True)
    with pytest.warns(UserWarning, match="save_weights_only"):
        fit(tmp_path, WeightAveraging(SWITCH), checkpoint, enable_checkpointing=True, max_epochs=1)
