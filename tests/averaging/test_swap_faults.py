"""Faults of swapping, attaching and grouping that a review found, each by running it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema import EMA, AveragerGroup, SwitchEMA


class Cached(nn.Module):
    """Drops a buffer in its forward."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.cache: Tensor | None
        self.register_buffer("cache", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.cache = None
        y: Tensor = self.linear(x)
        return y


@pytest.mark.parametrize("width", [2, 200])  # small weights are copied, large ones exchanged
@pytest.mark.parametrize("exchange", [None, False])
def test_a_tensor_that_is_set_to_none_inside_comes_back_with_all_others(width: int, exchange: bool | None) -> None:
    model = Cached(width)
    averager = EMA(model, 0.5)
    with torch.no_grad():
        model.linear.weight.fill_(5.0)
    averager.update()
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with averager.average_parameters(exchange=exchange):
        model(torch.zeros(1, width))
        model.linear.bias = None  # type: ignore[assignment]
    assert model.state_dict().keys() == own.keys()
    torch.testing.assert_close(model.state_dict(), own, rtol=0, atol=0)
    torch.testing.assert_close(dict(model.named_parameters())["linear.bias"], own["linear.bias"], rtol=0, atol=0)


def test_what_cannot_come_back_is_named_when_all_others_have() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    averager = EMA(nn.Sequential(first, second), 0.5)
    with torch.no_grad():
        first.weight.fill_(5.0)
    averager.update()
    with (
        pytest.raises(RuntimeError, match=r"^1\.weight: taken out of the model inside average_parameters\(\)"),
        averager.average_parameters(),
    ):
        nn.utils.parametrizations.weight_norm(second)
    assert torch.equal(first.weight, torch.full((2, 2), 5.0))


def test_an_exception_inside_is_not_hidden_by_what_is_lost() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    averager = EMA(model, 0.5)

    def lose_and_fail() -> None:
        with averager.average_parameters():
            del model[1].bias
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        lose_and_fail()


class Clipping(torch.optim.SGD):
    """An optimizer that does something and then steps as its base class does."""

    fails = False

    def step(self, closure: Any = None) -> Any:
        if self.fails:
            raise RuntimeError("no step")
        return super().step(closure)


def test_a_step_of_a_subclass_counts_once() -> None:
    model = nn.Linear(2, 2)
    torch.optim.SGD(model.parameters(), 0.1)  # from now on torch calls hooks for each level of a subclass
    optimizer = Clipping(model.parameters(), 0.1)
    averager = EMA(model, 0.5)
    averager.attach(optimizer)
    for _ in range(3):
        optimizer.step()
    assert averager.n_averaged == 3
    optimizer.fails = True
    with pytest.raises(RuntimeError, match="no step"):
        optimizer.step()
    optimizer.fails = False
    optimizer.step()
    assert averager.n_averaged == 4


def test_a_member_of_a_group_may_reset_the_optimizer() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    switching = SwitchEMA(model, 0.5, switch_every=2, optimizer_state="reset")
    group = AveragerGroup(EMA(model, 0.9), switching)
    handle = group.attach(optimizer)
    for step in range(1, 3):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        assert bool(optimizer.state) == (step == 1)
    assert switching.n_switches == 1
    with pytest.raises(RuntimeError, match="attached already"):
        switching.attach(optimizer)
    handle.remove()
    switching.attach(optimizer)


@pytest.mark.parametrize("is_first", [True, False])
def test_no_member_of_a_group_counts_twice(is_first: bool) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    averager = EMA(model, 0.5)
    group = AveragerGroup(averager)
    attachments = [partial(averager.attach, optimizer), partial(group.attach, optimizer)]
    first, second = attachments if is_first else reversed(attachments)
    first()
    with pytest.raises(RuntimeError, match="attached"):
        second()
    optimizer.step()
    assert averager.n_averaged == 1


@pytest.mark.parametrize("decay", [0.9, "warmup 0.9"])
def test_a_state_may_be_loaded_into_a_later_start(decay: Any) -> None:
    """Updates begin where the new start says, from the weights that are there then."""
    model, saved = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    early, late, fresh = EMA(saved, decay), *(EMA(model, decay, update_after_step=20) for _ in range(2))
    for _ in range(5):
        early.update()
    with pytest.warns(UserWarning, match="update"):
        late.load_state_dict(early.state_dict())
    for step in range(30):
        with torch.no_grad():
            model.weight.fill_(float(step))
        if step >= 5:
            late.update()
        fresh.update()
    assert torch.equal(late.averaged_state_dict()["weight"], fresh.averaged_state_dict()["weight"])
