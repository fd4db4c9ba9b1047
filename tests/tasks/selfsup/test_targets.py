"""Target networks and queues: how they move, and that nothing else moves them."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema import SwitchEMA
from switch_ema.averaging.buffers import reestimate_batchnorm
from switch_ema.tasks.selfsup.contrastive import MoCoV2
from switch_ema.tasks.selfsup.module import SelfSupervised
from tests.tasks.selfsup.tiny import METHODS, MOMENTUM, batch, make, make_momentum, train


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", MOMENTUM)
def test_the_target_is_a_copy_that_no_gradient_reaches(name: str) -> None:
    method = make_momentum(name)
    pairs = list(zip(method.target.parameters(), method.online.encoder.parameters(), strict=True))
    assert pairs
    assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)
    method(*batch(name)).backward()
    assert all(not a.requires_grad and a.grad is None for a, _ in pairs)
    assert all(b.grad is not None for _, b in pairs)
    assert not method.targets(batch(name)[0].requires_grad_()).requires_grad


@pytest.mark.parametrize("name", MOMENTUM)
def test_the_target_follows_by_its_equation(name: str) -> None:
    method = make_momentum(name)
    for progress in (0.25, 1.0):
        before = [p.clone() for p in method.target.parameters()]
        with torch.no_grad():
            for parameter in method.online.parameters():
                parameter.add_(torch.randn_like(parameter))
        method.after_step(progress)
        m = 0.999 if name == "moco-v2" else 1 - 0.01 * (1 + math.cos(math.pi * progress)) / 2
        assert method.momentum_at(progress) == pytest.approx(m, abs=1e-12)
        for old, new, online in zip(
            before, method.target.parameters(), method.online.encoder.parameters(), strict=True
        ):
            torch.testing.assert_close(new, m * old + (1 - m) * online)
    if name != "moco-v2":
        assert all(torch.equal(a, b) for a, b in zip(before, method.target.parameters(), strict=True))


@pytest.mark.parametrize("name", MOMENTUM)
def test_after_a_switch_the_target_goes_on_and_follows_the_new_weights(name: str) -> None:
    method = make_momentum(name)
    optimizer = torch.optim.SGD(method.online.parameters(), 0.1)
    averager = SwitchEMA(method.online, decay=0.5, switch_every=3)
    for step in range(3):
        optimizer.zero_grad()
        method(*batch(name, seed=step)).backward()
        optimizer.step()
        before = [p.clone() for p in method.target.parameters()]
        trained = [p.detach().clone() for p in method.online.parameters()]
        averager.update()
        method.after_step(0.5)
    assert averager.n_switches == 1
    jumped = list(method.online.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(trained, jumped, strict=True))
    m = method.momentum_at(0.5)
    for old, new, online in zip(before, method.target.parameters(), method.online.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, m * old + (1 - m) * online)


def test_the_queue_is_first_in_first_out() -> None:
    method = make("moco-v2")
    assert isinstance(method, MoCoV2)
    keys: list[Tensor] = []
    for step in range(7):  # 7 x 16 keys through 48 places
        views = batch("moco-v2", seed=step)
        with torch.no_grad():
            keys.append(nn.functional.normalize(method.targets(views[1])))
        method(*views).backward()
        method.after_step(0.5)
    bank = method.criterion.memory_bank.bank
    newest = torch.cat([keys[6], keys[4], keys[5]])  # written round and round
    torch.testing.assert_close(bank, newest)
    assert not bank.requires_grad


def test_the_queue_takes_a_batch_that_is_longer() -> None:
    method = MoCoV2(make("byol").backbone, hidden=16, dim=8, queue_size=5)
    for step in range(3):
        assert method(*batch("byol", seed=step)).isfinite()
    assert method.criterion.memory_bank.bank.shape == (5, 8)


@pytest.mark.parametrize("name", METHODS)
def test_without_gradients_nothing_moves(name: str) -> None:
    method = make(name)
    train(method, name, 2)
    before = state(method)
    with torch.no_grad():
        method.eval()(*batch(name))
    assert equal(before, method.state_dict())
    running = {key for key in before if "running_" in key or "num_batches" in key}
    with torch.no_grad():
        method.train()(*batch(name))
    after = method.state_dict()
    assert all(key.startswith("online.") for key in running)
    assert equal({k: v for k, v in before.items() if k not in running}, {k: after[k] for k in before.keys() - running})


@pytest.mark.parametrize("name", ["moco-v2", "byol", "simclr", "a2mim-conv"])
def test_batchnorm_can_be_re_estimated_and_the_rest_stays(name: str) -> None:
    method = make(name)
    train(method, name, 2)
    before = state(method)
    method.eval()
    batches = [batch(name, seed=seed) for seed in range(4)]
    assert reestimate_batchnorm(method, batches, lambda model, views: model(*views)) == 4
    changed = {key for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith("online.") and ("running_" in key or "num_batches" in key) for key in changed)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_was_cut_goes_on_bit_for_bit(name: str) -> None:
    whole = make(name)
    losses = train(whole, name, 6)
    first = make(name)
    train(first, name, 3)
    saved = copy.deepcopy(first.state_dict())
    second = make(name, seed=1)
    second.load_state_dict(saved)
    assert train(second, name, 3, first=3) == losses[3:]
    assert equal(whole.state_dict(), second.state_dict())


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_takes_part(name: str) -> None:
    """What a loss does not reach would stop training on several processes."""
    method = make(name)
    method(*batch(name)).backward()
    assert [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.requires_grad for p in method.backbone.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_falls(name: str) -> None:
    method: SelfSupervised = make(name)
    optimizer = torch.optim.AdamW(method.online.parameters(), 3e-3)
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        loss = method(*batch(name, seed=step))
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / 40)
        losses.append(loss.item())
    if name == "moco-v2":  # at first the queue holds random vectors, which are easy to tell from keys
        losses = losses[3:]
    assert all(map(math.isfinite, losses))
    assert sum(losses[-5:]) < sum(losses[:5])
