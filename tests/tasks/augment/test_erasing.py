"""Erasing covers one rectangle of some images, by noise that belongs to the sample."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from switch_ema.tasks.augment.erasing import RandomErasing, normal

from .sample import applied, floats, generator


def rectangles(images: Tensor, erased: Tensor) -> list[tuple[int, int, int, int]]:
    """Find what was covered: top, left, height, width; every pixel inside must have changed, none outside."""
    found = []
    for before, after in zip(images, erased, strict=True):
        changed = (before != after).all(0)
        assert changed.equal((before != after).any(0))
        if changed.any():
            rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
            top, left = int(rows[0]), int(columns[0])
            height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
            assert changed.sum() == height * width
            found.append((top, left, height, width))
    return found


@pytest.mark.parametrize("value", ["noise", 0.0, 0.3])
def test_one_rectangle_of_the_right_share(value: float | str) -> None:
    images = floats(400, 32, 40).clamp(0.01, 0.99)
    images[images == 0.3] = 0.31
    got, _ = applied(RandomErasing(0.25, value=value), images)
    found = rectangles(images, got)
    assert 0.17 < len(found) / 400 < 0.33
    assert all(0.015 < height * width / 1280 < 0.35 and 0.25 < height / width < 4 for _, _, height, width in found)
    if value != "noise":
        assert set(got[got != images].tolist()) == {torch.tensor(value).item()}


def test_rectangles_are_distributed_as_torchvisions() -> None:
    images = torch.full((3000, 3, 32, 24), 0.5)
    got, _ = applied(RandomErasing(1, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0.0), images)
    ours = torch.tensor(rectangles(images, got)).float()
    assert len(ours) == 3000
    torch.manual_seed(0)
    theirs = v2.RandomErasing(1, scale=(0.02, 0.33), ratio=(0.3, 3.3))
    drawn = [theirs.make_params([images[0]]) for _ in range(1000)]
    expected = torch.tensor([[d["i"], d["j"], d["h"], d["w"]] for d in drawn]).float()
    spread = expected.std(0)
    assert ((ours.mean(0) - expected.mean(0)).abs() < 4 * spread / 1000**0.5).all()
    assert ((ours.std(0) - spread).abs() < 0.1 * spread).all()


@pytest.mark.parametrize(("height", "width", "scale"), [(4, 4, 1), (4, 8, 0.5), (8, 4, 0.5)])
def test_what_finds_no_rectangle_smaller_in_both_directions_stays(height: int, width: int, scale: float) -> None:
    images = floats(8, height, width)
    assert applied(RandomErasing(1, scale=(scale, scale), ratio=(1, 1)), images)[0].equal(images)


def test_noise_has_the_mean_and_spread_of_each_channel() -> None:
    mean, std = (0.2, 0.5, 0.8), (0.1, 0.2, 0.3)
    images = torch.full((500, 3, 32, 32), 7.0)
    got, _ = applied(RandomErasing(1, mean=mean, std=std), images)
    for channel in range(3):
        noise = got[:, channel][got[:, channel] != 7]
        assert abs(noise.mean() - mean[channel]) < 0.01
        assert abs(noise.std() - std[channel]) < 0.01


def test_the_hash_makes_independent_normal_noise() -> None:
    seeds = torch.randint(-(2**31), 2**31, (64,), generator=generator(), dtype=torch.int32)
    before = seeds.clone()
    noise = normal(seeds, 4096)
    assert seeds.equal(before)
    assert noise.isfinite().all()
    ordered = noise.flatten().double().sort().values
    quantiles = torch.special.ndtr(ordered)
    steps = torch.arange(len(ordered)).add(0.5) / len(ordered)
    assert (quantiles - steps).abs().max() < 1.63 / math.sqrt(len(ordered))  # Kolmogorov-Smirnov, 1 %
    across = torch.corrcoef(noise)
    assert (across - torch.eye(64)).abs().max() < 0.08
    for lag in (1, 3, 32):
        assert abs(torch.corrcoef(torch.stack([noise[:, lag:].flatten(), noise[:, :-lag].flatten()]))[0, 1]) < 0.01
    in_a_row = normal(torch.arange(64, dtype=torch.int32), 1024)  # seeds that are alike
    assert (torch.corrcoef(in_a_row) - torch.eye(64)).abs().max() < 0.16
    assert not torch.isin(in_a_row[0], in_a_row[1]).any()
