"""Averaged weights in the model for a while: nothing is copied that need not be, and nothing is damaged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from switch_ema import EMA, Averager

from .cases import CASES, batch, build

WIDE = 200  # such weights are lent, smaller ones copied


def large(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDE, WIDE), nn.BatchNorm1d(WIDE), nn.Linear(WIDE, 2)).to(dtype)


def averaged(model: nn.Module) -> Averager:
    averager = EMA(model, decay=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    averager.update()
    return averager


def snapshot(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("exchange", [None, True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_averages_are_in_and_the_weights_come_back_where_they_were(
    exchange: bool | None, dtype: torch.dtype
) -> None:
    model = large(dtype)
    averager = averaged(model)
    before, places = snapshot(model.state_dict()), [p.data_ptr() for p in model.parameters()]
    expected = snapshot(averager.averaged_state_dict())
    with averager.average_parameters(exchange=exchange):
        assert same(snapshot(model.state_dict()), expected)
        assert (model.get_parameter("0.weight").data_ptr() == places[0]) == (exchange is False)
    assert same(snapshot(model.state_dict()), before)
    assert [p.data_ptr() for p in model.parameters()] == places
    assert same(snapshot(averager.averaged_state_dict()), expected)


def test_nothing_is_copied_for_an_evaluation() -> None:
    model = large()
    averager = averaged(model)
    memory = averager.state_dict()["averages"]["0.weight"].untyped_storage()
    with averager.average_parameters():
        model.eval()
        model(torch.randn(3, WIDE))
        is_shared: Callable[[Tensor], bool] = torch._C._is_cow_tensor  # type: ignore[attr-defined]
        assert is_shared(model.get_parameter("0.weight"))  # still the average's memory
    assert averager.state_dict()["averages"]["0.weight"].untyped_storage().data_ptr() == memory.data_ptr()


@pytest.mark.parametrize("exchange", [True, False])
def test_what_is_written_inside_reaches_neither_the_average_nor_the_weights(exchange: bool) -> None:
    model = large()
    averager = averaged(model)
    before, expected = snapshot(model.state_dict()), snapshot(averager.averaged_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with averager.average_parameters(exchange=exchange):
        model(torch.randn(4, WIDE)).square().mean().backward()
        optimizer.step()
    assert same(snapshot(model.state_dict()), before)
    assert same(snapshot(averager.averaged_state_dict()), expected)


def test_a_model_that_was_moved_inside_has_its_own_values_where_it_is() -> None:
    model = large()
    averager = averaged(model)
    own = snapshot(model.state_dict())
    with averager.average_parameters():
        model.double()
    assert model.get_parameter("0.weight").dtype is torch.float64
    assert same({name: t.to(own[name].dtype) for name, t in model.state_dict().items()}, own)


def test_weights_that_something_else_refers_to_are_copied_so_that_it_sees_the_average() -> None:
    model = large()
    flat = model.get_parameter("0.weight").detach().view(-1)
    averager = averaged(model)
    own = flat.clone()
    with averager.average_parameters():
        torch.testing.assert_close(flat, own - 0.5)
    assert torch.equal(flat, own)


def test_what_is_kept_from_inside_stays_averaged() -> None:
    model = large()
    averager = averaged(model)
    expected = snapshot(averager.averaged_state_dict())
    with averager.average_parameters():
        kept = {name: t.detach() for name, t in model.named_parameters()}
    for _ in range(3):
        averager.update()
    assert torch.equal(kept["0.weight"], expected["0.weight"])


def test_several_averagers_of_a_model_lend_their_memory_too() -> None:
    model = large()
    first, second = averaged(model), EMA(model, decay=0.9)
    second.update()
    place = model.get_parameter("0.weight").data_ptr()
    for averager in (first, second):
        with averager.average_parameters():
            assert model.get_parameter("0.weight").data_ptr() != place
        assert model.get_parameter("0.weight").data_ptr() == place


@pytest.mark.parametrize("inside", [True, False])
def test_a_backward_pass_through_exchanged_weights_is_refused(inside: bool) -> None:
    model = nn.Module()
    model.gain = nn.Parameter(torch.ones(WIDE, WIDE))
    averager = averaged(model)
    loss = model.gain.pow(3).sum()  # the graph holds the parameter itself, no view of its memory
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):  # noqa: PT012
        with averager.average_parameters():
            if inside:
                loss.backward()
        loss.backward()


def test_updates_after_a_swap_do_not_reach_what_was_lent() -> None:
    model = large()
    averager, twin = averaged(model), averaged(large())
    with averager.average_parameters():
        pass
    averager.update()
    twin.update()
    assert same(snapshot(averager.averaged_state_dict()), snapshot(twin.averaged_state_dict()))


@pytest.mark.parametrize("case", CASES)
def test_functional_call_is_what_the_swap_gives(case: str) -> None:
    model = build(case).eval()
    averager = averaged(model)
    before = snapshot(dict(model.named_parameters()))
    dtype = next(model.parameters()).dtype
    x = batch(0).to(dtype if dtype.is_floating_point else torch.float32)
    torch.manual_seed(0)
    called = averager.functional_call(x)
    assert same(snapshot(dict(model.named_parameters())), before)
    torch.manual_seed(0)
    with averager.average_parameters():
        expected = model(x)
    torch.testing.assert_close(called, expected, atol=0, rtol=0)


def test_functional_call_in_training_leaves_all_statistics_alone() -> None:
    model = large().train()
    averager = averaged(model)
    before, averages = snapshot(model.state_dict()), snapshot(averager.averaged_state_dict())
    averager.functional_call(torch.randn(4, WIDE))
    assert same(snapshot(model.state_dict()), before)
    assert same(snapshot(averager.averaged_state_dict()), averages)


def test_functional_call_passes_on_what_forward_takes() -> None:
    model = nn.MultiheadAttention(4, 2, batch_first=True)
    averager = EMA(model)
    averager.update()
    x = torch.randn(1, 3, 4)
    out, weights = averager.functional_call(x, x, x, need_weights=False)
    assert out.shape == x.shape
    assert weights is None


@pytest.mark.parametrize("call", [lambda a: a.functional_call(torch.ones(1, WIDE)), lambda a: a.refresh()])
def test_what_is_refused_inside_a_swap(call: Callable[[Averager], object]) -> None:
    averager = averaged(large())
    with averager.average_parameters(), pytest.raises(RuntimeError, match=r"inside average_parameters\(\)"):
        call(averager)
