"""Average-case flatness against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema.analysis.flatness import Flatness, average_flatness, width
from switch_ema.analysis.objective import Objective, supervised
from switch_ema.errors import InputError
from tests.analysis.test_sharpness import Weights, data, network, of_network

N = 12


def quadratic(a: Tensor, minimum: Tensor, start: Tensor | None = None) -> Objective:
    """Make the objective 1/2 (w - minimum)^T A (w - minimum), at the minimum unless told otherwise."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        away: Tensor = model() - minimum
        value: Tensor = torch.dot(away, a @ away) / 2 + 0 * batch.sum()
        return value

    return Objective(Weights(minimum.clone() if start is None else start), loss, [torch.zeros(2, dtype=torch.float64)])


def hessian() -> tuple[Tensor, Tensor]:
    """Return a positive definite matrix, and a point that is not the origin."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(N, N, dtype=torch.float64, generator=generator)
    return root @ root.T, torch.randn(N, dtype=torch.float64, generator=generator)


def test_at_the_minimum_of_a_quadratic_the_trace_decides() -> None:
    a, minimum = hessian()
    variance = 2 * float((a @ a).trace())  # of g^T A g
    count = 400
    for found in average_flatness(quadratic(a, minimum), [0.3, 0.01], num_directions=count):
        unit = found.radius**2 * float(minimum.square().sum()) / (2 * N)
        error = unit * math.sqrt(variance / count)
        assert abs(found.increase - unit * float(a.trace())) < 3 * error
        assert found.standard_error == pytest.approx(error, rel=0.2)
        assert (found.loss, found.num_directions, found.perturbation) == (0, count, "gaussian")


def test_it_is_the_increase_over_the_loss_at_the_weights() -> None:
    a, minimum = hessian()
    found = average_flatness(quadratic(a, minimum, torch.ones(N, dtype=torch.float64)), [1e-6])[0]
    away = torch.ones(N, dtype=torch.float64) - minimum
    assert found.loss == pytest.approx(float(away @ a @ away / 2))
    assert abs(found.increase) < 1e-3 * found.loss


def test_all_radii_see_the_same_directions() -> None:
    a, minimum = hessian()
    small, large = average_flatness(quadratic(a, minimum), [0.1, 0.2], num_directions=3)
    assert large.increase == pytest.approx(4 * small.increase, rel=1e-12)
    alone = average_flatness(quadratic(a, minimum), [0.2], num_directions=3)[0]
    assert alone.increase == pytest.approx(large.increase, rel=1e-12)


def test_filters_keep_the_norms_of_the_weights() -> None:
    # one linear layer with identity inputs: its mean squared output is the mean of the rows' squared norms
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False).double()
    with torch.no_grad():
        model.weight[1] *= 10
    weight = model.weight.detach().clone()
    batches = [(torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64) @ weight.T)]
    objective = Objective(model, supervised(nn.functional.mse_loss), batches)
    for found in average_flatness(objective, [0.1, 0.5], perturbation="filter", num_directions=2):
        assert found.increase == pytest.approx(found.radius**2 * float(weight.square().mean()), rel=1e-9)
        assert found.standard_error == pytest.approx(0, abs=1e-12)


def test_filter_normalized_flatness_does_not_depend_on_the_scale_of_layers() -> None:
    def make(factor: float) -> Objective:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).double()
        with torch.no_grad():
            first, last = model.parameters()
            first.mul_(factor)
            last.div_(factor)
        return Objective(model, supervised(nn.functional.cross_entropy), [(x.double(), y) for x, y in data()])

    def increase(factor: float, **options: Any) -> float:
        return average_flatness(make(factor), [0.5], num_directions=5, **options)[0].increase

    assert increase(4.0, perturbation="filter") == pytest.approx(increase(1.0, perturbation="filter"), rel=1e-9)
    assert increase(4.0) != pytest.approx(increase(1.0), rel=0.1)


def test_it_is_seeded_and_leaves_the_model_alone() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    for perturbation in ("gaussian", "filter"):
        first, again, other = (
            average_flatness(of_network(model), [0.1, 0.2], perturbation=perturbation, seed=seed, num_directions=4)
            for seed in (3, 3, 4)
        )
        assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_an_overflow_is_an_infinite_increase_and_ends_the_width() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return -torch.log(model()).sum() + 0 * batch.sum()  # not a number below 0

    objective = Objective(Weights(torch.full((4,), 2.0)), loss, [torch.zeros(1)])
    small, large = average_flatness(objective, [0.01, 10.0])
    assert math.isfinite(small.increase)
    assert large.increase == large.standard_error == math.inf
    assert width([small, large], 0.5).reached
    assert width([small, large], 0.5).radius == small.radius


def measured(*increases: float) -> list[Flatness]:
    return [Flatness(r, "gaussian", 0.0, increase, 0.0, 10) for r, increase in enumerate(increases, start=1)]


def test_the_width_is_exact_for_a_quadratic() -> None:
    rising = measured(*(0.5 * r * r for r in (1, 2, 3)))
    for threshold in (0.08, 0.5, 1.0, 4.4):
        found = width(rising[::-1], threshold)
        assert found.reached
        assert found.radius == pytest.approx(math.sqrt(threshold / 0.5), rel=1e-12)


def test_the_width_is_where_the_threshold_is_first_reached() -> None:
    assert width(measured(-0.1, 1.0, 0.1, 9.0), 0.25).radius == 1.5  # a fall counts as no rise
    assert width(measured(0.1, 0.2), 0.25) == width(measured(0.1, 0.2), 0.25)
    assert not width(measured(0.1, 0.2), 0.25).reached
    assert width(measured(0.1, 0.2), 0.25).radius == 2.0
    assert width(measured(0.1, 0.25), 0.25).reached


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radii": []}, r"radii \[\]: write sizes above 0"),
        ({"radii": [0.1, -1.0]}, "write sizes above 0"),
        ({"radii": [math.inf]}, "write sizes above 0"),
        ({"radii": [0.1], "num_directions": 1}, "num_directions 1: write at least 2"),
        ({"radii": [0.1], "perturbation": "gausian"}, "unknown perturbation 'gausian'; did you mean 'gaussian'"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        average_flatness(of_network(network()), **options)


def test_weights_of_zero_are_refused() -> None:
    with pytest.raises(InputError, match="all weights are 0"):
        average_flatness(quadratic(hessian()[0], torch.zeros(N, dtype=torch.float64)), [0.1])


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.inf, math.nan])
def test_a_threshold_that_is_no_rise_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="write an increase of the loss above 0"):
        width(measured(1.0), threshold)


def test_the_width_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no flatness was measured"):
        width([], 0.1)
