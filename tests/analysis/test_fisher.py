"""Fisher traces against sums over single examples and labels, and against the trace of the GGN."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switch_ema.analysis.fisher import empirical_fisher_trace, true_fisher_trace
from switch_ema.analysis.ggn import ggn
from switch_ema.errors import InputError
from tests.analysis.test_hessian import (
    Attention,
    Case,
    Cubes,
    LossFunction,
    Recurrent,
    build,
    conv_net,
    pairs,
    relu_mlp,
    tanh_mlp,
)


def squared_norm(model: nn.Module, loss: Tensor) -> float:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return sum(float(g.square().sum()) for g in torch.autograd.grad(loss, parameters))


def explicit(model: nn.Module, loss_fn: LossFunction, batches: list[tuple[Tensor, Tensor]]) -> float:
    """The mean over the examples, one by one."""
    model = copy.deepcopy(model).eval()
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    norms = [squared_norm(model, loss_fn(model(x), y)) for x, y in zip(inputs.split(1), targets.split(1), strict=True)]
    return sum(norms) / len(norms)


def explicit_expectation(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """The mean over the examples of the sum over the labels, each with its probability."""
    model = copy.deepcopy(model).eval()
    total = 0.0
    examples = torch.cat([inputs for inputs, _ in batches]).split(1)
    for x in examples:
        for label, p in enumerate(model(x).softmax(1)[0].tolist()):
            total += p * squared_norm(model, F.cross_entropy(model(x), torch.tensor([label])))
    return total / len(examples)


@pytest.mark.parametrize("case", [tanh_mlp, relu_mlp, conv_net])
@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_empirical_fisher_is_the_mean_over_single_examples(case: Callable[[], Case], chunk: int | None) -> None:
    model, loss_fn, batches = build(case)
    expected = explicit(model, loss_fn, batches)
    assert expected > 0.01
    assert empirical_fisher_trace(model, loss_fn, batches, chunk=chunk) == pytest.approx(expected, rel=1e-12)


def test_frozen_and_tied_parameters() -> None:
    model, loss_fn, batches = build(tanh_mlp)
    model[2].requires_grad_(False)  # type: ignore[index]
    assert empirical_fisher_trace(model, loss_fn, batches) == pytest.approx(explicit(model, loss_fn, batches))
    tied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False)).double()
    tied[2].weight = tied[0].weight
    batches = pairs((3,), None)
    expected = explicit(tied, F.cross_entropy, batches)
    assert empirical_fisher_trace(tied, F.cross_entropy, batches) == pytest.approx(expected)


@pytest.mark.parametrize("network", ["attention", "recurrent", "opaque"])
def test_networks_that_torch_func_can_and_cannot_follow(network: str) -> None:
    torch.manual_seed(0)
    batches = pairs((3, 4), None)
    opaque = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), Cubes(True))
    model = {"attention": Attention(), "recurrent": Recurrent(), "opaque": opaque}[network].double()
    batches = [(x, y % 2) for x, y in batches]
    expected = explicit(model, F.cross_entropy, batches)
    assert empirical_fisher_trace(model, F.cross_entropy, batches) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("case", [tanh_mlp, conv_net])
def test_true_fisher_is_the_trace_of_the_ggn_in_expectation(case: Callable[[], Case]) -> None:
    model, loss_fn, batches = build(case)
    expected = explicit_expectation(model, batches)
    assert float(ggn(model, loss_fn, batches).dense().trace()) == pytest.approx(expected, rel=1e-10)
    found = true_fisher_trace(model, batches, num_samples=200)
    assert abs(found.value - expected) < 4 * found.standard_error
    assert found.standard_error < 0.03 * expected


def test_the_standard_error_is_the_deviation_over_seeds() -> None:
    model, _, batches = build(tanh_mlp)
    found = [true_fisher_trace(model, batches, num_samples=4, seed=seed) for seed in range(60)]
    deviation = float(torch.tensor([each.value for each in found]).std())
    stated = float(torch.tensor([each.standard_error for each in found]).square().mean().sqrt())
    assert deviation / stated == pytest.approx(1, abs=0.3)


def test_the_labels_follow_the_seed_alone_and_those_of_the_data_do_not_matter() -> None:
    model, _, batches = build(tanh_mlp)
    first = true_fisher_trace(model, batches, seed=1)
    torch.manual_seed(99)
    others = [(inputs, torch.zeros(len(inputs))) for inputs, _ in batches]
    assert true_fisher_trace(model, others, seed=1, chunk=2).value == pytest.approx(first.value, rel=1e-12)
    assert true_fisher_trace(model, batches, seed=2) != first


def test_the_live_model_and_the_random_state_are_left_alone() -> None:
    model, loss_fn, batches = build(conv_net)
    model.train()
    loss_fn(model(batches[0][0]), batches[0][1]).backward()
    before = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    random = torch.get_rng_state()
    empirical_fisher_trace(model, loss_fn, batches)
    true_fisher_trace(model, batches, num_samples=2)
    with pytest.raises(InputError):
        empirical_fisher_trace(model, loss_fn, [(batches[0][0], batches[0][1][:-1])])
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    kept = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(old, now) for old, now in zip(gradients, kept, strict=True))


def test_bad_input_is_refused() -> None:
    model, loss_fn, batches = build(tanh_mlp)
    with pytest.raises(InputError, match="chunk 0: write at least 1"):
        empirical_fisher_trace(model, loss_fn, batches, chunk=0)
    with pytest.raises(InputError, match="num_samples 1: write at least 2"):
        true_fisher_trace(model, batches, num_samples=1)
    with pytest.raises(InputError, match="batches is empty"):
        true_fisher_trace(model, [])
    with pytest.raises(InputError, match=r"write reduction='mean'"):
        empirical_fisher_trace(model, nn.CrossEntropyLoss(reduction="sum"), batches)
    flat = nn.Sequential(model, nn.Flatten(0))
    with pytest.raises(
        InputError, match=r"the output has shape \(15,\); the true Fisher needs logits \(examples, classes\)"
    ):
        true_fisher_trace(flat, batches)
    named = [({"x": inputs}, targets) for inputs, targets in batches]
    with pytest.raises(InputError, match="a batch is no pair of tensors"):
        empirical_fisher_trace(model, loss_fn, named)  # type: ignore[arg-type]
