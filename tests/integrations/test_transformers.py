"""The Trainer callback in the real Trainer: when it updates, what is evaluated, saved and left at the end."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from switch_ema import EMA, LAWA, SWA, Averager, PostHocEMA, SwitchEMA
from switch_ema.errors import InputError, MissingLibraryError
from switch_ema.integrations import transformers as module
from switch_ema.integrations.transformers import STATE_FILE, WeightAveragingCallback
from tests.averaging.reference import ExponentialTwin, exact

EVERY_EPOCH = partial(SwitchEMA, decay=0.8, switch_every="1 epoch")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:mtime may not be reliable:UserWarning"),  # of versions before 5
]


class Net(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        outputs = self.layers(inputs)
        return {"loss": (outputs - labels).square().mean(), "outputs": outputs}


def examples(count: int, seed: int = 0) -> list[dict[str, Tensor]]:
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return [{"inputs": row, "labels": row.sum().reshape(1)} for row in inputs]


def trainer_of(
    folder: Path, model: nn.Module | None = None, data: Any = None, held_out: Any = None, **arguments: Any
) -> Trainer:
    """24 examples in batches of 4, two to a step: 3 steps in an epoch; compute_metrics= and callbacks= as usual."""
    for_trainer = {name: arguments.pop(name) for name in ("compute_metrics", "callbacks") if name in arguments}
    settings: dict[str, Any] = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 0.05,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
        "optim": "adamw_torch",
        **arguments,
    }
    return Trainer(
        model or Net(),
        TrainingArguments(str(folder), **settings),
        train_dataset=examples(24) if data is None else data,
        eval_dataset=examples(8, seed=1) if held_out is None else held_out,
        **for_trainer,
    )


def averaged(trainer: Trainer, method: Callable[..., Any] = EVERY_EPOCH, **options: Any) -> WeightAveragingCallback:
    return WeightAveragingCallback(method, **options).attach(trainer)


class Recorder(TrainerCallback):  # type: ignore[misc]
    """Follows a float64 twin by the Trainer's own events, and keeps what was there at each evaluation."""

    def __init__(self, twin: Callable[..., ExponentialTwin], model: nn.Module) -> None:
        self.model = model
        self.twin = twin(exact(model), {"layers.1.num_batches_tracked"})
        self.evaluated: list[dict[str, float]] = []

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.twin.step(exact(self.model))

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        if self.twin.epoch(self.live):
            assert_close(self.model, self.twin.average)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.live = exact(self.model)

    def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
        self.evaluated.append(metrics)


def assert_close(model: nn.Module, average: dict[str, Tensor]) -> None:
    for name, value in exact(model).items():
        torch.testing.assert_close(value, average[name], rtol=1e-5, atol=1e-6, msg=name)


def assert_same(first: Any, second: Any) -> None:
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list):
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert torch.equal(first, second) if isinstance(first, Tensor) else first == second


def train(trainer: Trainer, **options: Any) -> None:
    set_seed(3)  # of dropout, which goes on from one training of this process to the next
    trainer.train(**options)


@torch.no_grad()
def loss_of(model: nn.Module, state: dict[str, Tensor], data: list[dict[str, Tensor]]) -> float:
    copy = type(model)().eval()
    copy.load_state_dict(state)
    batch = {key: torch.stack([row[key] for row in data]) for key in data[0]}
    return float(copy(**batch)["loss"])


def test_updates_and_switches_follow_real_steps_and_epochs(tmp_path: Path) -> None:
    model = Net()
    recorder = Recorder(partial(ExponentialTwin, decay=lambda n: 0.8, switch_at_epochs={1, 2, 3}), model)
    trainer = trainer_of(tmp_path, model)
    averaging = averaged(trainer)
    trainer.add_callback(recorder)
    train(trainer)
    assert (averaging.averager.n_averaged, averaging.averager.n_switches) == (9, 3)
    assert recorder.twin.n_averaged == 9
    assert_close(model, recorder.twin.average)


def test_a_step_that_a_scaler_skips_is_none(tmp_path: Path) -> None:
    data = examples(24)
    data[5] = {"inputs": torch.full((4,), torch.inf), "labels": torch.zeros(1)}
    model = Net()
    model.layers = nn.Sequential(nn.Linear(4, 1))  # without statistics, which a forward pass alone would spoil
    trainer = trainer_of(tmp_path, model, data, max_grad_norm=0, num_train_epochs=1)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    averaging = averaged(trainer, partial(EMA, decay=0.5))
    train(trainer)
    assert averaging.averager.n_averaged == 2
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


def test_an_epoch_that_is_broken_off_does_not_count(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_steps=5)
    averaging = averaged(trainer)
    train(trainer)
    assert (averaging.averager.n_averaged, averaging.averager.n_switches) == (5, 1)


def test_evaluation_is_on_the_average_and_training_goes_on(tmp_path: Path) -> None:
    plain, trainer = (trainer_of(tmp_path, eval_strategy="steps", eval_steps=2) for _ in range(2))
    averaging = averaged(trainer, partial(EMA, decay=0.9), copy_at_end=False)
    found = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
            expected = loss_of(trainer.model, averaging.averager.averaged_state_dict(), trainer.eval_dataset)
            found.append((metrics["eval_loss"], expected))

    trainer.add_callback(Watch())
    train(trainer)
    trainer.remove_callback(Watch)
    train(plain)
    assert len(found) == sum("eval_loss" in entry for entry in plain.state.log_history) >= 4  # newer versions add one
    torch.testing.assert_close(*map(torch.tensor, zip(*found, strict=True)))
    assert_same(trainer.model.state_dict(), plain.model.state_dict())  # a passive average does not touch training

    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    average = averaging.averager.averaged_state_dict()
    assert loss_of(trainer.model, average, trainer.eval_dataset) != loss_of(trainer.model, before, trainer.eval_dataset)
    data = trainer.eval_dataset
    assert trainer.evaluate()["eval_loss"] == pytest.approx(loss_of(trainer.model, average, data))
    assert trainer.evaluate({"a": data, "b": data})["eval_b_loss"] == pytest.approx(
        loss_of(trainer.model, average, data)
    )
    assert trainer.predict(data).metrics["test_loss"] == pytest.approx(loss_of(trainer.model, average, data))
    assert_same(trainer.model.state_dict(), before)


def test_what_is_trained_comes_back_after_an_exception(tmp_path: Path) -> None:
    class BrokenError(Exception):
        pass

    def broken(_: Any) -> dict[str, float]:
        raise BrokenError

    trainer = trainer_of(tmp_path, compute_metrics=broken, eval_strategy="epoch", label_names=["labels"])
    plain = trainer_of(tmp_path, callbacks=[Stop(after=3)])
    averaging = averaged(trainer, partial(EMA, decay=0.9))
    with pytest.raises(BrokenError):
        train(trainer)
    train(plain)
    assert averaging.averager.n_averaged == 3
    weights = [name for name, _ in plain.model.named_parameters()]
    for name in weights:
        assert_same(trainer.model.get_parameter(name), plain.model.get_parameter(name))
    optimizer = trainer.optimizer.optimizer
    optimizer.step()
    assert averaging.averager.n_averaged == 3  # it does not follow the optimizer any longer


def test_the_model_holds_the_average_at_the_end(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    averaging = averaged(trainer, partial(EMA, decay=0.9))
    train(trainer)
    assert_same(dict(trainer.model.state_dict()), dict(averaging.averager.averaged_state_dict()))
    trainer.save_model(str(tmp_path / "saved"))
    assert_same(load_file(tmp_path / "saved" / "model.safetensors"), dict(averaging.averager.averaged_state_dict()))


EPOCHS: dict[str, Any] = {"save_strategy": "epoch"}
STEPS: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1}
COURSES = [
    (EVERY_EPOCH, EPOCHS, (6,)),
    (EVERY_EPOCH, STEPS, (4, 6, 9)),  # within an epoch; after its last step, before its end; when all steps are done
    (partial(SwitchEMA, decay=0.8, switch_every="0.5 epoch", update_every=2), STEPS, (4, 6)),
    (partial(LAWA, window=2, update_every="2 steps"), STEPS, (7,)),
    (partial(SWA), STEPS, (6,)),
]


@pytest.mark.parametrize(("method", "options", "steps"), COURSES)
def test_resumed_equals_uninterrupted(
    tmp_path: Path, method: Callable[..., Any], options: dict[str, Any], steps: tuple[int, ...]
) -> None:
    folder = tmp_path / "whole"
    trainer = trainer_of(folder, **options)
    whole = averaged(trainer, method)
    train(trainer)
    for step in steps:
        again = trainer_of(tmp_path / "resumed", Net(seed=1), **options)
        resumed = averaged(again, method)
        train(again, resume_from_checkpoint=str(folder / f"checkpoint-{step}"))
        assert_same(again.model.state_dict(), trainer.model.state_dict())
        assert_same(resumed.averager.state_dict(), whole.averager.state_dict())
        assert_same(again.optimizer.state_dict()["state"], trainer.optimizer.state_dict()["state"])


def test_resume_finds_the_last_checkpoint(tmp_path: Path) -> None:
    whole, first, second = (
        trainer_of(tmp_path / name, Net(), save_strategy="steps", save_steps=1, save_total_limit=2)
        for name in ("whole", "parts", "parts")
    )
    averaged(whole)
    train(whole)
    averaged(first)
    first.add_callback(Stop(after=5))
    train(first)
    assert len(list((tmp_path / "parts").glob(f"checkpoint-*/{STATE_FILE}"))) == 2
    averaging = averaged(second)
    train(second, resume_from_checkpoint=True)
    assert averaging.averager.n_averaged == 9
    assert_same(second.model.state_dict(), whole.model.state_dict())


class Stop(TrainerCallback):  # type: ignore[misc]
    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step >= self.after


class SaveAt(TrainerCallback):  # type: ignore[misc]
    """Saves as transformers' `JITCheckpointCallback` does, of which `on_save` is not told, and stops."""

    trainer: Any = None

    def __init__(self, event: str, step: int) -> None:
        self.step = step
        setattr(self, event, self.save)

    def save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            control.should_save = False
            control.should_training_stop = True
            self.trainer._save_checkpoint(self.trainer.model, trial=None)


@pytest.mark.parametrize(
    ("event", "step"),
    [("on_step_end", 4), ("on_step_end", 6), ("on_epoch_end", 6), ("on_step_begin", 5)],
)
def test_resumes_from_a_checkpoint_of_which_callbacks_are_not_told(tmp_path: Path, event: str, step: int) -> None:
    saves = SaveAt(event, step)
    whole, first, second = (
        trainer_of(tmp_path / name, callbacks=[saves] if i == 1 else None)
        for i, name in enumerate(("whole", "parts", "parts"))
    )
    expected = averaged(whole)
    train(whole)
    averaged(first)
    saves.trainer = first
    train(first)
    averaging = averaged(second)
    train(second, resume_from_checkpoint=True)
    assert_same(averaging.averager.state_dict(), expected.averager.state_dict())
    assert_same(second.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("event", ["on_step_begin", "on_pre_optimizer_step"])
def test_a_checkpoint_before_the_first_step_of_an_epoch_does_not_end_it(tmp_path: Path, event: str) -> None:
    saves = SaveAt(event, 3)
    first, second = (trainer_of(tmp_path, callbacks=[saves] if i == 0 else None) for i in range(2))
    averaged(first)
    saves.trainer = first
    train(first)
    averaging = averaged(second)
    train(second, resume_from_checkpoint=True)
    assert (averaging.averager.n_averaged, averaging.averager.n_switches) == (9, 3)


@pytest.mark.parametrize("save_only_model", [False, True])
def test_what_is_pushed_to_the_hub_has_its_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_only_model: bool
) -> None:
    pushed: list[bool] = []
    trainer = trainer_of(tmp_path, save_strategy="epoch", save_total_limit=1, save_only_model=save_only_model)
    monkeypatch.setattr(trainer.args, "push_to_hub", True)
    monkeypatch.setattr(trainer, "create_model_card", lambda *_, **__: None)
    monkeypatch.setattr(trainer, "_push_from_checkpoint", lambda at: pushed.append(Path(at, STATE_FILE).is_file()))
    monkeypatch.setattr(trainer, "_finish_current_push", lambda: None)
    averaged(trainer)
    train(trainer)
    assert pushed == [True, True, True]
    assert [path.parent.name for path in tmp_path.glob(f"*/{STATE_FILE}")] == ["checkpoint-9"]


def test_a_trainer_that_saves_in_another_way_is_followed_too(tmp_path: Path) -> None:
    class Renamed(Trainer):  # type: ignore[misc]
        _save_checkpoint = property()  # is not there

    class Save(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *told: Any, **_: Any) -> None:
            trainer.callback_handler.on_save(*told)

    trainer = trainer_of(tmp_path, callbacks=[Save()])
    trainer.__class__ = Renamed
    (tmp_path / "checkpoint-1").mkdir()
    averaged(trainer)
    train(trainer)
    assert (tmp_path / "checkpoint-1" / STATE_FILE).is_file()


def test_the_best_checkpoint_brings_its_average(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path,
        num_train_epochs=6,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,  # so that the best is the first
    )
    averaging = averaged(trainer, partial(EMA, decay=0.5))
    train(trainer)
    assert trainer.state.best_global_step == 3
    assert averaging.averager.n_averaged == trainer.state.best_global_step
    assert_same(trainer.model.state_dict(), averaging.averager.averaged_state_dict())
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.state.best_metric)


def test_checkpoints_load_without_this_library(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, save_strategy="epoch")
    averaged(trainer, partial(EMA, decay=0.9))
    train(trainer)
    plain = trainer_of(tmp_path / "plain", Net(seed=1))
    train(plain, resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    straight = trainer_of(tmp_path / "straight")
    train(straight)
    assert_same(plain.model.state_dict(), straight.model.state_dict())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    trainer = trainer_of(tmp_path, max_steps=1, save_strategy="epoch")
    averaged(trainer)
    train(trainer)
    return tmp_path / "checkpoint-1"


@pytest.mark.parametrize("fault", ["gone", "short", "flipped", "another file"])
def test_a_checkpoint_without_a_whole_state_is_refused(tmp_path: Path, checkpoint: Path, fault: str) -> None:
    path = checkpoint / STATE_FILE
    content = bytearray(path.read_bytes())
    if fault == "gone":
        path.unlink()
    elif fault == "short":
        path.write_bytes(content[:-7])
    elif fault == "flipped":
        content[-9] ^= 4
        path.write_bytes(content)
    else:
        path.write_bytes((checkpoint / "model.safetensors").read_bytes())
    trainer = trainer_of(tmp_path)
    averaged(trainer)
    with pytest.raises(InputError) as refused:
        train(trainer, resume_from_checkpoint=str(checkpoint))
    assert "\n" not in str(refused.value)
    assert "checkpoint" in str(refused.value)


def test_a_state_of_another_method_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    trainer = trainer_of(tmp_path)
    averaged(trainer, LAWA)
    with pytest.raises(InputError, match="saved by an average of kind"):
        train(trainer, resume_from_checkpoint=str(checkpoint))


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.fsync", full)
    trainer = trainer_of(tmp_path, save_strategy="epoch")
    averaged(trainer)
    with pytest.raises(OSError, match="No space left"):
        train(trainer)
    assert not list(tmp_path.glob(f"checkpoint-*/*{STATE_FILE}*"))


@pytest.mark.parametrize(
    "limits", [{"max_steps": 4}, {"num_train_epochs": 0.5}, {"num_train_epochs": 2}, {"max_steps": 7}], ids=str
)
def test_a_method_is_told_how_long_training_will_be(tmp_path: Path, limits: dict[str, Any]) -> None:
    told: list[float] = []

    def method(model: nn.Module, steps_per_epoch: int | None = None, epochs: float | None = None) -> Averager:
        told.append((steps_per_epoch or 0) * (epochs or 0))
        return EMA(model, decay="auto", steps_per_epoch=steps_per_epoch, epochs=epochs)

    trainer = trainer_of(tmp_path, **limits)
    averaged(trainer, method)
    train(trainer)
    assert told == [pytest.approx(trainer.state.global_step)]


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="method is a float"):
        WeightAveragingCallback(0.999)  # type: ignore[arg-type]
    callback = WeightAveragingCallback(EVERY_EPOCH)
    with pytest.raises(InputError, match="before training begins"):
        _ = callback.averager
    trainer = trainer_of(tmp_path, callbacks=[callback])
    with pytest.raises(InputError, match=r"call callback\.attach\(trainer\)"):
        train(trainer)
    with pytest.raises(InputError, match="averaged already"):
        averaged(trainer)
    other = trainer_of(tmp_path)
    averaging = averaged(other)
    with pytest.raises(InputError, match="another callback for another Trainer"):
        averaging.attach(trainer_of(tmp_path))
    train(other)
    with pytest.raises(InputError, match=r"write switch_ema\.save_averaged"):
        averaging.save_pretrained(tmp_path / "saved")
    several = trainer_of(tmp_path)
    averaged(several, partial(PostHocEMA, snapshot_every="1 epoch", folder=tmp_path))
    with pytest.raises(InputError, match="has several"):
        train(several)
    with pytest.raises(InputError, match="DeepSpeed keeps weights of its own"):
        WeightAveragingCallback(EVERY_EPOCH).attach(
            SimpleNamespace(is_deepspeed_enabled=True, callback_handler=SimpleNamespace(callbacks=[]))
        )


def test_training_without_a_step_is_refused(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, num_train_epochs=0)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    averaged(trainer)
    with pytest.raises(InputError, match="took no optimizer step"):
        train(trainer)
    assert_same(trainer.model.state_dict(), before)


def test_training_again_starts_a_new_average(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    averaging = averaged(trainer, partial(EMA, decay=0.9))
    train(trainer)
    first = averaging.averager
    train(trainer)
    assert averaging.averager is not first
    assert averaging.averager.n_averaged == 9


def test_an_old_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switch_ema.libraries._version", lambda name: "4.55.0")
    with pytest.raises(MissingLibraryError, match=r"transformers>=4\.56, found 4\.55\.0; run: pip install"):
        importlib.reload(module)
