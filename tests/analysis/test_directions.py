"""Directions and distances in weight space, beside numpy and hand computations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from switch_ema.analysis.directions import (
    difference,
    distances,
    filter_normalized,
    principal_directions,
    project,
    random_direction,
)
from switch_ema.errors import InputError


def weights(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))
    return {name: 3 * p.detach() for name, p in net.named_parameters()}


def flat(one: Any) -> Tensor:
    return parameters_to_vector(list(one.values())).double()


def test_every_filter_gets_the_norm_of_the_weights() -> None:
    centre = weights()
    drawn = random_direction(centre, seed=1)
    assert list(drawn) == ["0.weight", "3.weight"]
    for name, move in drawn.items():
        lengths = [float(row.norm()) for row in move]
        assert lengths == pytest.approx([float(row.norm()) for row in centre[name]], rel=1e-6)
        plain = random_direction(centre, seed=1, normalization="none")[name]  # the same numbers, only scaled
        cosines = torch.cosine_similarity(move.flatten(1), plain.flatten(1))
        torch.testing.assert_close(cosines, torch.ones_like(cosines))


def test_biases_and_norms_move_where_asked() -> None:
    centre = weights()
    drawn = random_direction(centre, seed=1, biases_and_norms=True)
    assert drawn.keys() == centre.keys()
    torch.testing.assert_close(drawn["1.weight"].abs(), centre["1.weight"].abs())
    assert drawn["1.bias"].tolist() == [0, 0, 0]  # as the weights' own
    assert filter_normalized({"w": torch.tensor(-2.0)}, {"w": torch.tensor(3.0)})["w"] == -3
    assert filter_normalized({"w": torch.zeros(2, 2)}, {"w": torch.ones(2, 2)})["w"].tolist() == [[0, 0], [0, 0]]


def test_gaussian_numbers_are_standard_and_seeded() -> None:
    centre = {"w": torch.zeros(200, 200, dtype=torch.float64), "steps": torch.zeros(2, 2, dtype=torch.long)}
    before = torch.get_rng_state()
    drawn = random_direction(centre, seed=3, normalization="none")["w"]
    assert torch.equal(torch.get_rng_state(), before)
    assert drawn.dtype == torch.float64
    assert float(drawn.mean()) == pytest.approx(0, abs=4 / 200)
    assert float(drawn.var()) == pytest.approx(1, abs=4 * math.sqrt(2) / 200)
    assert torch.equal(random_direction(centre, seed=3, normalization="none")["w"], drawn)
    assert not torch.equal(random_direction(centre, seed=4, normalization="none")["w"], drawn)


def test_a_plane_by_least_squares_equals_numpys() -> None:
    centre, solution = weights(0), weights(1)
    directions = [random_direction(centre, seed=k, biases_and_norms=k > 0) for k in range(3)]
    directions[1]["0.weight"] += directions[0]["0.weight"]  # not orthogonal
    full = [{name: each.get(name, torch.zeros_like(p)) for name, p in centre.items()} for each in directions]
    matrix = torch.stack([flat(each) for each in full], dim=1).numpy()
    away = (flat(solution) - flat(centre)).numpy()
    expected, squares, *_ = np.linalg.lstsq(matrix, away, rcond=None)
    found = project(solution, centre, directions)
    assert found.coordinates == pytest.approx(expected.tolist(), rel=1e-6)
    assert found.residual == pytest.approx(float(squares[0]) ** 0.5, rel=1e-6)


def test_a_point_of_the_plane_is_found_again_also_with_dependent_directions() -> None:
    centre = weights()
    first, second = (random_direction(centre, seed=k) for k in range(2))
    moved = {name: p + 2 * first.get(name, 0) - second.get(name, 0) for name, p in centre.items()}
    found = project(moved, centre, [first, second])
    assert found.coordinates == pytest.approx((2, -1), abs=1e-5)
    assert found.residual == pytest.approx(0, abs=1e-4)
    again = project({"w": torch.tensor([4.0])}, {"w": torch.zeros(1)}, [{"w": torch.ones(1)}] * 2)
    assert again.coordinates == pytest.approx((2, 2))


@pytest.mark.parametrize("about", ["last", "given"])
def test_principal_directions_are_numpys(about: str) -> None:
    names = weights()
    generator = torch.Generator().manual_seed(0)
    steps = [{name: torch.randn(p.shape, generator=generator) for name, p in names.items()} for _ in range(6)]
    trajectory = [{name: sum((step[name] for step in steps[: k + 1]), names[name]) for name in names} for k in range(6)]
    centre = trajectory[-1] if about == "last" else weights(5)
    found = principal_directions(trajectory, None if about == "last" else centre, num_directions=3)

    rows = torch.stack([flat(each) - flat(centre) for each in trajectory]).numpy()
    _, singular, right = np.linalg.svd(rows, full_matrices=False)
    assert found.explained_variance == pytest.approx((singular[:3] ** 2 / (singular**2).sum()).tolist(), rel=1e-6)
    basis = torch.stack([flat(each) for each in found.directions]).numpy()
    assert np.abs(basis @ basis.T - np.eye(3)).max() < 1e-6
    assert np.abs((basis * right[:3]).sum(1)) == pytest.approx([1, 1, 1], abs=1e-6)
    coordinates = np.array([each.coordinates for each in found.projections])
    assert np.abs(coordinates - rows @ basis.T).max() < 1e-5
    assert all(column[np.abs(column).argmax()] > 0 for column in coordinates.T)
    rest = [float(np.linalg.norm(row - row @ basis.T @ basis)) for row in rows]
    assert [each.residual for each in found.projections] == pytest.approx(rest, abs=1e-4)


def test_faint_directions_stay_orthogonal() -> None:
    generator = torch.Generator().manual_seed(0)
    walk = [torch.randn(50, generator=generator, dtype=torch.float64) * scale for scale in (1e4, 1.0, 0.0)]
    found = principal_directions([{"w": step} for step in walk])
    basis = torch.stack([each["w"] for each in found.directions])
    torch.testing.assert_close(basis @ basis.T, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_trajectory_that_does_not_extend_far_enough_is_named() -> None:
    line = [{"w": torch.tensor([float(k), 0.0])} for k in range(4)]
    assert principal_directions(line, num_directions=1).explained_variance == (1.0,)
    for count in (0, 2):
        with pytest.raises(InputError, match=f"num_directions {count}: the trajectory extends in 1 directions"):
            principal_directions(line, num_directions=count)
    with pytest.raises(InputError, match="extends in 0 directions"):
        principal_directions(line[:1])
    with pytest.raises(InputError, match="the trajectory is empty"):
        principal_directions([])


def test_the_names_of_the_second_decide() -> None:
    state = {"w": torch.tensor([3.0]), "mean": torch.tensor([5.0]), "count": torch.tensor(9)}
    assert difference(state, {"w": torch.tensor([1.0])}) == {"w": torch.tensor([2.0])}
    assert difference(state, state).keys() == {"w", "mean"}
    with pytest.raises(InputError, match="no weight is named 'mean'"):
        difference({"w": torch.tensor([1.0])}, state)
    with pytest.raises(InputError, match=r"w has shape \(2,\) in one and \(1,\) in the other"):
        difference({"w": torch.ones(2)}, {"w": torch.ones(1)})
    with pytest.raises(InputError, match="no weight is named 'v'"):
        project({"w": torch.ones(1)}, {"w": torch.ones(1)}, [{"v": torch.ones(1)}])


def test_distances_are_those_of_the_vectors() -> None:
    one, other = weights(0), weights(1)
    found = distances(one, other)
    a, b = flat(one), flat(other)
    assert found.l2 == pytest.approx(float((a - b).norm()), rel=1e-12)
    assert found.relative == pytest.approx(float((a - b).norm() / b.norm()), rel=1e-12)
    assert found.cosine == pytest.approx(float(a @ b / a.norm() / b.norm()), rel=1e-12)
    assert found.layers.keys() == one.keys()
    assert found.layers["0.bias"] == pytest.approx(float((one["0.bias"] - other["0.bias"]).double().norm()), rel=1e-6)
    assert math.hypot(*found.layers.values()) == pytest.approx(found.l2)


def test_distances_from_nothing() -> None:
    zero = {"w": torch.zeros(2)}
    found = distances({"w": torch.ones(2)}, zero)
    assert found.relative == math.inf
    assert math.isnan(found.cosine)
    assert distances({"w": torch.full((7,), 0.1)}, {"w": torch.full((7,), 0.3)}).cosine <= 1


def test_bad_directions_are_named() -> None:
    with pytest.raises(InputError, match="unknown normalization 'filters'; did you mean 'filter'"):
        random_direction(weights(), seed=0, normalization="filters")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no weight has more than one dimension; write biases_and_norms=True"):
        random_direction({"bias": torch.ones(3)}, seed=0)
    with pytest.raises(InputError, match="no weight is named 'v'"):
        filter_normalized({"v": torch.ones(2)}, weights())
