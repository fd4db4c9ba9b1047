"""Landscapes beside closed forms: quadratic models, the model's own loss at the origin, and barriers by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from switch_ema.analysis.directions import project, random_direction
from switch_ema.analysis.landscape import barrier, interpolation, line, plane
from switch_ema.analysis.objective import Objective, supervised
from switch_ema.errors import InputError


def quadratic() -> tuple[Objective, Tensor, Tensor]:
    """Return a linear regression (mean over two batches of different size), its inputs and its targets in float64."""
    torch.manual_seed(0)
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 1, dtype=torch.float64)
    model = nn.Linear(3, 1, bias=False).double()
    return Objective(model, supervised(mse_loss), [(x[:5], y[:5]), (x[5:], y[5:])]), x, y


def norm_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    net(torch.randn(50, 2) + seed)
    return net


def points() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(n, 2, generator=generator), torch.randint(3, (n,), generator=generator)) for n in (8, 4)]


def test_the_plane_of_a_quadratic_is_its_closed_form() -> None:
    objective, x, y = quadratic()
    w = objective.parameters["weight"]
    first, second = torch.randn(2, 1, 3, dtype=torch.float64)
    xs, ys = [-1.0, 0.0, 0.5, 2.0], [-0.7, 0.0, 3.0]
    found = plane(objective, [{"weight": first}, {"weight": second}], xs, ys)
    assert (found.xs, found.ys) == (xs, ys)
    for b, row in zip(ys, found.losses, strict=True):
        expected = [float(((x @ (w + a * first + b * second).T - y) ** 2).mean()) for a in xs]
        assert row == pytest.approx(expected, rel=1e-12)
    along = line(objective, {"weight": first}, xs)
    assert along.losses == pytest.approx(found.losses[1], rel=1e-12)
    assert along.positions == xs


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
def test_the_origin_is_the_models_loss(batchnorm: Any) -> None:
    objective = Objective(norm_net(), supervised(cross_entropy), points(), batchnorm=batchnorm)
    directions = [random_direction(objective.parameters, seed=k) for k in range(2)]
    found = plane(objective, directions, [-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0])
    assert found.losses[1][1] == pytest.approx(objective.value(), rel=1e-6)
    alone = plane(objective, directions, [-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], chunk=1)
    assert alone.losses[1][1] == objective.value()
    torch.testing.assert_close(torch.tensor(found.losses), torch.tensor(alone.losses), rtol=1e-6, atol=0)


def test_a_solution_lies_where_its_projection_says() -> None:
    objective = Objective(norm_net(), supervised(cross_entropy), points())
    centre = objective.parameters
    directions = [random_direction(centre, seed=k) for k in range(2)]
    solution = {
        name: p + 0.5 * directions[0].get(name, 0) - 2 * directions[1].get(name, 0) for name, p in centre.items()
    }
    where = project(solution, centre, directions).coordinates
    net = norm_net()
    net.load_state_dict(solution, strict=False)
    expected = Objective(net, supervised(cross_entropy), points()).value()
    assert plane(objective, directions, where[:1], where[1:]).losses[0][0] == pytest.approx(expected, rel=1e-5)


def test_between_two_solutions_statistics_are_interpolated_too() -> None:
    start, end = norm_net(1), norm_net(2)
    objective = Objective(norm_net(3), supervised(cross_entropy), points())
    found = interpolation(objective, start.state_dict(), end.state_dict(), 5)
    assert found.positions == [0, 0.25, 0.5, 0.75, 1]
    for t, loss in zip(found.positions, found.losses, strict=True):
        between = copy.deepcopy(start)
        floats = {name: p for name, p in end.state_dict().items() if p.is_floating_point()}
        mixed = {name: torch.lerp(start.state_dict()[name], p, t) for name, p in floats.items()}
        between.load_state_dict(mixed, strict=False)
        assert loss == pytest.approx(Objective(between, supervised(cross_entropy), points()).value(), rel=1e-5)


def test_between_two_solutions_with_statistics_of_the_batch() -> None:
    objective = Objective(norm_net(3), supervised(cross_entropy), points(), batchnorm="train")
    found = interpolation(objective, norm_net(1).state_dict(), norm_net(2).state_dict(), 3)
    ends = [
        Objective(norm_net(seed), supervised(cross_entropy), points(), batchnorm="train").value() for seed in (1, 2)
    ]
    assert found.losses[::2] == pytest.approx(ends, rel=1e-5)


def test_names_that_the_solutions_lack_stay_as_in_the_model() -> None:
    objective = Objective(norm_net(3), supervised(cross_entropy), points())
    mine, other = objective.parameters, norm_net(1).state_dict()
    only = {"3.weight": other["3.weight"]}
    found = interpolation(objective, {"3.weight": mine["3.weight"]}, only, 2)
    net = norm_net(3)
    net.load_state_dict(only, strict=False)
    assert found.losses[0] == pytest.approx(objective.value(), rel=1e-6)
    assert found.losses[1] == pytest.approx(Objective(net, supervised(cross_entropy), points()).value(), rel=1e-5)


@pytest.mark.parametrize(
    ("losses", "height"),
    [
        ([1.0, 4.0, 2.0], 2.5),
        ([2.0, 1.0, 2.0], 0.0),  # below the line: none
        ([0.0, 1.0, 2.0, 3.0], 0.0),
        ([0.0, 0.0, 3.0, 6.0, 4.0], 3.0),  # 6 - 3/4 of 4
        ([1.0, math.inf, 1.0], math.inf),
        ([1.0, math.nan, 1.0], math.inf),
        ([1.0, 3.0], 0.0),
    ],
)
def test_barriers_by_hand(losses: list[float], height: float) -> None:
    assert barrier(losses) == height


def test_the_barrier_between_mirrored_minima() -> None:
    """The loss of w1 w2 x at x = 1 and target 1 is (w1 w2 - 1)^2: minima at (1, 1) and (-1, -1), 1 between them."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    objective = Objective(model, supervised(mse_loss), [(torch.ones(1, 1), torch.ones(1, 1))])
    start = {"0.weight": torch.ones(1, 1), "1.weight": torch.ones(1, 1)}
    end = {name: -weight for name, weight in start.items()}
    assert barrier(interpolation(objective, start, end, 21).losses) == pytest.approx(1.0, abs=1e-6)


def test_the_model_is_left_alone() -> None:
    net = norm_net().train()
    before = copy.deepcopy(net.state_dict())
    objective = Objective(net, supervised(cross_entropy), points())
    direction = random_direction(objective.parameters, seed=0)
    line(objective, direction, [0.0, 1.0])
    plane(objective, [direction, direction], [0.0, 1.0], [0.0])
    interpolation(objective, net.state_dict(), norm_net(1).state_dict(), 3)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    assert net.training
    torch.manual_seed(9)  # `norm_net` seeds
    state = torch.get_rng_state()
    plane(objective, [direction, direction], [0.0, 1.0], [0.0])
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_input_is_named() -> None:
    objective, *_ = quadratic()
    direction = objective.parameters
    with pytest.raises(InputError, match=r"radii \[\]: write at least one finite number"):
        line(objective, direction, [])
    with pytest.raises(InputError, match=r"ys \[nan\]: write"):
        plane(objective, [direction, direction], [0.0], [math.nan])
    with pytest.raises(InputError, match="a plane has 2 directions, not 1"):
        plane(objective, [direction], [0.0], [0.0])
    with pytest.raises(InputError, match="num_points 1: write at least 2"):
        interpolation(objective, direction, direction, 1)
    with pytest.raises(InputError, match="unknown weight 'wieght'; did you mean 'weight'"):
        interpolation(objective, {"wieght": direction["weight"]}, direction)
    with pytest.raises(InputError, match="no weight is named 'weight'"):
        interpolation(objective, direction, {})
    for losses in ([1.0], [math.inf, 1.0], [1.0, math.nan]):
        with pytest.raises(InputError, match=r"write at least 2, with finite ones at both ends"):
            barrier(losses)
