"""Lightning's own checkpoints with the callback: training goes on bit for bit from each, and they load without us."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, EMAWeightAveraging, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from torch import Tensor

from switch_ema import LAWA, SwitchEMA
from switch_ema.integrations.lightning import WeightAveraging
from tests.integrations.lightning_modules import QUIET, Module, fit, trainer
from tests.integrations.modules import Loader, assert_same, batches, network, plain_loop

pytestmark = QUIET
SWITCH = partial(SwitchEMA, decay=0.9, switch_every="0.4 epoch")


def everything(folder: Path, **given: Any) -> ModelCheckpoint:
    return ModelCheckpoint(folder, filename="{epoch}-{step}-" + folder.name, save_top_k=-1, **given)


class WhileSwapped(Callback):
    """Saves when the module holds the average."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"swapped-{trainer.global_step}.ckpt")


@pytest.mark.parametrize(
    ("method", "after_validation"),
    [(SWITCH, False), (SWITCH, True), (partial(LAWA, window=2), True)],
    ids=["SwitchEMA, epochs", "SwitchEMA, validations", "LAWA, validations"],
)
def test_goes_on_bit_for_bit_from_every_checkpoint(tmp_path: Path, method: Any, after_validation: bool) -> None:
    kinds = [
        everything(tmp_path / "steps", every_n_train_steps=1),
        everything(tmp_path / "epochs", save_on_train_epoch_end=not after_validation),
    ]
    given = {"max_epochs": 2, "val_check_interval": 2, "enable_checkpointing": True}
    whole = WeightAveraging(method)
    expected, trains = fit(tmp_path, whole, *kinds, WhileSwapped(tmp_path), **given)
    assert trains.global_step == 10
    files = sorted(tmp_path.rglob("*.ckpt"))
    assert {path.parent.name for path in files} >= {"steps", "epochs"}
    assert any(path.name.startswith("swapped") for path in files)
    for path in files:
        torch.manual_seed(1)
        callback = WeightAveraging(method)
        module, again = fit(tmp_path, callback, ckpt_path=path, **{**given, "enable_checkpointing": False})
        assert again.global_step == 10
        assert_same(module.state_dict(), expected.state_dict(), path.name)
        if torch.load(path, weights_only=True)["global_step"] < 10:  # there was something left to do
            assert_same(callback.averager.state_dict(), whole.averager.state_dict(), path.name)


def test_a_checkpoint_loads_without_us(tmp_path: Path) -> None:
    module, _ = fit(tmp_path, WeightAveraging(SWITCH), everything(tmp_path), enable_checkpointing=True)
    for i, path in enumerate(sorted(tmp_path.glob("*.ckpt"), key=lambda path: path.stat().st_mtime)):
        plain = plain_loop(partial(SWITCH, steps_per_epoch=5), epochs=i + 1)
        loaded = Module.load_from_checkpoint(path, map_location="cpu", weights_only=True)
        assert_same(dict(loaded.net.state_dict()), dict(plain.averager.averaged_state_dict()))
        trained = torch.load(path, weights_only=True)["current_model_state"]
        assert_same(
            {name.removeprefix("net."): value for name, value in trained.items()}, dict(plain.model.state_dict())
        )
    other = Module()
    trainer(tmp_path).test(other, Loader(batches(1)), ckpt_path=path, verbose=False, weights_only=True)
    assert_same(other.state_dict(), module.state_dict())


def test_goes_on_from_what_was_saved_after_training(tmp_path: Path) -> None:
    whole = WeightAveraging(SWITCH)
    expected, _ = fit(tmp_path, whole)
    _, trains = fit(tmp_path, WeightAveraging(SWITCH), max_epochs=1)
    trains.save_checkpoint(tmp_path / "after.ckpt")
    callback = WeightAveraging(SWITCH)
    module, _ = fit(tmp_path, callback, ckpt_path=tmp_path / "after.ckpt")
    assert_same(module.state_dict(), expected.state_dict())
    assert_same(callback.averager.state_dict(), whole.averager.state_dict())


@pytest.mark.parametrize("others", [[], [EMAWeightAveraging(decay=0.5)]], ids=["none", "Lightning's own"])
def test_a_checkpoint_without_our_state_is_told(tmp_path: Path, others: list[Callback]) -> None:
    trains = trainer(tmp_path, *others, max_epochs=1)
    trains.fit(Module(), Loader(batches()))
    trains.save_checkpoint(tmp_path / "theirs.ckpt")
    theirs = torch.load(tmp_path / "theirs.ckpt", weights_only=True)
    callback = WeightAveraging(SWITCH)
    trains = trainer(tmp_path, callback, max_epochs=2)
    with pytest.warns(UserWarning, match="was saved without this callback"):
        trains.fit(Module(), Loader(batches()), ckpt_path=tmp_path / "theirs.ckpt")
    assert callback.averager.n_averaged == 5
    assert theirs["global_step"] == 5


def test_a_checkpoint_of_another_method_is_refused(tmp_path: Path) -> None:
    _, trains = fit(tmp_path, WeightAveraging(SWITCH), max_epochs=1)
    trains.save_checkpoint(tmp_path / "after.ckpt")
    with pytest.raises(ValueError, match="make the averager with the method it was saved from"):
        fit(tmp_path, WeightAveraging(LAWA), ckpt_path=tmp_path / "after.ckpt")


def test_a_checkpoint_is_evaluated_without_training(tmp_path: Path) -> None:
    module, trains = fit(tmp_path, WeightAveraging(SWITCH), max_epochs=1)
    trains.save_checkpoint(tmp_path / "after.ckpt")
    other = Module()
    evaluates = trainer(tmp_path, WeightAveraging(SWITCH))
    evaluates.test(other, Loader(batches(1)), ckpt_path=tmp_path / "after.ckpt", verbose=False)
    assert_same(other.seen, [dict(module.net.state_dict())])
    assert not torch.equal(network().get_parameter("0.weight"), module.net.get_parameter("0.weight"))


class Start(Callback):
    """Keeps the weights that training starts from."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights = self.weights or {name: value.clone() for name, value in pl_module.state_dict().items()}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of one epoch."""
    _, trains = fit(tmp_path, WeightAveraging(SWITCH), max_epochs=1)
    trains.save_checkpoint(tmp_path / "saved.ckpt")
    return tmp_path / "saved.ckpt"


def trained_in(path: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(path, weights_only=True)["current_model_state"]
    return dict(weights)


class Other(Module):
    """Has an optimizer to which a checkpoint does not fit."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([{"params": [p]} for p in self.net.parameters()], lr=0.05)


def test_a_resume_that_fails_leaves_nothing_to_the_next_fit(tmp_path: Path, saved: Path) -> None:
    callback, start, module = WeightAveraging(SWITCH), Start(), Module()
    trains = trainer(tmp_path, callback, start, max_epochs=2)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        trains.fit(Other(), Loader(batches()), ckpt_path=saved)
    trains = trainer(tmp_path, callback, start, max_epochs=2)
    trains.fit(module, Loader(batches()))
    assert_same(start.weights, dict(Module().state_dict()))
    assert callback.averager.n_averaged == 10


def test_a_resume_with_nothing_left_to_do_can_be_saved_and_leaves_nothing(tmp_path: Path, saved: Path) -> None:
    callback, start = WeightAveraging(SWITCH), Start()
    _, trains = fit(tmp_path, callback, start, max_epochs=1, ckpt_path=saved)
    trains.save_checkpoint(tmp_path / "again.ckpt")
    assert_same(trained_in(tmp_path / "again.ckpt"), trained_in(saved))
    trains.fit_loop.max_epochs = 2
    trains.fit(Module(), Loader(batches()))
    assert_same(start.weights, dict(Module().state_dict()))
    assert callback.averager.n_averaged == 5


class Sized(Module):
    """Has what the search for a batch size asks for."""

    batch_size = 6

    def train_dataloader(self) -> Loader:
        return Loader(batches())

    def val_dataloader(self) -> Loader:
        return Loader(batches(1))


FINDERS = [
    partial(LearningRateFinder, num_training_steps=2, update_attr=False),
    partial(BatchSizeFinder, max_trials=1, steps_per_trial=1),
]


@pytest.mark.parametrize("resumes", [True, False], ids=["resumed", "from the beginning"])
@pytest.mark.parametrize("finder", FINDERS, ids=["learning rate", "batch size"])
def test_a_search_before_training_changes_nothing(
    tmp_path: Path, saved: Path, finder: Callable[[], Callback], resumes: bool
) -> None:
    callback, start = WeightAveraging(SWITCH), Start()
    trains = trainer(tmp_path, finder(), callback, start, max_epochs=2)
    trains.fit(Sized(), ckpt_path=saved if resumes else None)
    assert_same(start.weights, trained_in(saved) if resumes else dict(Module().state_dict()))
    assert callback.averager.n_averaged == 5 * resumes + trains.global_step


class Later(LearningRateFinder):
    """Searches when the second epoch begins."""

    def on_fit_start(self, *_: Any) -> None:
        return

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.lr_find(trainer, pl_module)


def test_a_search_within_training_changes_nothing(tmp_path: Path) -> None:
    whole = WeightAveraging(SWITCH)
    expected, _ = fit(tmp_path, whole)
    callback = WeightAveraging(SWITCH)
    module, _ = fit(tmp_path, callback, Later(num_training_steps=2, update_attr=False))
    assert_same(module.state_dict(), expected.state_dict())
    assert_same(callback.averager.state_dict(), whole.averager.state_dict())


def test_a_search_between_two_fits_changes_nothing(tmp_path: Path) -> None:
    callback, start = WeightAveraging(SWITCH), Start()
    module, trains = fit(tmp_path, callback, max_epochs=1)
    trains.save_checkpoint(tmp_path / "saved.ckpt")
    trains.fit_loop.max_epochs = 2
    Tuner(trains).lr_find(module, Loader(batches()), num_training=2, update_attr=False)
    cast(Any, trains).callbacks.append(start)
    trains.fit(module, Loader(batches()))
    assert_same(start.weights, trained_in(tmp_path / "saved.ckpt"))
    assert callback.averager.n_averaged == 10
