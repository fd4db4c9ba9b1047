"""Errors of frames follow their definitions, and OpenSTL's convention of averaging them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from switch_ema.tasks.video.metrics import METRICS, measure, ssim

SHAPE = (2, 3, 3, 9, 11)  # sequences, frames, channels, height, width


def some(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return predictions, some of them outside 0..1, and the truth."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(SHAPE, generator=generator)
    return truth + 0.3 * torch.randn(SHAPE, generator=generator), truth


def slow_ssim(first: Tensor, second: Tensor, data_range: float) -> float:
    """Work out the similarity of two frames (channels, height, width) window by window, in float64."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for x, y in zip(first.double().numpy(), second.double().numpy(), strict=True):
        for row in range(x.shape[0] - 6):
            for column in range(x.shape[1] - 6):
                a, b = (image[row : row + 7, column : column + 7].ravel() for image in (x, y))
                ((va, w), (_, vb)) = np.cov(a, b)  # divides by 48, as scikit-image does
                ma, mb = a.mean(), b.mean()
                values.append((2 * ma * mb + c1) * (2 * w + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_is_that_of_a_slow_twin(data_range: float) -> None:
    predicted, truth = some()
    (got,) = ssim(predicted, truth, (data_range,))
    frames = zip(predicted.flatten(0, 1), truth.flatten(0, 1), strict=True)
    np.testing.assert_allclose(got.flatten(), [slow_ssim(p, t, data_range) for p, t in frames], rtol=1e-4)
    assert got.shape == SHAPE[:2]


def test_ssim_of_flat_frames_needs_their_means_alone() -> None:
    flat = torch.full((1, 1, 1, 8, 8), 0.5)
    (got,) = ssim(flat, torch.ones_like(flat))
    assert got.item() == pytest.approx((2 * 0.5 + 1e-4) / (0.25 + 1 + 1e-4), rel=1e-5)
    assert ssim(torch.zeros_like(flat), torch.zeros_like(flat))[0].item() == 1


def test_measure_is_openstls() -> None:
    """OpenSTL: mean over batch and frames of each pixel, then the sum over pixels; PSNR frame by frame, clamped."""
    predicted, truth = some(1)
    got = {name: values.double().mean().item() for name, values in measure(predicted, truth).items()}
    p, t = predicted.double().numpy(), truth.double().numpy()
    c = np.clip(p, 0, 1)
    assert abs(p - c).max() > 0.1
    frames = [(n, k) for n in range(SHAPE[0]) for k in range(SHAPE[1])]
    expected = {
        "mse": np.mean((p - t) ** 2, axis=(0, 1)).sum(),
        "mae": np.mean(abs(p - t), axis=(0, 1)).sum(),
        "psnr": np.mean([20 * np.log10(1 / np.sqrt(np.mean((c[at] - t[at]) ** 2))) for at in frames]),
        "ssim": np.mean([slow_ssim(torch.from_numpy(c[at]), truth[at], 1) for at in frames]),
        "ssim_openstl": np.mean([slow_ssim(torch.from_numpy(c[at]), truth[at], 2) for at in frames]),
    }
    assert got == pytest.approx(expected, rel=1e-4)
    assert set(got) == {metric.name for metric in METRICS}


def test_by_hand() -> None:
    truth = torch.zeros(1, 2, 1, 8, 8)
    predicted = truth.clone()
    predicted[0, 0, 0, 0, :4] = torch.tensor([0.5, -0.5, 2.0, 0.0])
    got = {name: values[0].tolist() for name, values in measure(predicted, truth).items()}
    assert got["mse"] == [4.5, 0]
    assert got["mae"] == [3, 0]
    assert got["psnr"] == pytest.approx([-10 * math.log10(1.25 / 64), 100])
    assert got["ssim"][1] == got["ssim_openstl"][1] == 1


def test_what_is_not_finite_stays_so() -> None:
    predicted, truth = some()
    predicted[0, 0] = math.nan
    for values in measure(predicted, truth).values():
        assert values[0, 0].isnan()
        assert values[0, 1:].isfinite().all()
