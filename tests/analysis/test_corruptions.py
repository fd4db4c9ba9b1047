"""Corruptions: their range, seeds and severities, and known answers for each construction."""

from __future__ import annotations

import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn.functional import conv2d, interpolate
from torchvision.transforms.functional import adjust_contrast, rgb_to_grayscale

from switch_ema.analysis.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from switch_ema.analysis.distortions import clouds, disc, smear, trails, zoomed
from switch_ema.errors import InputError

NAMES = sorted(CORRUPTIONS)
RANDOM = {"gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "snow", "fog", "elastic"}


def photographs(side: int, count: int = 12) -> Tensor:
    """Cuts of a photograph, made smaller."""
    whole = torch.from_numpy(np.array(load_sample_image("china.jpg"))).permute(2, 0, 1)[None] / 255
    cuts = [
        whole[..., 160 * row : 160 * row + 100, 100 * column :][..., :100] for row in range(2) for column in range(6)
    ]
    return interpolate(torch.cat(cuts[:count]), (side, side), mode="bilinear", antialias=True).clamp(0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_each_severity_is_harder_than_the_one_before(name: str) -> None:
    images = photographs(32)
    distances = [(corrupt(images, name, severity) - images).abs().mean().item() for severity in SEVERITIES]
    assert all(low < high for low, high in pairwise(distances)), distances
    assert distances[0] > 0.002
    assert distances[-1] > 1.4 * distances[0]


@pytest.mark.parametrize("name", NAMES)
def test_small_images_are_corrupted_too(name: str) -> None:
    """Of 8 pixels a side, pixels come in whole numbers: neighbours among the severities may be equal."""
    images = photographs(8)
    distances = [(corrupt(images, name, severity) - images).abs().mean().item() for severity in SEVERITIES]
    assert all(low <= high for low, high in pairwise(distances)), distances
    assert 0.0005 < distances[0] < distances[-1] < 0.5


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    severity=st.sampled_from(SEVERITIES),
    channels=st.sampled_from([1, 3]),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    seed=st.integers(0, 100),
)
def test_shape_type_and_range_are_kept_and_the_seed_decides(
    name: str, severity: int, channels: int, height: int, width: int, dtype: torch.dtype, seed: int
) -> None:
    images = torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(seed)).to(dtype)
    before, state = images.clone(), torch.get_rng_state()
    found = corrupt(images, name, severity, seed=seed)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert (found.shape, found.dtype) == (images.shape, dtype)
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(found, corrupt(images, name, severity, seed=seed))
    assert torch.equal(found, corrupt(images, name, severity, seed=seed + 1)) == (name not in RANDOM)


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_every_image_has_its_own_random_numbers(name: str) -> None:
    found = corrupt(photographs(32)[8].expand(2, -1, -1, -1), name, 5)
    assert (found[0] - found[1]).abs().max() > 0.01


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_images_stay_finite(name: str, value: float) -> None:
    assert corrupt(torch.full((1, 3, 9, 8), value), name, 5).isfinite().all()


def test_noise_is_as_strong_as_it_says() -> None:
    grey = torch.full((8, 3, 64, 64), 0.5)
    for severity, noise, photons, share in zip(
        SEVERITIES, (4, 6, 8, 9, 10), (500, 250, 100, 75, 50), (1, 2, 3, 5, 7), strict=True
    ):
        assert corrupt(grey, "gaussian_noise", severity).std().item() == pytest.approx(noise / 100, rel=0.02)
        shot = corrupt(grey, "shot_noise", severity)
        assert shot.var().item() == pytest.approx(0.5 / photons, rel=0.03)
        assert shot.mean().item() == pytest.approx(0.5, abs=0.002)
        hit = corrupt(grey, "impulse_noise", severity)
        assert set(hit.unique().tolist()) == {0, 0.5, 1}
        assert (hit != 0.5).double().mean().item() == pytest.approx(share / 100, rel=0.06)
        assert (hit == 1).sum().item() == pytest.approx((hit == 0).sum().item(), rel=0.2)


def test_colours_change_as_colorsys_and_torchvision_change_them() -> None:
    import colorsys

    images = photographs(8, 2).double()
    found = corrupt(images, "brightness", 5)
    for old, new in zip(
        images.permute(0, 2, 3, 1).reshape(-1, 3), found.permute(0, 2, 3, 1).reshape(-1, 3), strict=True
    ):
        hue, saturation, value = colorsys.rgb_to_hsv(*old.tolist())
        assert new.tolist() == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.3)), abs=1e-9)
    grey = rgb_to_grayscale(images)
    torch.testing.assert_close(corrupt(grey, "contrast", 4), adjust_contrast(grey, 0.3))
    coloured = corrupt(images, "contrast", 5)
    torch.testing.assert_close(coloured.mean((2, 3)), images.mean((2, 3)))
    torch.testing.assert_close(coloured.std((2, 3)), 0.15 * images.std((2, 3)))


def test_jpeg_and_pixelate_are_those_of_pillow() -> None:
    images = photographs(32, 2).mul(255).round() / 255
    jpeg, pixelated = corrupt(images, "jpeg", 5), corrupt(images, "pixelate", 5)
    for image, compressed, coarse in zip(images, jpeg, pixelated, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).mul(255).round().byte().numpy())
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=40)
        assert torch.equal(
            compressed.permute(1, 2, 0).mul(255).round().byte(), torch.tensor(np.array(Image.open(file)))
        )
        expected = picture.resize((20, 20), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
        assert (
            coarse.permute(1, 2, 0) * 255 - torch.tensor(np.array(expected))
        ).abs().max() < 1.01  # its bytes are rounded


def test_a_smear_is_the_convolution_with_its_kernel() -> None:
    images = torch.rand(2, 3, 12, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    down = torch.tensor([[[2.0, 0.0]]])
    torch.testing.assert_close(smear(images, down, torch.ones(1))[..., 2:, :], images[..., :-2, :])
    between = smear(images, torch.tensor([[[0.0, 0.25]]]), torch.ones(1))
    torch.testing.assert_close(between[..., 1:], 0.75 * images[..., 1:] + 0.25 * images[..., :-1])
    spot = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    spot[..., 10, 10] = 1
    kernel = smear(spot, *disc(3.0))
    assert kernel.sum().item() == pytest.approx(1)
    around = torch.arange(21) - 10.0
    spread = (kernel[0, 0].sum(0) * around**2).sum().item()
    assert spread == pytest.approx(3**2 / 4 + 1 / 6, rel=0.02)  # of a disc, and of linear interpolation
    padded = torch.nn.functional.pad(images, (3, 3, 3, 3), mode="reflect")
    cut = kernel[..., 7:14, 7:14].flip(2, 3).expand(3, 1, 7, 7)
    torch.testing.assert_close(smear(images, *disc(3.0)), conv2d(padded, cut, groups=3), atol=1e-6, rtol=0)


def test_trails_fall_off_along_their_angle() -> None:
    paths, weights = trails(torch.tensor([0.0, 90.0, -45.0]), 8.0, 2.0)
    torch.testing.assert_close(paths[0, -1], torch.tensor([0.0, 8.0]))
    torch.testing.assert_close(paths[1, -1], torch.tensor([8.0, 0.0]))
    torch.testing.assert_close(paths[2, -1], torch.tensor([-8.0, 8.0]) / math.sqrt(2))
    assert weights.sum().item() == pytest.approx(1)
    assert (weights[-1] / weights[0]).item() == pytest.approx(math.exp(-8))


def test_lengths_grow_with_the_image() -> None:
    """A blur of a picture twice as large, made smaller again, is nearly the blur of the small one."""
    large = photographs(128, 4)
    small = interpolate(large, (64, 64), mode="area")
    for name in ("defocus_blur", "motion_blur", "zoom_blur", "elastic"):
        again = interpolate(corrupt(large, name, 5), (64, 64), mode="area")
        moved = (corrupt(small, name, 5) - small).abs().mean()
        assert (corrupt(small, name, 5) - again).abs().mean() < 0.2 * moved, name


def test_zoom_enlarges_about_the_centre() -> None:
    ramp = torch.linspace(-1, 1, 33).expand(1, 1, 33, 33)
    torch.testing.assert_close(zoomed(ramp, 1.25), ramp / 1.25)
    torch.testing.assert_close(zoomed(ramp, 1.0), ramp)


def test_clouds_fill_the_range_and_are_smoother_where_detail_decays() -> None:
    rough, smooth = (clouds(3, 32, 40, decay, torch.Generator().manual_seed(0)) for decay in (1.2, 3.0))
    for cloud in (rough, smooth):
        assert cloud.shape == (3, 1, 32, 40)
        assert cloud.amin((1, 2, 3)).tolist() == [0, 0, 0]
        assert cloud.amax((1, 2, 3)).tolist() == [1, 1, 1]
    assert rough.diff().abs().mean() > 2 * smooth.diff().abs().mean()


GREY = torch.full((1, 3, 8, 8), 0.5)


@pytest.mark.parametrize(
    ("images", "name", "severity", "message"),
    [
        (GREY, "gausian_noise", 1, "unknown corruption 'gausian_noise'; did you mean 'gaussian_noise'"),
        (GREY, "fog", 0, "severity 0: write a whole number from 1 to 5"),
        (GREY, "fog", 6, "severity 6"),
        (GREY, "fog", 2.5, "severity 2.5"),
        (GREY + 1, "fog", 1, "leave the range from 0 to 1"),
        (GREY - 1, "fog", 1, "leave the range from 0 to 1"),
        (GREY * float("nan"), "fog", 1, "leave the range"),
        (GREY[0], "fog", 1, r"shape \(n, c, h, w\) from 0 to 1, not float32 of shape \(3, 8, 8\)"),
        (GREY[:0], "fog", 1, r"shape \(0, 3, 8, 8\)"),
        (GREY.byte(), "fog", 1, "not uint8"),
        (GREY[..., :7], "fog", 1, r"\(8, 7\) pixels are too few; write at least 8 x 8"),
        (GREY[:, :2], "jpeg", 1, "JPEG has 1 or 3 channels, not 2"),
    ],
)
def test_bad_input_is_named(images: Tensor, name: str, severity: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        corrupt(images, name, severity)
