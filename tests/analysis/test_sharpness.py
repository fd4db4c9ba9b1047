"""Worst-case sharpness against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema.analysis.objective import Objective, supervised
from switch_ema.analysis.sharpness import worst_case_sharpness
from switch_ema.errors import InputError

EIGENVALUES = (5.0, 2.0, 0.5, 0.1)


class Weights(nn.Module):
    """A model that is nothing but a vector of weights."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(weights)

    def forward(self) -> Tensor:
        return self.w


def hessian(seed: int = 0) -> Tensor:
    drawn = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    basis: Tensor = torch.linalg.qr(drawn).Q
    return basis @ torch.diag(torch.tensor(EIGENVALUES, dtype=torch.float64)) @ basis.T


def quadratic(start: Tensor, a: Tensor, minimum: Tensor) -> Objective:
    """Make the objective 1/2 (w - minimum)^T A (w - minimum) at w = start."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        away: Tensor = model() - minimum
        value: Tensor = torch.dot(away, a @ away) / 2 + 0 * batch.sum()
        return value

    return Objective(Weights(start), loss, [torch.zeros(2, dtype=torch.float64)])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def data() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)) for n in (16, 16, 5)]


def of_network(model: nn.Module, **options: Any) -> Objective:
    return Objective(model, supervised(nn.functional.cross_entropy), data(), **options)


@pytest.mark.parametrize("seed", [0, 1])
def test_at_the_minimum_of_a_quadratic_the_largest_eigenvalue_decides(seed: int) -> None:
    minimum = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    objective = quadratic(minimum.clone(), hessian(seed), minimum)
    for found in worst_case_sharpness(objective, [0.5, 0.1, 2.0], num_steps=60, seed=seed):
        assert found.increase == pytest.approx(found.rho**2 * EIGENVALUES[0] / 2, rel=1e-9)
        assert (found.loss, found.one_step) == (0, 0)  # there is no gradient to follow


def test_away_from_the_minimum_it_is_the_exact_maximum_on_the_ball() -> None:
    minimum, a = torch.zeros(4, dtype=torch.float64), hessian()
    start = torch.tensor([0.4, 0.1, -0.3, 0.2], dtype=torch.float64)
    found = worst_case_sharpness(quadratic(start, a, minimum), [0.3], num_steps=80)[0]
    values, basis = torch.linalg.eigh(a)
    # the maximum is at (mu I - A) eps = g with ||eps|| = rho and mu above the largest eigenvalue: bisection for mu
    g = basis.T @ (a @ start)
    low, high = EIGENVALUES[0], 1e6
    for _ in range(200):
        mu = (low + high) / 2
        low, high = (mu, high) if (g / (mu - values)).norm() > 0.3 else (low, mu)
    eps = g / (high - values)
    assert found.increase == pytest.approx(float(g @ eps + (values * eps**2).sum() / 2), rel=1e-8)
    ascent = 0.3 * a @ start / (a @ start).norm()
    assert found.one_step == pytest.approx(float(start @ a @ ascent + ascent @ a @ ascent / 2), rel=1e-9)
    assert found.one_step < found.increase


def test_the_adaptive_step_is_that_of_asam() -> None:
    minimum, a = torch.zeros(4, dtype=torch.float64), hessian()
    start = torch.tensor([0.4, 0.1, -0.3, 0.2], dtype=torch.float64)
    found = worst_case_sharpness(quadratic(start, a, minimum), [0.3], adaptive=True, num_steps=1)[0]
    g = a @ start
    eps = 0.3 * start**2 * g / (start.abs() * g).norm()
    assert found.one_step == pytest.approx(float(g @ eps + eps @ a @ eps / 2), rel=1e-9)


def test_the_adaptive_ball_at_the_minimum_has_the_scaled_hessian() -> None:
    minimum = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    a = hessian()
    found = worst_case_sharpness(quadratic(minimum.clone(), a, minimum), [0.1], adaptive=True, num_steps=80)[0]
    scaled = minimum.abs().diag() @ a @ minimum.abs().diag()
    assert found.increase == pytest.approx(0.1**2 * float(torch.linalg.eigvalsh(scaled)[-1]) / 2, rel=1e-8)


def rescaled(model: nn.Module, factor: float) -> nn.Module:
    """Scale the layers before and after a ReLU by factor and 1 / factor: the same function."""
    with torch.no_grad():
        first, bias, last, _ = model.parameters()
        first.mul_(factor)
        bias.mul_(factor)
        last.div_(factor)
    return model


def test_the_adaptive_form_does_not_depend_on_the_scale_of_layers() -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()

    batches = [(x.double(), y) for x, y in data()]
    loss = supervised(nn.functional.cross_entropy)

    def increases(model: nn.Module, adaptive: bool) -> list[float]:
        objective = Objective(model, loss, batches)
        return [each.increase for each in worst_case_sharpness(objective, [0.3], adaptive=adaptive, num_steps=4)]

    assert increases(make(), True) == pytest.approx(increases(rescaled(make(), 4.0), True), rel=1e-9)
    assert increases(make(), False) != pytest.approx(increases(rescaled(make(), 4.0), False), rel=0.1)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_it_never_falls_as_the_ball_grows(num_steps: int, adaptive: bool) -> None:
    # a bump: beyond it the loss falls below that of the centre, where both ends of a gradient step are lower
    class Bump(Weights):
        def forward(self) -> Tensor:
            return torch.sin(6 * self.w).sum() - self.w.square().sum()

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        value: Tensor = model() + 0 * batch.sum()
        return value

    objective = Objective(Bump(torch.tensor([0.05, 0.1])), loss, [torch.zeros(1)])
    rhos = [0.5, 0.1, 3.0, 1.0, 8.0]
    found = worst_case_sharpness(objective, rhos, adaptive=adaptive, num_steps=num_steps)
    increases = [each.increase for each in found]
    assert [each.rho for each in found] == sorted(rhos)
    assert increases == sorted(increases)
    assert min(increases) >= 0
    if not adaptive:
        assert found[-1].one_step < 0


def test_it_is_never_below_zero_at_a_maximum() -> None:
    top = torch.zeros(4, dtype=torch.float64)
    found = worst_case_sharpness(quadratic(top, -hessian(), top), [0.1, 1.0])
    assert [each.increase for each in found] == [0, 0]


def test_more_steps_find_more_in_a_network() -> None:
    one, many = (worst_case_sharpness(of_network(network()), [0.3], num_steps=n)[0] for n in (1, 10))
    assert many.increase > 1.001 * one.increase > 0
    assert one.increase == one.one_step == many.one_step


def test_an_overflow_is_an_infinite_increase() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return torch.log(model()).sum() + 0 * batch.sum()  # not a number below 0

    objective = Objective(Weights(torch.tensor([-0.5, -1.0]).exp()), lambda m, b: -loss(m, b), [torch.zeros(1)])
    small, large, larger = worst_case_sharpness(objective, [0.1, 2.0, 3.0])
    assert 0 < small.increase < math.inf
    assert large.increase == larger.increase == math.inf


def test_it_is_seeded_and_leaves_the_model_alone() -> None:
    model = network()
    weight = next(model.parameters())
    weight.grad = torch.ones(8, 6)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    for batchnorm in ("eval", "train"):
        first, again = (worst_case_sharpness(of_network(model, batchnorm=batchnorm), [0.1, 0.2], seed=3) for _ in "ab")
        assert first == again
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones(8, 6))
    assert all(p.grad is None for name, p in model.named_parameters() if name != "0.weight")


def test_the_objective_stays_where_it_is() -> None:
    objective = of_network(network())
    value, gradient = objective.value(), objective.gradient()
    worst_case_sharpness(objective, [0.5])
    assert objective.value() == value
    assert all(torch.equal(g, gradient[name]) for name, g in objective.gradient().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rhos": []}, r"rhos \[\]: write radii above 0"),
        ({"rhos": [0.1, 0.0]}, r"rhos \[0.1, 0.0\]: write radii above 0"),
        ({"rhos": [math.inf]}, "write radii above 0"),
        ({"rhos": [math.nan]}, "write radii above 0"),
        ({"rhos": [0.1], "num_steps": 0}, "num_steps 0: write at least 1"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        worst_case_sharpness(of_network(network()), **options)
