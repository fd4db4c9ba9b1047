"""Distances of sets of features: closed forms, torchmetrics, and a slow twin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from switch_ema.tasks.generation import distances
from switch_ema.tasks.generation.distances import frechet_distance, kernel_distance


def sets(first: int = 60, second: int = 40, features: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(features, features, generator=generator).double()
    one = torch.randn(first, features, generator=generator).double()
    other = torch.randn(second, features, generator=generator).double() @ mixing + 0.5
    return one, other


def test_a_set_is_at_no_distance_from_itself() -> None:
    for features in (5, 80):  # also with fewer members than features
        one, _ = sets(features=features)
        assert frechet_distance(one, one) == pytest.approx(0, abs=1e-10)
        assert kernel_distance(one, one[torch.randperm(len(one))]) < 0  # unbiased: each meets itself in the last term


def test_normal_distributions_are_at_the_distance_of_the_formula() -> None:
    """With commuting covariances, here diagonal, the distance is |m1 - m2|^2 + |s1 - s2|^2 over standard deviations."""
    base = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double() * (3 / 4) ** 0.5  # variances 1
    first, second = base * torch.tensor([1.0, 2]), base * torch.tensor([3.0, 5]) + torch.tensor([1.0, -2])
    assert frechet_distance(first, second) == pytest.approx(5 + 4 + 9, rel=1e-12)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first), rel=1e-12)


class Flat(nn.Module):
    """Hands on its input, as torchmetrics wants features to be made."""

    num_features = 5

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_the_frechet_distance_is_torchmetrics() -> None:
    one, other = sets()
    metric = FrechetInceptionDistance(feature=Flat(), normalize=False, input_img_size=(1, 1, 5)).set_dtype(torch.double)
    metric.update(one.view(-1, 1, 1, 5), real=True)
    metric.update(other.view(-1, 1, 1, 5), real=False)
    assert frechet_distance(one, other) == pytest.approx(metric.compute().item(), rel=1e-6)


@pytest.mark.parametrize("rows", [7, 1000])
def test_the_kernel_distance_is_torchmetrics(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "_ROWS", rows)
    one, other = sets(first=50, second=50)
    assert kernel_distance(one, other) == pytest.approx(poly_mmd(one, other).item(), rel=1e-10)


def test_the_kernel_distance_of_sets_of_unequal_size_follows_its_definition() -> None:
    one, other = sets(first=9, second=6)

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 5 + 1) ** 3

    within = [sum(kernel(x, y) for x in s for y in s if x is not y) for s in (list(one), list(other))]
    across = sum(kernel(x, y) for x in one for y in other)
    want = within[0] / (9 * 8) + within[1] / (6 * 5) - 2 * across / (9 * 6)
    assert kernel_distance(one, other) == pytest.approx(want, rel=1e-12)
