"""The Ignite handler: the same numbers as a plain loop, resumed from Ignite's own checkpoints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from torch import nn

from switch_ema import LAWA, SWA, Lookahead, SwitchEMA
from switch_ema.integrations.ignite import WeightAveraging
from tests.integrations.modules import Batch, assert_same, batches, network, plain_loop, sgd

SWITCH = partial(SwitchEMA, decay=0.9, switch_every="1 epoch")


class Run:
    """An engine as Ignite's users write it; it saves at the end of every epoch."""

    def __init__(self, method: Any, folder: Path) -> None:
        self.model = network()
        self.optimizer = sgd(self.model)
        self.trainer = Engine(self.step)
        self.averaging = WeightAveraging(method, self.model)
        self.parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "trainer": self.trainer,
            "averager": self.averaging.averager,
        }
        saver = DiskSaver(str(folder), require_empty=False, create_dir=True)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint(self.parts, saver, n_saved=None))
        self.averaging.attach(self.trainer, self.optimizer)

    def step(self, engine: Engine, batch: Batch) -> None:
        nn.functional.cross_entropy(self.model(batch[0]), batch[1]).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


@pytest.mark.parametrize(
    "method", [SWITCH, SWA, partial(LAWA, window=2), Lookahead], ids=["SwitchEMA", "SWA", "LAWA", "Lookahead"]
)
def test_equals_a_plain_loop_and_goes_on_bit_for_bit(tmp_path: Path, method: Any) -> None:
    run, plain = Run(method, tmp_path), plain_loop(method)
    run.trainer.run(batches(), max_epochs=3)
    files = sorted(tmp_path.glob("*.pt"), key=lambda path: int(path.stem.split("_")[-1]))
    assert len(files) == 3
    resumed = []
    for path in files[:-1]:
        again = Run(method, tmp_path / "again")
        Checkpoint.load_objects(again.parts, torch.load(path, weights_only=True))
        again.trainer.run(batches())
        resumed.append(again)
    for one in (run, *resumed):
        assert_same(dict(one.model.state_dict()), dict(plain.model.state_dict()))
        assert_same(one.averaging.averager.state_dict(), plain.averager.state_dict())


def test_evaluates_on_the_average_also_when_that_fails(tmp_path: Path) -> None:
    run = Run(SWITCH, tmp_path)
    run.trainer.run(batches(), max_epochs=1)
    expected = plain_loop(SWITCH, epochs=1)
    seen: list[Any] = []

    def look(engine: Engine, batch: Batch) -> None:
        seen.append({name: value.clone() for name, value in run.model.state_dict().items()})
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), run.averaging.averager.average_parameters():
        Engine(look).run(batches(1))
    assert_same(seen, [dict(expected.averager.averaged_state_dict())])
    assert_same(dict(run.model.state_dict()), dict(expected.model.state_dict()))


def test_an_epoch_that_is_cut_short_does_not_count(tmp_path: Path) -> None:
    run = Run(SWA, tmp_path)
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=7), run.trainer.terminate)
    run.trainer.run(batches(), max_epochs=3)
    counters = run.averaging.averager.state_dict()["counters"]
    assert (counters["epochs"], counters["steps"]) == (1, 7)


def test_detached_it_does_nothing(tmp_path: Path) -> None:
    run = Run(SWITCH, tmp_path)
    run.averaging.detach(run.trainer)
    run.trainer.run(batches(), max_epochs=1)
    assert run.averaging.averager.n_averaged == 0
    assert run.averaging.averager.state_dict()["counters"]["epochs"] == 0


def test_misuse(tmp_path: Path) -> None:
    run = Run(SWITCH, tmp_path)
    with pytest.raises(RuntimeError, match="attached already"):
        run.averaging.attach(run.trainer, run.optimizer)
    averaging = WeightAveraging(SWITCH, run.model)
    with pytest.raises(ValueError, match="needs the optimizer"):
        averaging.attach(run.trainer)
    with pytest.raises(ValueError, match="holds none of the averaged model's parameters"):
        averaging.attach(run.trainer, sgd(network()))
    with pytest.raises(ValueError, match="method is a float"):
        WeightAveraging(0.99, run.model)  # type: ignore[arg-type]
