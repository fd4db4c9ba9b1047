"""Sharpness-aware minimization goes the textbook's way, and leaves no trace of its detour."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from switch_ema import EMA
from switch_ema.bench.sam import SAM, frozen_statistics
from switch_ema.errors import InputError

X, Y = torch.randn(16, 3, generator=torch.manual_seed(1), dtype=torch.float64), torch.ones(16, 2, dtype=torch.float64)


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)


def backward(model: nn.Module) -> None:
    dtype = next(model.parameters()).dtype
    (model(X.to(dtype)) - Y.to(dtype)).square().mean().backward()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, sam: SAM, steps: int = 5) -> None:
    for _ in range(steps):
        backward(model)
        sam.ascend()
        optimizer.zero_grad()
        backward(model)
        sam.restore()
        optimizer.step()
        optimizer.zero_grad()


def textbook(model: nn.Module, lr: float, rho: float, adaptive: bool, steps: int = 5) -> list[Tensor]:
    """Algorithm 1 of arXiv:2010.01412, and equation 8 of arXiv:2102.11600 for one long vector `w`."""
    shapes = [p.shape for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def unflatten(w: Tensor) -> list[Tensor]:
        parts = w.split([shape.numel() for shape in shapes])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def gradient(w: Tensor) -> Tensor:
        w = w.clone().requires_grad_()
        out = torch.func.functional_call(model, dict(zip(names, unflatten(w), strict=True)), (X,))
        return torch.autograd.grad((out - Y).square().mean(), w)[0]

    w = torch.cat([p.detach().flatten() for p in model.parameters()])
    for _ in range(steps):
        g = gradient(w)
        t = w.abs() if adaptive else torch.ones_like(w)
        w = w - lr * gradient(w + rho * t**2 * g / (t * g).norm())
    return unflatten(w)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("rho", [0.0, 0.05, 0.5])
def test_the_trajectory_is_the_textbooks(rho: float, adaptive: bool) -> None:
    model = network()
    expected = textbook(copy.deepcopy(model), 0.1, rho, adaptive)
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters())}]
    optimizer = SGD(groups, lr=0.1)
    train(model, optimizer, SAM(optimizer, rho, adaptive))
    for found, wanted in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_trajectory_is_that_of_pytorch_optimizer(adaptive: bool) -> None:
    library: Any = pytest.importorskip("pytorch_optimizer")
    mine, theirs = network(torch.float32), network(torch.float32)
    optimizer = AdamW(mine.parameters(), lr=0.01, weight_decay=0.1)
    train(mine, optimizer, SAM(optimizer, 0.1, adaptive))
    other = library.SAM(theirs.parameters(), AdamW, rho=0.1, adaptive=adaptive, lr=0.01, weight_decay=0.1)
    for _ in range(5):
        backward(theirs)
        other.first_step(zero_grad=True)
        backward(theirs)
        other.second_step(zero_grad=True)
    for found, wanted in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restore_gives_every_bit_back(dtype: torch.dtype) -> None:
    model = network(dtype)
    before = [p.detach().clone() for p in model.parameters()]
    sam = SAM(SGD(model.parameters(), lr=0.1), rho=3.0)
    backward(model)
    sam.ascend()
    assert not any(p.equal(old) for p, old in zip(model.parameters(), before, strict=True))
    sam.restore()
    assert all(p.equal(old) for p, old in zip(model.parameters(), before, strict=True))


def test_scaled_gradients_lead_to_the_same_place() -> None:
    def place(scale: float, adaptive: bool) -> Tensor:
        model = network()
        sam = SAM(SGD(model.parameters(), lr=0.1), adaptive=adaptive)
        backward(model)
        for p in model.parameters():
            assert p.grad is not None
            p.grad.mul_(scale)
        sam.ascend()
        return model.get_parameter("0.weight").detach()

    for adaptive in (False, True):
        torch.testing.assert_close(place(1.0, adaptive), place(2.0**16, adaptive))


def test_weights_without_gradient_stay() -> None:
    model = network()
    model[2].requires_grad_(False)
    before = model.get_parameter("2.weight").clone()
    sam = SAM(SGD(model.parameters(), lr=0.1))
    backward(model)
    sam.ascend()
    assert model.get_parameter("2.weight").equal(before)
    sam.restore()


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("adaptive", [False, True])
def test_bad_gradients_move_nothing(bad: float, adaptive: bool) -> None:
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    sam = SAM(SGD(model.parameters(), lr=0.1), adaptive=adaptive)
    backward(model)
    gradient = model.get_parameter("0.weight").grad
    assert isinstance(gradient, Tensor)
    gradient[0, 0] = bad
    sam.ascend()
    assert all(p.equal(old) for p, old in zip(model.parameters(), before, strict=True))
    sam.restore()
    model.zero_grad()
    backward(model)
    sam.ascend()  # and it goes on
    assert not model.get_parameter("0.weight").equal(before[0])


@pytest.mark.parametrize("adaptive", [False, True])
def test_gradients_of_zero_move_nothing(adaptive: bool) -> None:
    model = network()
    before = model.get_parameter("0.weight").detach().clone()
    sam = SAM(SGD(model.parameters(), lr=0.1), adaptive=adaptive)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    sam.ascend()
    assert model.get_parameter("0.weight").equal(before)


def test_averages_see_the_real_steps_alone() -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    averager = EMA(model, decay=0.5)
    averager.attach(optimizer)
    sam = SAM(optimizer, rho=0.5)
    expected = [p.detach().clone() for p in model.parameters()]
    for step in range(4):
        train(model, optimizer, sam, steps=1)
        weight = 1.0 if step == 0 and averager.n_averaged == 0 else 0.5
        expected = [a.lerp(p.detach(), weight) for a, p in zip(expected, model.parameters(), strict=True)]
    assert averager.n_averaged == 4
    with averager.average_parameters():
        for found, wanted in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(found.detach(), wanted)


def test_calls_out_of_order_are_refused() -> None:
    model = network()
    sam = SAM(SGD(model.parameters(), lr=0.1))
    with pytest.raises(RuntimeError, match=r"call ascend\(\) before restore"):
        sam.restore()
    backward(model)
    sam.ascend()
    with pytest.raises(RuntimeError, match=r"call restore\(\) before the next ascend"):
        sam.ascend()


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
def test_a_bad_radius_is_refused(rho: float) -> None:
    with pytest.raises(InputError, match=r"rho .*: write a radius of at least 0"):
        SAM(SGD(network().parameters(), lr=0.1), rho)


def test_statistics_are_frozen_and_batches_normalised() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4), nn.InstanceNorm1d(4, track_running_stats=True))
    x = torch.randn(8, 3, 5)
    expected = copy.deepcopy(model)(x)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with suppress(ZeroDivisionError), frozen_statistics(model):
        outputs = model(x)
        outputs.square().sum().backward()
        assert not model.get_buffer("1.running_mean").equal(before["1.running_mean"])
        raise ZeroDivisionError
    assert outputs.equal(expected)
    assert all(buffer.equal(before[name]) for name, buffer in model.named_buffers())
