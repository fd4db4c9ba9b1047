"""Points in the plane: on their curves, held out alike for every seed, larger splits containing smaller ones."""

from __future__ import annotations

import numpy as np
import pytest

from switch_ema.data.points import FEWEST, LARGEST, POINT_SETS, Points, check_point_set, draw_points
from switch_ema.errors import InputError
from tests.conftest import loaded_after


def draw(name: str, split: str = "train", size: int = 200, noise: float = 0.0, seed: int = 0) -> Points:
    return draw_points(name, split, size, noise=noise, factor=0.3, seed=seed)


@pytest.mark.parametrize("name", POINT_SETS)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_classes_come_in_turns(name: str, split: str) -> None:
    points = draw(name, split, 101)
    assert points.inputs.shape == (101, 2)
    assert [part.dtype.name for part in (points.inputs, points.labels)] == ["float64", "int64"]
    assert points.labels.tolist() == [k % 2 for k in range(101)]


def test_points_without_noise_lie_on_their_curves() -> None:
    circles = draw("circles")
    np.testing.assert_allclose(np.linalg.norm(circles.inputs, axis=1), np.where(circles.labels, 0.3, 1.0), atol=1e-12)
    moons = draw("moons")
    centres = np.where(moons.labels[:, None], [1.0, 0.5], [0.0, 0.0])
    np.testing.assert_allclose(np.linalg.norm(moons.inputs - centres, axis=1), 1, atol=1e-12)
    assert ((moons.inputs - centres)[:, 1] * (1 - 2 * moons.labels) > -1e-12).all()
    spirals = draw("spirals")
    radius = np.linalg.norm(spirals.inputs, axis=1)
    angle = np.arctan2(*spirals.inputs.T[::-1])
    turns = (3 * np.pi * radius / 2 + np.pi * spirals.labels - angle) / (2 * np.pi)
    np.testing.assert_allclose(turns, turns.round(), atol=1e-9)
    assert radius.max() <= 2


@pytest.mark.parametrize("name", POINT_SETS)
def test_noise_moves_the_same_points_by_its_size(name: str) -> None:
    still, near, far = (draw(name, size=2000, noise=noise).inputs for noise in (0.0, 0.1, 0.2))
    np.testing.assert_allclose(far - still, 2 * (near - still), atol=1e-12)
    assert (near - still).std(axis=0) == pytest.approx([0.1, 0.1], rel=0.07)  # four standard errors
    assert abs((near - still).mean(axis=0)).max() < 0.01


@pytest.mark.parametrize("name", POINT_SETS)
def test_the_seed_draws_training_points_alone(name: str) -> None:
    np.random.seed(1)  # the global generator must not matter
    for split in ("val", "test"):
        assert (draw(name, split).inputs == draw(name, split, seed=5).inputs).all()
    assert (draw(name).inputs == draw(name).inputs).all()
    drawn = [draw(name, split, 200, 0.1, seed) for split, seed in [("train", 0), ("train", 1), ("val", 0), ("test", 0)]]
    assert len({row.tobytes() for points in drawn for row in points.inputs}) == 800


@pytest.mark.parametrize("name", POINT_SETS)
def test_a_larger_split_contains_a_smaller_one(name: str) -> None:
    small, large, whole = (draw(name, "test", size, 0.1).inputs for size in (FEWEST, 50, LARGEST))
    assert (large[:FEWEST] == small).all()
    assert (whole[:50] == large).all()


@pytest.mark.parametrize("size", [FEWEST - 1, LARGEST + 1])
def test_sizes_out_of_range(size: int) -> None:
    with pytest.raises(InputError, match=f"moons: {size} points in split val: write 2 to 10000"):
        draw("moons", "val", size)


def test_unknown_sets() -> None:
    for refuse in (check_point_set, draw):
        with pytest.raises(InputError, match="unknown data set of points 'circle'; did you mean 'circles'"):
            refuse("circle")


def test_a_check_loads_the_standard_library_only() -> None:
    loaded = loaded_after(
        "from switch_ema.tasks import points_options\npoints_options.check('circles', 'points-mlp', {'factor': '0.3'})"
    )
    assert not loaded & {"numpy", "torch", "PIL", "sklearn"}
