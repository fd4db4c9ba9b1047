"""Colour changes equal torchvision's, one image at a time with the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from switch_ema.tasks.augment import pixels
from switch_ema.tasks.augment.colour import Blur, ColourJitter, Flip, Greyscale, Solarize

from .sample import applied, floats, generator

FACTORS = torch.cat([torch.tensor([0.0, 1.0, 2.0]), torch.rand(13, generator=generator(7)) * 2])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs", "numbers"),
    [
        (pixels.brightness, functional.adjust_brightness, FACTORS),
        (pixels.contrast, functional.adjust_contrast, FACTORS),
        (pixels.saturation, functional.adjust_saturation, FACTORS),
        (pixels.sharpness, functional.adjust_sharpness, FACTORS),
        (pixels.hue, functional.adjust_hue, FACTORS / 2 - 0.5),
        (pixels.solarize, functional.solarize, FACTORS / 2),
    ],
)
def test_one_change_is_torchvisions(
    ours: Callable[[Tensor, Tensor], Tensor],
    theirs: Callable[[Tensor, float], Tensor],
    numbers: Tensor,
    channels: int,
) -> None:
    images = floats(16, channels=channels)
    images[3] = 0.5  # no contrast, no hue
    images[4, :, :8] = torch.tensor([0.0, 1.0, 1.0])[:channels, None, None]  # channels that are equal
    images[5, :, :8] = torch.tensor([1.0, 0.0, 1.0])[:channels, None, None]
    expected = torch.stack([theirs(image, number) for image, number in zip(images, numbers.tolist(), strict=True)])
    torch.testing.assert_close(ours(images, numbers), expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_jitter_is_torchvisions_changes_in_the_drawn_order(channels: int, probability: float) -> None:
    images = floats(32, channels=channels)
    got, (factors, order, turns) = applied(ColourJitter(0.8, 0.8, 0.8, 0.2, probability), images)
    adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    for row, image in enumerate(images):
        for kind in order[row].tolist():
            image = adjust[kind](image, factors[row, kind].item())  # noqa: PLW2901
        expected = functional.adjust_hue(image, turns[row].item())
        torch.testing.assert_close(got[row], expected, atol=1e-5, rtol=0)
    changed = ((got - images).abs() > 1e-6).flatten(1).any(1)
    assert changed.all() if probability == 1 else 6 < changed.sum() < 26


def test_jitters_numbers_are_even_in_their_ranges() -> None:
    factors, order, turns = ColourJitter(0.4, 0.8, 1.5, 0.1).draw(4000, generator())
    for numbers, low, high in zip((*factors.unbind(1), turns), (0.6, 0.2, 0, -0.1), (1.4, 1.8, 2.5, 0.1), strict=True):
        assert low <= numbers.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < numbers.max() <= high
        torch.testing.assert_close(numbers.mean().item(), (low + high) / 2, atol=0.02 * (high - low), rtol=0)
    orders = (order * torch.tensor([9, 3, 1])).sum(1)
    assert len(orders.unique()) == 6
    assert (orders.bincount()[orders.unique()] / 4000 - 1 / 6).abs().max() < 0.03
    factors, _, turns = ColourJitter(0.4, 0.4, 0.4, 0.1, probability=0.3).draw(4000, generator())
    same = (factors == 1).all(1)
    assert abs(same.float().mean() - 0.7) < 0.03
    assert same.equal(turns == 0)


def test_hue_without_colour_or_beyond_the_circle() -> None:
    grey = floats(4, channels=1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(pixels.hue(grey, torch.tensor([0.1, -0.5, 0.5, 0.3])), grey)
    images = floats(4)
    third = pixels.hue(images, torch.full((4,), 1 / 3))  # red becomes green
    torch.testing.assert_close(third, images.roll(1, dims=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("augment", [Greyscale(0.5), Solarize(0.4, 0.5), Flip(0.5)])
def test_some_images_change_as_torchvisions(augment: Greyscale | Solarize | Flip) -> None:
    images = floats(64)
    got, (chosen,) = applied(augment, images)
    for image, result, changed in zip(images, got, chosen, strict=True):
        theirs = {
            "Greyscale": functional.rgb_to_grayscale(image, 3),
            "Solarize": functional.solarize(image, 0.4),
            "Flip": functional.horizontal_flip(image),
        }[type(augment).__name__]
        torch.testing.assert_close(result, theirs if changed else image)
    assert 16 < chosen.sum() < 48
    (often,) = type(augment)(probability=0.2).draw(4000, generator())
    assert abs(often.float().mean() - 0.2) < 0.03


def test_grey_images_stay_grey() -> None:
    images = floats(8, channels=1)
    assert applied(Greyscale(1), images)[0].equal(images)
    torch.testing.assert_close(applied(ColourJitter(saturation=0.9, hue=0.4), images)[0], images)


@pytest.mark.parametrize(("height", "width", "kernel_size"), [(32, 32, None), (32, 24, 5), (64, 64, 23), (16, 16, 1)])
def test_blur_is_torchvisions(height: int, width: int, kernel_size: int | None) -> None:
    images = floats(12, height, width)
    got, (sigma,) = applied(Blur(probability=0.7, kernel_size=kernel_size), images)
    assert (sigma == 0).any()
    for image, result, one in zip(images, got, sigma.tolist(), strict=True):
        expected = functional.gaussian_blur(image, [kernel_size or 13] * 2, [one] * 2) if one else image
        torch.testing.assert_close(result, expected, atol=2e-6, rtol=0)


def test_a_wide_blur_of_a_small_image_ends_at_its_side() -> None:
    images = floats(8, 5, 4)
    got, (sigma,) = applied(Blur((1.0, 2.0)), images)
    for image, result, one in zip(images, got, sigma.tolist(), strict=True):
        expected = functional.gaussian_blur(image, [7, 9], [one] * 2)  # width, height
        torch.testing.assert_close(result, expected, atol=2e-6, rtol=0)


def test_sigmas_are_even_in_their_range() -> None:
    (sigma,) = Blur((0.5, 1.5), probability=0.5).draw(4000, generator())
    blurred = sigma[sigma > 0]
    assert abs(len(blurred) / 4000 - 0.5) < 0.03
    assert 0.5 <= blurred.min() < 0.51
    assert 1.49 < blurred.max() <= 1.5
    assert abs(blurred.mean() - 1) < 0.03
