"""What other libraries saved goes on here with the numbers it would have had there; and the page that says how."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from switch_ema import EMA, SWA, Averager, SwitchEMA

PAGE = Path(__file__).parents[2] / "docs" / "migrate.md"
DECAY = 0.9


class Run:
    """A model that moves in the same way however often it is made."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.generator = torch.Generator().manual_seed(1)

    @torch.no_grad()
    def step(self) -> None:
        for parameter in self.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=self.generator))


Peer = Callable[[nn.Module], tuple[Any, Callable[[], Any]]]


def of_timm(version: str) -> Peer:
    def make(model: nn.Module) -> tuple[Any, Callable[[], Any]]:
        utils = pytest.importorskip("timm.utils")
        ema = getattr(utils, version)(model, decay=DECAY)
        return ema.module, lambda: ema.update(model)

    return make


def of_torch(model: nn.Module) -> tuple[Any, Callable[[], Any]]:
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    return averaged.module, lambda: averaged.update_parameters(model)


def of_lucidrains(model: nn.Module) -> tuple[Any, Callable[[], Any]]:
    library = pytest.importorskip("ema_pytorch")
    ema = library.EMA(model, beta=DECAY, min_value=DECAY, update_every=1, update_after_step=-10)
    return ema.ema_model, ema.update


def of_diffusers(model: nn.Module) -> tuple[Any, Callable[[], Any]]:
    library = pytest.importorskip("diffusers.training_utils")
    ema = library.EMAModel(model.parameters(), decay=DECAY, min_decay=DECAY)
    return ema, lambda: ema.step(model.parameters())


def of_fadel(model: nn.Module) -> tuple[Any, Callable[[], Any]]:
    library = pytest.importorskip("torch_ema")
    ema = library.ExponentialMovingAverage(model.parameters(), decay=DECAY, use_num_updates=False)
    return ema, ema.update


PEERS = {
    "timm V2": of_timm("ModelEmaV2"),
    "timm V3": of_timm("ModelEmaV3"),
    "torch": of_torch,
    "ema-pytorch": of_lucidrains,
    "diffusers": of_diffusers,
    "torch-ema": of_fadel,
}


def average_in(holder: Any, model: nn.Module) -> dict[str, Tensor]:
    if isinstance(holder, nn.Module):
        return {name: parameter.detach().clone() for name, parameter in holder.named_parameters()}
    names = [name for name, _ in model.named_parameters()]
    return dict(zip(names, (shadow.clone() for shadow in holder.state_dict()["shadow_params"]), strict=True))


def taken_over(run: Run, average: dict[str, Tensor], method: Callable[..., Averager], **counters: int) -> Averager:
    """The recipe of the page."""
    trained = deepcopy(run.model.state_dict())
    run.model.load_state_dict({**trained, **average})
    averager = method(run.model)
    run.model.load_state_dict(trained)
    state = averager.state_dict()
    state["counters"].update(counters)
    averager.load_state_dict(state)
    return averager


@pytest.mark.parametrize("name", PEERS)
def test_an_average_goes_on(name: str) -> None:
    run = Run()
    holder, update = PEERS[name](run.model)
    for _ in range(6):
        run.step()
        update()
    averager = taken_over(
        run, average_in(holder, run.model), lambda model: EMA(model, DECAY), n_averaged=6, steps=6, taken=6
    )
    for key, value in average_in(holder, run.model).items():
        assert torch.equal(averager.averaged_state_dict()[key], value)
    for _ in range(5):
        run.step()
        update()
        averager.update()
    for key, value in average_in(holder, run.model).items():
        torch.testing.assert_close(averager.averaged_state_dict()[key], value)
    assert averager.n_averaged == 11


def test_a_warm_up_goes_on_where_it_was() -> None:
    library = pytest.importorskip("diffusers.training_utils")
    run = Run()
    ema = library.EMAModel(run.model.parameters(), decay=0.99)
    fresh = EMA(run.model, "warmup 0.99")
    for _ in range(6):
        run.step()
        ema.step(run.model.parameters())
        fresh.update()
    counters = dict.fromkeys(("n_averaged", "steps", "taken"), ema.optimization_step)
    averager = taken_over(run, average_in(ema, run.model), lambda model: EMA(model, "warmup 0.99"), **counters)
    for _ in range(5):
        run.step()
        ema.step(run.model.parameters())
        averager.update()
    for key, value in average_in(ema, run.model).items():
        torch.testing.assert_close(averager.averaged_state_dict()[key], value)


def test_the_rule_of_torch_ema_is_the_one_on_the_page() -> None:
    library = pytest.importorskip("torch_ema")
    run = Run()
    ema = library.ExponentialMovingAverage(run.model.parameters(), decay=0.995)
    averager = EMA(run.model, lambda n: min(0.995, (2 + n) / (11 + n)))
    for _ in range(6):
        run.step()
        ema.update()
        averager.update()
    for key, value in average_in(ema, run.model).items():
        torch.testing.assert_close(averager.averaged_state_dict()[key], value)


def test_a_mean_goes_on() -> None:
    run = Run()
    averaged = AveragedModel(run.model)
    for _ in range(4):
        run.step()
        averaged.update_parameters(run.model)
    count = int(averaged.n_averaged)
    average = average_in(averaged.module, run.model)
    averager = taken_over(run, average, SWA, n_averaged=count, epochs=count, taken=count)
    for _ in range(3):
        run.step()
        averaged.update_parameters(run.model)
        averager.end_epoch()
    for key, value in average_in(averaged.module, run.model).items():
        torch.testing.assert_close(averager.averaged_state_dict()[key], value)


def switches_of(hook: str, interval: int, epochs: int = 12) -> list[int]:
    """After how many epochs the original hooks switch: they do so at the start of an epoch, counted from 0."""
    multiple = [(epoch + 1) % interval == 0 for epoch in range(epochs)]
    return [epoch for epoch in range(1, epochs) if multiple[epoch] == (hook == "detection")]


@pytest.mark.parametrize("row", [1, 2, 100])
def test_the_table_of_intervals_is_right(row: int) -> None:
    [line] = re.findall(rf"^\| {row}(?:, the default)? \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    averager = SwitchEMA(nn.Linear(1, 1), decay=0.5, switch_every=f"{row} epochs")
    ours = []
    for epoch in range(1, 13):
        before = averager.n_switches
        averager.update()
        averager.end_epoch()
        ours += [epoch] if averager.n_switches > before else []
    for cell, expected in zip(
        line.split("|"), (switches_of("openmixup", row), switches_of("detection", row), ours), strict=True
    ):
        if "each" in cell:
            assert expected in ([*range(1, 12)], [*range(1, 13)])
        else:
            assert [int(number) for number in re.findall(r"\d+", cell)] == expected


BLOCKS = re.findall(r"^## ([^\n]*)\n(?:(?!^## ).)*?```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize(("heading", "code"), BLOCKS, ids=[heading for heading, _ in BLOCKS])
def test_the_snippets_for_optional_libraries_run(
    heading: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = {"ema-pytorch": "ema_pytorch", "torch-ema": "torch_ema", "Keras: use_ema": None}[heading]
    if library is None:
        pytest.skip("run by keras_scenarios.py, on both backends")
    pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, heading, "exec"), {"__name__": "__main__"})
