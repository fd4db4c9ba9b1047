"""Features read off layers without touching the network, and the linear probe against the optimum and other solvers."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.utils.data import DataLoader, TensorDataset

from switch_ema.analysis.transfer import Side, features, linear_probe
from switch_ema.errors import InputError


class Net(nn.Module):
    """Registered out of order: the head runs last but stands first; one layer never runs; one works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.conv = nn.Conv2d(1, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.middle = nn.Linear(6, 6)
        self.drop = nn.Dropout(0.5)
        self.pair = nn.LSTM(6, 6, batch_first=True)
        self.unused = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x))).mean((2, 3))
        x = self.drop(self.middle(x))
        self.pair(x[:, None])
        return self.head(input=x)  # type: ignore[no-any-return]


def net() -> Net:
    torch.manual_seed(0)
    made = Net()
    made(torch.randn(16, 1, 8, 8))  # statistics of their own
    return made


def batches(count: int = 10) -> list[tuple[Tensor, Tensor]]:
    images = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(count) % 3
    return list(zip(images.split(4), labels.split(4), strict=True))


def test_the_input_of_the_linear_layer_that_runs_last() -> None:
    model = net().eval()
    found, labels = features(model, batches())
    images = torch.cat([x for x, _ in batches()])
    with torch.no_grad():
        expected = model.middle(model.relu(model.norm(model.conv(images))).mean((2, 3)))
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(model.head(found), model(images))
    assert torch.equal(labels, torch.arange(10) % 3)
    assert torch.equal(features(model, batches(), "head")[0], found)
    assert torch.equal(features(model, batches(), "middle", side="output")[0], found)
    assert not found.requires_grad


@pytest.mark.parametrize(("layer", "side"), [("norm", "output"), ("relu", "input")])
def test_features_are_kept_before_the_next_layer_works_in_place(layer: str, side: Side) -> None:
    model = net().eval()
    found, _ = features(model, batches(), layer, side=side)
    with torch.no_grad():
        expected = torch.cat([model.norm(model.conv(x)) for x, _ in batches()])
    assert expected.min() < 0
    torch.testing.assert_close(found, expected)


class BrokenError(RuntimeError):
    pass


def state(model: nn.Module) -> list[object]:
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    gradients = [None if p.grad is None else p.grad.tolist() for p in model.parameters()]
    tensors = {name: value.tolist() for name, value in model.state_dict().items()}
    return [modes, hooks, gradients, tensors, torch.get_rng_state().tolist(), random.getstate()]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_and_the_random_numbers_are_left_as_they_were(fails: bool) -> None:
    """Also after an exception in a layer, and with a loader, which draws a random number each time it starts."""
    model = net().train()
    model.norm.eval()
    cross_entropy(model(torch.randn(4, 1, 8, 8)), torch.zeros(4, dtype=torch.long)).backward()
    images, labels = (torch.cat(part) for part in zip(*batches(), strict=True))
    loader = DataLoader(TensorDataset(images, labels), 4, shuffle=True)
    before = state(model)
    if fails:

        def fail(*_: object) -> None:
            raise BrokenError

        handle = model.drop.register_forward_hook(fail)
        with pytest.raises(BrokenError):
            features(model, loader)
        handle.remove()
    else:
        features(model, loader)
    assert state(model) == before


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("haed", "unknown layer 'haed'; did you mean 'head'"),
        ("unused", "'unused' did not run; write the name of a layer that the model calls"),
        ("pair", "'pair' has a tensor of shape|'pair' has tuple, not one tensor with a row for each of 4 labels"),
    ],
)
def test_a_layer_without_features_is_named(layer: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        features(net(), batches(), layer, side="output")


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="batches: there is none"):
        features(net(), [])
    with pytest.raises(InputError, match="did you mean 'input'"):
        features(net(), batches(), side="inptu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no nn\.Linear; write the name of a layer"):
        features(Same(), batches())
    with pytest.raises(InputError, match=r"shape \(4, 6\), not one tensor with a row for each of 3 labels"):
        features(net(), [(torch.randn(4, 1, 8, 8), torch.zeros(3))])


def clusters(count: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return one_hot(labels, 5).float() + noise * torch.randn(count, 5, generator=generator), labels


def optimum(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], strength: float) -> float:
    """The accuracy of the same convex problem solved by torch's L-BFGS in float64."""
    mean, std = train[0].double().mean(0), train[0].double().std(0, correction=0)
    x, held_out = ((part.double() - mean) / std for part in (train[0], test[0]))
    weight = torch.zeros(x.shape[1], 3, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = cross_entropy(x @ weight + bias, train[1]) + strength / 2 * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return ((held_out @ weight + bias).argmax(1) == test[1]).double().mean().item()


def test_the_probe_is_the_optimum_of_the_strength_that_is_best_on_val() -> None:
    train, val, test = (clusters(count, 0.7, seed) for seed, count in enumerate((90, 200, 500)))
    strengths = (1.0, 1e-1, 1e-3)
    found = linear_probe(train, val, test, strengths=strengths)
    on_val = {strength: optimum(train, val, strength) for strength in strengths}
    assert len(set(on_val.values())) > 1
    assert found.strength == max(on_val, key=lambda strength: on_val[strength])
    assert found.val_accuracy == pytest.approx(on_val[found.strength])
    assert found.accuracy == pytest.approx(optimum(train, test, found.strength), abs=0.003)
    alone = [linear_probe(train, val, test, strengths=[strength]) for strength in strengths]
    assert [probe.val_accuracy for probe in alone] == pytest.approx(list(on_val.values()))


def test_of_equals_the_strongest_is_taken_in_whatever_order() -> None:
    easy = clusters(60, 0.01, 0)
    for strengths in ((1e-4, 1e-1, 1e-2), (1e-1, 1e-2, 1e-4)):
        found = linear_probe(easy, easy, easy, strengths=strengths)
        assert (found.strength, found.accuracy, found.val_accuracy) == (1e-1, 1, 1)


def test_scale_shape_and_constant_columns_do_not_matter() -> None:
    parts = [clusters(count, 0.5, seed) for seed, count in enumerate((90, 100, 200))]
    scale, shift = torch.tensor([1e3, 1e-3, 1, 5, 2]), torch.tensor([0, 7.0, 0, 0, 3])
    plain = linear_probe(parts[0], parts[1], parts[2])
    moved = [(torch.cat([x * scale + shift, torch.ones(len(x), 1)], 1).view(-1, 2, 3), y) for x, y in parts]
    again = linear_probe(moved[0], moved[1], moved[2])
    assert again.accuracy == pytest.approx(plain.accuracy, abs=0.006)
    assert plain.accuracy > 0.7


def test_a_bad_probe_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    good = clusters(30, 0.5, 0)
    x, y = good
    for train, message in [
        ((x[:0], y[:0]), r"train: features of shape \(0, 5\)"),
        ((x, y[:3]), r"labels of shape \(3,\) and type int64"),
        ((x, y.float()), "type float32; write"),
        ((x / 0, y), "features of train: not all are finite"),
        ((x, 0 * y), "labels of train: all are equal"),
        ((x[:, :4], y), r"have \[4, 5, 5\] columns"),
    ]:
        with pytest.raises(InputError, match=message):
            linear_probe(train, good, good)
    for strengths in ([], [0.1, 0.0]):
        with pytest.raises(InputError, match="write at least one, all above 0"):
            linear_probe(good, good, good, strengths=strengths)
    monkeypatch.setattr("switch_ema.analysis.transfer._ITERATIONS", 2)
    with pytest.raises(InputError, match=r"with 0\.1 the probe does not converge in 2 iterations; write larger ones"):
        linear_probe(good, good, good)
