"""Several averages of one model, updated together, and averagers tied to optimizers and compiled steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from switch_ema import EMA, LAWA, SWA, Averager, AveragerGroup, PowerEMA, SwitchEMA
from switch_ema.averaging import placement
from switch_ema.averaging.offload import OffloadPass

from .cases import CASES, Trainer, bits, build, events, mlp

METHODS: dict[str, Callable[[nn.Module], Averager]] = {
    "ema": lambda model: EMA(model, decay=0.8),
    "ema-slow": lambda model: EMA(model, decay=0.99),
    "ema-every-2": lambda model: EMA(model, decay=0.9, update_every=2),
    "power": lambda model: PowerEMA(model, gamma=2.0),
    "swa": SWA,
    "lawa": lambda model: LAWA(model, window=2, update_every=3),
    "sema": lambda model: SwitchEMA(model, decay=0.7),
}


def trained(case: str, make: Callable[[nn.Module], Any]) -> Any:
    """Train a model with what `make` attaches, and return that."""
    model = build(case)
    trainer = Trainer(model)
    tied = make(model)
    tied.attach(trainer.optimizer)
    for event in events():
        if event == "step":
            trainer.step()
        else:
            tied.end_epoch()
    return tied


@pytest.mark.parametrize("case", CASES)
def test_a_group_does_what_its_members_do_alone(case: str) -> None:
    passive = {name: make for name, make in METHODS.items() if name != "sema"}
    group = trained(case, lambda model: AveragerGroup(*(make(model) for make in passive.values())))
    for averager, make in zip(group.averagers, passive.values(), strict=True):
        alone = trained(case, make)
        assert bits(averager.state_dict()) == bits(alone.state_dict())


def test_one_member_may_switch() -> None:
    group = trained("batchnorm", lambda model: AveragerGroup(METHODS["ema"](model), METHODS["sema"](model)))
    alone = trained("batchnorm", METHODS["sema"])
    assert bits(group.averagers[1].state_dict()) == bits(alone.state_dict())
    assert group.averagers[1].n_switches == 3


def test_bfloat16_averages_are_rounded_as_alone() -> None:
    def make(model: nn.Module, decay: float) -> Averager:
        return EMA(model, decay, dtype=torch.bfloat16)

    group = trained("batchnorm", lambda model: AveragerGroup(make(model, 0.5), make(model, 0.9)))
    assert bits(group.averagers[1].state_dict()) == bits(trained("batchnorm", lambda m: make(m, 0.9)).state_dict())


def test_averages_that_are_kept_alike_share_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    folding = placement.Passes.lerp_

    def count(self: Any, shares: Any, *rest: Any) -> None:
        calls.append(len(shares))
        folding(self, shares, *rest)

    monkeypatch.setattr(placement.Passes, "lerp_", count)
    model = mlp()
    AveragerGroup(EMA(model, 0.9), EMA(model, 0.99), PowerEMA(model)).update()
    assert calls == [3]
    calls.clear()
    AveragerGroup(EMA(model, 0.9), EMA(model, 0.99, dtype=torch.float64)).update()
    assert calls == [1, 1]


def test_weights_that_are_fetched_for_a_group_are_folded_in_before_anyone_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passive = [METHODS[name] for name in ("ema", "ema-slow", "ema-every-2", "power")]
    alone = [bits(trained("batchnorm", make).averaged_state_dict()) for make in passive]
    monkeypatch.setattr(placement, "_choose", lambda buffers, items: [OffloadPass(buffers, items)])
    group = trained("batchnorm", lambda model: AveragerGroup(*(make(model) for make in passive)))
    assert [bits(averager.averaged_state_dict()) for averager in group.averagers] == alone


def test_a_group_follows_a_model_whose_parameters_are_replaced() -> None:
    model = mlp()
    group = AveragerGroup(EMA(model, 0.5), EMA(model, 0.9))
    group.update()
    start = model.get_parameter("0.weight").detach().clone()
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    group.update()
    for averager, share in zip(group.averagers, (0.5, 0.1), strict=True):
        torch.testing.assert_close(averager.state_dict()["averages"]["0.weight"], start + share)


def test_what_a_group_refuses() -> None:
    model = mlp()
    with pytest.raises(ValueError, match="averagers of one model"):
        AveragerGroup(EMA(model), EMA(mlp()))
    with pytest.raises(ValueError, match="at least one"):
        AveragerGroup()
    with pytest.raises(ValueError, match="several averagers of the group switch"):
        AveragerGroup(SwitchEMA(model, 0.5), SwitchEMA(model, 0.6))
    group = AveragerGroup(EMA(model), EMA(model))
    with group.averagers[1].average_parameters(), pytest.raises(RuntimeError, match=r"update\(\) inside"):
        group.update()
    assert [averager.n_averaged for averager in group.averagers] == [0, 0]


# optimizers


def test_of_several_optimizers_the_last_completes_a_step() -> None:
    model = nn.ModuleDict({"generator": mlp(), "critic": mlp()})
    first, last = (torch.optim.SGD(model[part].parameters(), lr=0.1) for part in ("critic", "generator"))
    averager = EMA(model, decay=0.5)
    handle = averager.attach(first, last)
    for _ in range(3):
        for optimizer in (first, first, last):  # two steps of the critic for one of the generator
            optimizer.step()
    assert averager.n_averaged == 3
    handle.remove()
    last.step()
    assert averager.n_averaged == 3


def test_a_reset_reaches_all_optimizers() -> None:
    model = mlp()
    optimizers = [torch.optim.SGD(model.get_submodule(name).parameters(), lr=0.1, momentum=0.9) for name in ("0", "2")]
    averager = SwitchEMA(model, decay=0.5, switch_every=2, optimizer_state="reset")
    averager.attach(*optimizers)
    for step in range(2):
        model(torch.randn(2, 4)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
        assert all(bool(optimizer.state) == (step == 0) for optimizer in optimizers)


def test_attaching_needs_an_optimizer() -> None:
    with pytest.raises(ValueError, match=r"write attach\(optimizer\)"):
        EMA(mlp()).attach()


def test_overlap_changes_nothing_without_a_gpu() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    averager = EMA(model, decay=0.5)
    averager.attach(optimizer, overlap=True)
    optimizer.step()
    assert averager.n_averaged == 1


# torch.compile


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it
def test_a_compiled_step_counts_and_does_not_compile_anew() -> None:
    graphs = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = mlp()
    averager = SwitchEMA(model, decay=0.5, switch_every=4)
    twin = mlp()
    twin.load_state_dict(model.state_dict())
    expected = SwitchEMA(twin, decay=0.5, switch_every=4)

    def step(of: nn.Module, x: Tensor, average: Averager) -> Tensor:
        loss: Tensor = of(x).square().mean()
        with torch.no_grad():
            for parameter in of.parameters():
                parameter.mul_(0.9)
        average.update()
        return loss * 2

    torch._dynamo.reset()
    compiled = torch.compile(step, backend=backend)
    for i in range(10):
        compiled(model, torch.full((2, 4), float(i)), averager)
        step(twin, torch.full((2, 4), float(i)), expected)
    assert averager.n_averaged == 10
    assert averager.n_switches == 2
    assert len(graphs) <= 3
    assert bits(averager.state_dict()) == bits(expected.state_dict())


def test_averages_move_between_a_model_and_its_compiled_self() -> None:
    model = mlp()
    averager = EMA(cast(nn.Module, torch.compile(model)), decay=0.5)
    with torch.no_grad():
        model.get_parameter("0.weight").add_(1)
    averager.update()
    state = averager.state_dict()
    assert set(state["averages"]) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    plain = EMA(model, decay=0.5)
    plain.load_state_dict(state)
    again = EMA(cast(nn.Module, torch.compile(model)), decay=0.5)
    again.load_state_dict(plain.state_dict())
    assert bits(again.state_dict()) == bits(state)
