"""Optimizers are built with the groups, options and learning rates that were asked for."""

from __future__ import annotations

import importlib
import io
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from switch_ema import EMA
from switch_ema.bench.optim import build_optimizer, evaluation_weights, parameter_groups
from switch_ema.bench.settings import Settings
from switch_ema.errors import InputError

ALL = ["sgd", "adam", "adamw", "lamb", "lars", "adan", "schedulefree"]


class Network(nn.Module):
    """A token, a layer, a norm and a frozen scale."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 3))
        self.layer = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.frozen = nn.Parameter(torch.ones(4, 4), requires_grad=False)

    def no_weight_decay(self) -> set[str]:
        return {"token", "absent"}

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.layer(x + self.token[0]))
        return y


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Network(), nn.Linear(4, 2))


def settings(**values: Any) -> Settings:
    return Settings.of(task="classification", data="digits", model="mlp", **values)


def names(model: nn.Module, group: dict[str, Any]) -> set[str]:
    held = {id(p) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in held}


def train(model: nn.Module, optimizer: Optimizer, steps: int, lr: float, first: int = 0) -> list[float]:
    losses = []
    for step in range(first, first + steps):
        x = torch.randn(32, 3, generator=torch.manual_seed(step))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 10)
        loss = (model(x) - x[:, :2].sin()).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", ALL)
def test_norms_biases_and_named_parameters_do_not_decay(name: str) -> None:
    model = network()
    decayed, others = build_optimizer(model, settings(optimizer=name, weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert names(model, decayed) == {"0.layer.weight", "1.weight"}
    assert names(model, others) == {"0.token", "0.layer.bias", "0.norm.weight", "0.norm.bias", "1.bias"}


@pytest.mark.parametrize("name", ALL)
def test_everything_trained_decays_if_asked(name: str) -> None:
    model = network()
    (group,) = build_optimizer(model, settings(optimizer=name, weight_decay=0.3, decay_norms=True)).param_groups
    assert group["weight_decay"] == 0.3
    assert names(model, group) == {name for name, _ in model.named_parameters()} - {"0.frozen"}


def test_timms_tokens_do_not_decay() -> None:
    from switch_ema.tasks.models import build_model

    model = nn.ModuleDict({"online": build_model("timm/test_vit", 3, 3, 32)})
    _, others = build_optimizer(model, settings(optimizer="adamw")).param_groups
    assert {"online.cls_token", "online.pos_embed"} <= names(model, others)


@pytest.mark.parametrize("name", ALL)
def test_every_optimizer_learns(name: str) -> None:
    model = network()
    lr = {"sgd": 0.05, "lars": 2.0}.get(name, 0.02)
    losses = train(model, build_optimizer(model, settings(optimizer=name)), 60, lr)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


@pytest.mark.parametrize("name", ALL)
def test_the_rate_it_is_made_with_is_harmless(name: str) -> None:
    mine, other = network(), network()
    asked = settings(optimizer=name)
    options = {"sgd": {"momentum": 0.9, "nesterov": True}, "lars": {"momentum": 0.9}}.get(name, {})
    optimizer = build_optimizer(mine, asked)
    train(mine, optimizer, 4, 0.01)
    made: Any = type(optimizer)
    train(other, made(parameter_groups(other, asked), lr=0.01, **options), 4, 0.01)
    assert all(p.equal(q) for p, q in zip(mine.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", ALL)
def test_training_goes_on_from_its_state(name: str) -> None:
    model = network()
    optimizer = build_optimizer(model, settings(optimizer=name))
    train(model, optimizer, 5, 0.01)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    other = network()
    other.load_state_dict(weights)
    resumed = build_optimizer(other, settings(optimizer=name))
    resumed.load_state_dict(state)
    assert train(model, optimizer, 5, 0.01, first=5) == train(other, resumed, 5, 0.01, first=5)


def test_options_reach_the_optimizer() -> None:
    model = network()
    assert build_optimizer(model, settings(momentum=0.8)).param_groups[0]["nesterov"] is True
    assert build_optimizer(model, settings(momentum=0.8, nesterov=False)).param_groups[0]["nesterov"] is False
    assert build_optimizer(model, settings(momentum=0.0)).param_groups[0]["nesterov"] is False
    lars = build_optimizer(model, settings(optimizer="lars", momentum=0.8)).param_groups[0]
    assert (lars["momentum"], lars["nesterov"]) == (0.8, False)
    for name, betas in (("adam", (0.8, 0.9)), ("lamb", (0.8, 0.9)), ("adan", (0.9, 0.8, 0.7))):
        group = build_optimizer(model, settings(optimizer=name, betas=betas, eps=1e-5)).param_groups[0]
        assert (tuple(group["betas"]), group["eps"]) == (betas, 1e-5)
    default = build_optimizer(model, settings(optimizer="adamw")).param_groups[0]
    assert (default["betas"], default["eps"]) == ((0.9, 0.999), 1e-8)


@pytest.mark.parametrize("name", ["lamb", "lars"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_trust_ratios_leave_out_what_does_not_decay(name: str, weight_decay: float) -> None:
    model = network()
    optimizer = build_optimizer(model, settings(optimizer=name, weight_decay=weight_decay))
    adapted = [bool(g["weight_decay"]) or bool(g.get("always_adapt")) for g in optimizer.param_groups]
    assert adapted == [True, False]


def test_lars_steps_are_those_of_the_paper() -> None:
    model = network()
    optimizer = build_optimizer(model, settings(optimizer="lars", weight_decay=0.1, momentum=0.0))
    weight, bias = model.get_parameter("1.weight"), model.get_parameter("1.bias")
    w, b = weight.detach().clone(), bias.detach().clone()
    model(torch.randn(8, 3)).square().sum().backward()
    assert isinstance(weight.grad, Tensor)
    assert isinstance(bias.grad, Tensor)
    ratio = 0.001 * w.norm() / (weight.grad.norm() + 0.1 * w.norm())
    expected = w - 2.0 * ratio * (weight.grad + 0.1 * w), b - 2.0 * bias.grad
    for group in optimizer.param_groups:
        group["lr"] = 2.0
    optimizer.step()
    torch.testing.assert_close(weight.detach(), expected[0])
    torch.testing.assert_close(bias.detach(), expected[1])


def test_schedule_free_is_judged_by_its_average_and_goes_on_unchanged() -> None:
    model = nn.Sequential(nn.Linear(3, 256), nn.Tanh(), nn.Linear(256, 2))
    optimizer = build_optimizer(model, settings(optimizer="schedulefree"))
    for step in range(5):
        train(model, optimizer, 1, 0.01, first=step)
        trained = [p.detach().clone() for p in model.parameters()]
        with suppress(ZeroDivisionError), evaluation_weights(optimizer):
            for y, p in zip(trained, model.parameters(), strict=True):
                torch.testing.assert_close(y, 0.9 * p.detach() + 0.1 * optimizer.state[p]["z"])
                assert step == 0 or not p.equal(y)
            raise ZeroDivisionError
        assert all(p.equal(y) for y, p in zip(trained, model.parameters(), strict=True))
        assert all(group["train_mode"] for group in optimizer.param_groups)


def test_schedule_free_weighs_by_the_largest_rate_so_far() -> None:
    model = network()
    optimizer = build_optimizer(model, settings(optimizer="schedulefree", weight_decay=0.0))
    weight = model.get_parameter("1.weight")
    mean, total = weight.detach().clone(), 0.0
    for step in range(12):
        train(model, optimizer, 1, 0.1, first=step)
        largest = 0.1 * min(1.0, (step + 1) / 10)
        total += largest**2
        mean = mean.lerp(optimizer.state[weight]["z"], largest**2 / total)
    with evaluation_weights(optimizer):
        torch.testing.assert_close(weight.detach(), mean)


def test_averages_of_a_schedule_free_optimizer_are_of_what_the_model_holds() -> None:
    model = network()
    optimizer = build_optimizer(model, settings(optimizer="schedulefree"))
    averager = EMA(model, decay=0.0)
    averager.attach(optimizer)
    train(model, optimizer, 3, 0.01)
    y = model.get_parameter("1.weight").detach().clone()
    with evaluation_weights(optimizer), averager.average_parameters():
        assert model.get_parameter("1.weight").equal(y)
    assert model.get_parameter("1.weight").equal(y)


def test_other_optimizers_are_judged_by_what_they_train() -> None:
    model = network()
    optimizer = build_optimizer(model, settings())
    before = model.get_parameter("1.weight").detach().clone()
    with evaluation_weights(optimizer):
        assert model.get_parameter("1.weight").equal(before)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimizer": "sgd", "betas": (0.9, 0.99)}, "betas 0.9,0.99: the optimizer sgd takes none"),
        ({"optimizer": "adan", "betas": (0.9, 0.99)}, "betas 0.9,0.99: adan takes 3 numbers"),
        ({"optimizer": "adamw", "betas": (0.9, 1.0)}, "betas 0.9,1: adamw takes 2 numbers from 0 to below 1"),
        ({"optimizer": "schedulefree", "betas": (0.0, 0.9)}, "the first one of schedulefree is above 0"),
        ({"optimizer": "lars", "eps": 1e-8}, "eps 1e-08: the optimizer lars takes none"),
    ],
)
def test_bad_options_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        build_optimizer(network(), settings(**values))
    assert "\n" not in str(caught.value)


def test_a_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(InputError, match="no parameter to train"):
        build_optimizer(nn.Linear(2, 2).requires_grad_(False), settings())


@pytest.mark.parametrize(("name", "library"), [("lamb", "timm"), ("schedulefree", "pytorch-optimizer")])
def test_a_missing_library_is_named(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}")

    monkeypatch.setattr(importlib, "import_module", nothing)
    with pytest.raises(InputError, match=rf'needs {library}.*pip install "switch-ema\[bench\]"'):
        build_optimizer(network(), settings(optimizer=name))
