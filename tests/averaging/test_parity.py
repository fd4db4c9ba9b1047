"""Beside torch.optim.swa_utils: equal where torch is right, right where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn, update_bn

from switch_ema import EMA, SWA, Averager, reestimate_batchnorm

from .cases import IntegerBuffers, Tied, Trainer, batch, batchnorm, mlp

STEPS = 20
EMA_FN: Any = get_ema_multi_avg_fn  # torch gives them no types
SWA_FN: Any = get_swa_multi_avg_fn


def both(
    make: Callable[[], nn.Module], ours: Callable[[nn.Module], Averager], multi_avg_fn: Any, use_buffers: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor], nn.Module]:
    """Train once with both averages on board; torch's starts from the first update, so ours is made to do so too."""
    torch.manual_seed(0)
    trainer = Trainer(make())
    theirs = AveragedModel(trainer.model, multi_avg_fn=multi_avg_fn, use_buffers=use_buffers)
    trainer.step()
    theirs.update_parameters(trainer.model)
    averager = ours(trainer.model)
    for _ in range(STEPS - 1):
        trainer.step()
        averager.update()
        theirs.update_parameters(trainer.model)
    return averager.averaged_state_dict(), dict(theirs.module.state_dict()), trainer.model


@pytest.mark.parametrize("make", [mlp, batchnorm, Tied, lambda: mlp(torch.float64)])
@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_ema(make: Callable[[], nn.Module], decay: float) -> None:
    ours, theirs, _ = both(make, lambda model: EMA(model, decay), EMA_FN(decay), True)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", [mlp, batchnorm])
def test_swa(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    trainer = Trainer(make())
    theirs = AveragedModel(trainer.model, multi_avg_fn=SWA_FN(), use_buffers=False)
    averager = SWA(trainer.model, update_every=1)
    for _ in range(STEPS):
        trainer.step()
        averager.update()
        theirs.update_parameters(trainer.model)
    ours = averager.averaged_state_dict()
    for name, parameter in theirs.module.named_parameters():
        torch.testing.assert_close(ours[name], parameter.detach(), rtol=1e-6, atol=1e-7)


def test_without_buffers_only_weights_agree() -> None:
    ours, theirs, live = both(batchnorm, lambda m: EMA(m, 0.9, use_buffers=False), EMA_FN(0.9), False)
    for name, buffer in live.named_buffers():
        assert torch.equal(ours[name], buffer)
    for name, _ in live.named_parameters():
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", [batchnorm, IntegerBuffers])
def test_integer_buffers_where_torch_is_wrong(make: Callable[[], nn.Module]) -> None:
    ours, theirs, live = both(make, lambda model: EMA(model, 0.9), EMA_FN(0.9), True)
    name = "1.num_batches_tracked" if make is batchnorm else "calls"
    assert ours[name] == live.state_dict()[name] == STEPS
    assert theirs[name] < STEPS  # if torch mends this, ours need no defence any more


def test_batchnorm_reestimation_equals_update_bn() -> None:
    torch.manual_seed(0)
    one, other = batchnorm(), batchnorm()
    other.load_state_dict(one.state_dict())
    batches = [batch(number) for number in range(5)]
    update_bn(batches, one)
    assert reestimate_batchnorm(other, batches) == 5
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=0, atol=0)
