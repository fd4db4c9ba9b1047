"""Moving digits obey the physics of Moving-MNIST: constant speed inside, mirrored at the borders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from switch_ema.data.video.catalog import locate
from switch_ema.data.video.moving import STEP, Generated, scenes
from switch_ema.data.video.videos import Videos, load
from tests.data import make

FINE = 10**9  # pixels: places are then known to nine digits


def shares(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).random((count, 2, 4))


def twin(start: float, velocity: float, frames: int) -> list[float]:
    """Follow one coordinate of one digit."""
    places = []
    for _ in range(frames):
        start += velocity
        if start <= 0 or start >= 1:
            velocity = -velocity
            start = 0.0 if start <= 0 else 1.0
        places.append(start)
    return places


@pytest.mark.parametrize("sequence", range(3))
def test_places_are_those_of_a_slow_twin(sequence: int) -> None:
    drawn = shares(3)
    got = scenes(drawn, 7, 40, FINE)
    for digit, (which, row, column, turn) in enumerate(drawn[sequence].tolist()):
        assert got.digits[sequence, digit] == math.floor(7 * which)
        for axis, (start, part) in enumerate([(row, math.sin), (column, math.cos)]):
            expected = twin(start, 0.1 * part(2 * math.pi * turn), 40)
            np.testing.assert_allclose(got.corners[sequence, :, digit, axis] / FINE, expected, atol=1e-8)


def test_speed_is_constant_but_for_bounces_and_mirrored_by_them() -> None:
    places = scenes(shares(300), 10, 30, FINE).corners / FINE
    assert places.min() >= 0
    assert places.max() <= 1
    steps = np.diff(places, axis=1)
    at_border = (places == 0) | (places == 1)
    free = ~at_border[:, 1:].any(-1)  # a step that ends at no border
    np.testing.assert_allclose(np.linalg.norm(steps[free], axis=-1), STEP, atol=1e-8)
    before, after = steps[:, :-1], steps[:, 1:]
    inner = ~at_border[:, 1:-1] & ~at_border[:, 2:]
    np.testing.assert_allclose(after[inner], before[inner], atol=1e-8)
    bounced = at_border[:, 1:-1] & ~at_border[:, :-2] & ~at_border[:, 2:]
    assert bounced.sum() > 500
    assert (after[bounced] * before[bounced] <= 0).all()
    assert (abs(after[bounced]) >= abs(before[bounced]) - 1e-8).all()  # the step to the border was cut short


def test_start_and_direction_are_uniform() -> None:
    drawn = shares(4000)
    first = scenes(drawn, 10, 2, FINE)
    assert np.bincount(first.digits.ravel(), minlength=10).min() > 650  # of 8,000
    places = first.corners / FINE
    step = places[:, 1] - places[:, 0]
    inside = ((places > 0) & (places < 1)).all((1, 3))
    directions = np.arctan2(step[inside][:, 0], step[inside][:, 1]) % (2 * np.pi)
    counts = np.histogram(directions, 8, (0, 2 * np.pi))[0]
    assert counts.min() > 0.8 * counts.mean()
    spread = np.histogram(places[:, 0], 5, (0, 1))[0]
    assert spread.min() > 0.8 * spread.mean()


def test_pixels_are_whole_and_inside() -> None:
    corners = scenes(shares(500), 10, 20, 36).corners
    assert corners.min() == 0
    assert corners.max() == 36
    fine = scenes(shares(500), 10, 20, FINE).corners / FINE
    np.testing.assert_array_equal(corners, np.floor(36 * fine + 1e-6))


def videos(name: str = "moving-digits", length: int = 10, **options: Any) -> Videos:
    return load(locate(name), length, **options)


def generated(found: Videos, split: str) -> Generated:
    sequences = getattr(found, split)
    assert isinstance(sequences, Generated)
    return sequences


def test_splits_are_fixed_and_the_first_sequences_the_same_for_every_size() -> None:
    small, large = videos(train_size=5, test_size=7), videos(train_size=50, test_size=70)
    drawn = []
    for split, count in (("train", 5), ("val", 7), ("test", 7)):
        first, second = (generated(found, split).scenes() for found in (small, large))
        np.testing.assert_array_equal(first.digits, second.digits[:count])
        np.testing.assert_array_equal(first.corners, second.corners[:count])
        assert len(first.digits) == count
        drawn.append(first.corners[:5])
    assert not (drawn[0] == drawn[1]).all()
    assert not (drawn[1] == drawn[2]).all()
    assert len(videos(test_size=3000).val) == 1000


def test_digits_of_scikit_learn_are_divided() -> None:
    found = videos()
    parts = [generated(found, split).digits for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [1294, 144, 359]
    assert {part.shape[1:] for part in parts} == {(12, 12)}
    assert all(part.max() == 255 for part in parts)
    seen = [{digit.tobytes() for digit in part} for part in parts]
    assert not seen[0] & seen[1]
    assert not (seen[0] | seen[1]) & seen[2]


def test_digits_of_mnist_keep_to_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make.idx(tmp_path / "mnist" / "MNIST" / "raw")
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    found = videos("moving-mnist")
    train, val, test = ({int(digit[0, 0]) for digit in generated(found, s).digits} for s in ("train", "val", "test"))
    assert not train & val
    assert train | val == set(range(make.SIZES["train"]))
    assert test == set(range(make.SIZES["test"]))
    assert [len(s) for s in (found.train, found.val, found.test)] == [10_000, 1000, 10_000]
    assert generated(found, "train").digits.shape[1:] == (28, 28)
    assert found.train.shape == (1, 64, 64)


@pytest.mark.parametrize(("size", "side"), [(32, 12), (64, 24), (16, 6)])
def test_digits_grow_with_the_canvas(size: int, side: int) -> None:
    train = generated(videos(image_size=size), "train")
    assert train.digits.shape[1:] == (side, side)
    assert train.scenes().corners.max() == size - side
