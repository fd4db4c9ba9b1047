"""The views of contrastive learning have the numbers of their papers."""

from __future__ import annotations

import torch

from switch_ema.tasks.augment.colour import Blur, ColourJitter, Greyscale, Solarize
from switch_ema.tasks.augment.crop import ResizedCrop
from switch_ema.tasks.augment.views import byol_views, moco_v2_view, simclr_view

from .sample import applied, stored


def test_simclr() -> None:
    crop = ResizedCrop(32, scale=(0.08, 1), interpolation="bicubic")
    colours = ColourJitter(0.8, 0.8, 0.8, 0.2, probability=0.8)
    assert simclr_view(32).steps == (crop, colours, Greyscale(0.2), Blur((0.1, 2.0), probability=0.5))
    weaker = ColourJitter(0.4, 0.4, 0.4, 0.1, probability=0.8)
    assert simclr_view(32, strength=0.5, blur=False).steps == (crop, weaker, Greyscale(0.2))


def test_moco_v2() -> None:
    colours = ColourJitter(0.4, 0.4, 0.4, 0.1, probability=0.8)
    wanted = (ResizedCrop(32, scale=(0.2, 1.0)), colours, Greyscale(0.2), Blur((0.1, 2.0), probability=0.5))
    assert moco_v2_view(32).steps == wanted


def test_byols_two_views_differ_in_blur_and_solarizing() -> None:
    first, second = byol_views(32)
    assert first.steps[:3] == second.steps[:3]
    assert first.steps[1] == ColourJitter(0.4, 0.4, 0.2, 0.1, probability=0.8)
    assert first.steps[3:] == (Blur(probability=1.0), Solarize(0.5, probability=0.0))
    assert second.steps[3:] == (Blur(probability=0.1), Solarize(0.5, probability=0.2))


def test_two_views_of_an_image_differ_and_one_generator_serves_both() -> None:
    first, second = byol_views(24)
    images = stored(16)
    generator = torch.Generator().manual_seed(0)
    views = [view(images, view.draw(16, generator)) for view in (first, second)]
    assert ((views[0] - views[1]).abs().flatten(1).amax(1) > 0.05).all()
    assert applied(first, images)[0].equal(views[0])
