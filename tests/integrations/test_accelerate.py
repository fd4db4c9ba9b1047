"""Averaging with Accelerate: the same numbers as a plain loop, real steps only, resumed from its own state."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator, DistributedType
from torch import nn

from switch_ema import LAWA, Averager, PostHocEMA, SwitchEMA
from switch_ema.integrations.accelerate import average
from tests.integrations.modules import assert_same, batches, network, plain_loop, sgd

SWITCH = partial(SwitchEMA, decay=0.9, switch_every="1 epoch")


class Run:
    """A training loop as Accelerate's users write it."""

    def __init__(self, method: Any, **given: Any) -> None:
        self.accelerator = Accelerator(cpu=True, **given)
        model = network()
        self.model, self.optimizer = self.accelerator.prepare(model, sgd(model))
        self.averager = average(self.accelerator, method, self.model, self.optimizer)

    def epoch(self) -> None:
        for x, y in batches(6):
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(nn.functional.cross_entropy(self.model(x), y))
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.averager.end_epoch()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_equals_a_plain_loop(accumulate: int) -> None:
    run = Run(SWITCH, gradient_accumulation_steps=accumulate)
    for _ in range(3):
        run.epoch()
    plain = plain_loop(SWITCH, number=6, accumulate=accumulate)
    assert_same(dict(run.model.state_dict()), dict(plain.model.state_dict()))
    assert_same(run.averager.state_dict(), plain.averager.state_dict())


def test_a_step_that_a_scaler_skips_is_no_step() -> None:
    run = Run(SWITCH)
    run.optimizer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    run.optimizer.__setstate__(run.optimizer.__dict__)  # as it is made with mixed precision
    for i, (x, _) in enumerate(batches(6)):
        factor = float("inf") if i == 2 else 1.0
        run.optimizer.scaler.scale(run.model(x).sum() * factor).backward()
        run.optimizer.step()
        run.optimizer.zero_grad()
    assert run.averager.n_averaged == 5


@pytest.mark.parametrize("method", [SWITCH, partial(LAWA, window=2)], ids=["SwitchEMA", "LAWA"])
def test_goes_on_bit_for_bit(tmp_path: Path, method: Any) -> None:
    whole = Run(method)
    for _ in range(2):
        whole.epoch()
    whole.accelerator.save_state(str(tmp_path))
    whole.epoch()
    again = Run(method)
    again.accelerator.load_state(str(tmp_path))
    again.epoch()
    assert_same(dict(again.model.state_dict()), dict(whole.model.state_dict()))
    assert_same(again.averager.state_dict(), whole.averager.state_dict())


def test_a_state_without_the_average_is_refused(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    model = network()
    accelerator.prepare(model, sgd(model))
    accelerator.save_state(str(tmp_path))
    with pytest.raises(RuntimeError, match="does not match the number of registered objects"):
        Run(SWITCH).accelerator.load_state(str(tmp_path))


def test_the_average_is_that_of_the_module_inside() -> None:
    run = Run(SWITCH)
    assert run.averager.model is run.accelerator.unwrap_model(run.model)
    compiled = cast(nn.Module, torch.compile(network(), backend="eager"))
    averager = average(run.accelerator, SWITCH, compiled, sgd(compiled))
    assert set(averager.state_dict()["averages"]) == set(run.averager.state_dict()["averages"])


def test_evaluates_on_the_average_and_saves_nothing_meanwhile(tmp_path: Path) -> None:
    run = Run(SWITCH)
    run.epoch()
    expected = plain_loop(SWITCH, epochs=1, number=6).averager.averaged_state_dict()
    with run.averager.average_parameters():
        assert_same(dict(run.model.state_dict()), dict(expected))
        with pytest.raises(RuntimeError, match="inside average_parameters"):
            run.accelerator.save_state(str(tmp_path))


def test_post_hoc_averages(tmp_path: Path) -> None:
    run = Run(partial(PostHocEMA, snapshot_every="1 epoch", folder=tmp_path / "snapshots"))
    run.epoch()
    run.accelerator.save_state(str(tmp_path / "state"))
    again = Run(partial(PostHocEMA, snapshot_every="1 epoch", folder=tmp_path / "snapshots"))
    again.accelerator.load_state(str(tmp_path / "state"))
    assert again.averager.run == run.averager.run


def test_misuse(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(SWITCH)
    assert isinstance(run.averager, Averager)
    with pytest.raises(ValueError, match="needs the optimizer that trains the model"):
        average(run.accelerator, SWITCH, run.model)
    with pytest.raises(ValueError, match="holds none of the averaged model's parameters"):
        average(run.accelerator, SWITCH, run.model, sgd(network()))
    with pytest.raises(ValueError, match="method is a Averager"):
        average(run.accelerator, run.averager, run.model, run.optimizer)  # type: ignore[arg-type]
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.DEEPSPEED)
    with pytest.raises(ValueError, match="DEEPSPEED keeps the weights in flat pieces"):
        average(run.accelerator, SWITCH, run.model, run.optimizer)
