"""RandAugment's operations equal Pillow's or torchvision's, and its magnitudes are timm's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from switch_ema.tasks.augment.policies import GEOMETRIC, OPERATIONS, POLICIES
from switch_ema.tasks.augment.randaugment import RandAugment

from .sample import applied, floats, generator, stored

FILL = 114 / 255


def run(name: str, images: Tensor, levels: Tensor, fill: float = 0.5) -> Tensor:
    """Apply one operation with one level for each image."""
    draws = torch.full((len(images), 1), OPERATIONS.index(name)), levels[:, None]
    return RandAugment(num_ops=1, fill=fill)(images, draws)


def pillow(name: str, image: Image.Image, level: float) -> Image.Image:
    """Do what timm does, sampling bilinearly."""
    width, height = image.size
    matrix = {
        "shear-x": (1, level, 0, 0, 1, 0),
        "shear-y": (1, 0, 0, level, 1, 0),
        "translate-x": (1, 0, level * width, 0, 1, 0),
        "translate-y": (1, 0, 0, 0, 1, level * height),
    }.get(name)
    fill = (114,) * len(image.getbands())
    bilinear = Image.Resampling.BILINEAR
    if matrix:
        return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=bilinear, fillcolor=fill)
    if name == "rotate":
        return image.rotate(level, resample=bilinear, fillcolor=fill)
    enhance: dict[str, Callable[[Image.Image], ImageEnhance._Enhance]] = {
        "brightness": ImageEnhance.Brightness,
        "color": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "sharpness": ImageEnhance.Sharpness,
    }
    if name in enhance:
        return enhance[name](image).enhance(level)
    if name == "solarize-add":
        return image.point([min(255, value + int(level)) if value < 128 else value for value in range(256)] * 3)
    if name == "posterize":
        return image if level >= 8 else ImageOps.posterize(image, int(level))
    if name == "solarize":
        return ImageOps.solarize(image, int(level))
    plain: dict[str, Callable[[Image.Image], Image.Image]] = {
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "invert": ImageOps.invert,
    }
    return plain[name](image) if name in plain else image


LEVELS: dict[str, list[float]] = {
    "posterize": [1, 2, 4, 6, 7, 8],
    "solarize": [0, 1, 77, 128, 255, 256],
    "solarize-add": [0, 1, 77, 99, 110, 110],
    "rotate": [0, 30, -30, 21, -7, 2.5],
    **{name: [0, 0.3, -0.3, 0.21, -0.1, 0.05] for name in ("shear-x", "shear-y")},
    **{name: [0, 0.3, -0.3, 0.21, -0.45, 0.05] for name in ("translate-x", "translate-y")},
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_pillows_within_rounding(name: str) -> None:
    images = stored(6, 32, 24)
    images[1] //= 2
    images[2, ..., 0] = 7  # one value
    levels = LEVELS.get(name, [0.1, 0.37, 0.9, 1.0, 1.63, 1.9])
    got = run(name, images.permute(0, 3, 1, 2) / 255, torch.tensor(levels, dtype=torch.float), FILL) * 255
    theirs = [pillow(name, Image.fromarray(i.numpy()), v) for i, v in zip(images, levels, strict=True)]
    expected = torch.stack([functional.pil_to_tensor(image) for image in theirs]).float()
    error = (got - expected).abs()
    if name in ("posterize", "solarize", "solarize-add", "equalize", "invert", "identity"):
        assert error.max() < 1e-3  # the same bytes
    elif name in GEOMETRIC:  # Pillow's edge is hard
        assert (error < 1.01).float().mean() > 0.92
        assert error.mean() < 1.5
    else:  # Pillow cuts to whole numbers, here and there
        assert error.max() < 2.01


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "posterize"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_operation_is_torchvisions(name: str, channels: int) -> None:
    bytes_ = stored(8, channels=channels).permute(0, 3, 1, 2)
    got = run(name, bytes_ / 255, torch.full((8,), 3.0))
    if name == "autocontrast":
        torch.testing.assert_close(got, functional.autocontrast(bytes_ / 255))
    else:
        theirs = functional.equalize(bytes_) if name == "equalize" else functional.posterize(bytes_, 3)
        assert got.mul(255).round().equal(theirs.float())


@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_warp_is_torchvisions_up_to_its_edge(name: str) -> None:
    images = floats(4, 24, 24)
    levels = torch.tensor([0.25, -0.125, 0.3, 0.0]) * (100 if name == "rotate" else 1)
    got = run(name, images, levels, fill=0.0)
    for image, result, level in zip(images, got, levels.tolist(), strict=True):
        shear = {"shear-x": [1.0, 0.0], "shear-y": [0.0, 1.0]}.get(name, [0.0, 0.0])
        degrees = torch.tensor(level).atan().rad2deg().item()
        shift = {"translate-x": [-level * 24, 0.0], "translate-y": [0.0, -level * 24]}.get(name, [0.0, 0.0])
        expected = functional.affine(
            image,
            -level if name == "rotate" else 0.0,
            shift,
            1.0,
            [degrees * one for one in shear],
            InterpolationMode.BILINEAR,
            center=[12.0, 12.0] if name == "rotate" else [0.0, 0.0],
        )
        torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("fill", [0.25, (0.1, 0.2, 0.3)])
def test_what_comes_in_is_the_fill(fill: float | tuple[float, ...]) -> None:
    draws = torch.full((2, 1), OPERATIONS.index("translate-x")), torch.full((2, 1), 0.5)
    got = RandAugment(num_ops=1, fill=fill)(floats(2, 16, 16), draws)
    wanted = torch.tensor(fill).view(-1, 1, 1).expand(3, 16, 7)
    torch.testing.assert_close(got[0, ..., 9:], wanted)


def test_each_sample_gets_its_own_operations_in_their_order() -> None:
    images = floats(64)
    augment = RandAugment(num_ops=3, ops="timm-increasing", probability=0.8)
    got, (operations, levels) = applied(augment, images)
    for row, expected in enumerate(images):
        one = expected[None]
        for operation, level in zip(operations[row], levels[row], strict=True):
            one = run(OPERATIONS[operation], one, level[None])
        close = (got[row] - one[0]).abs() < 1e-5
        assert close.float().mean() > 0.98  # equalize and posterize round what lies between two bytes


@pytest.mark.parametrize("ops", POLICIES)
def test_operations_are_even_and_half_are_skipped(ops: str) -> None:
    names = [row.name for row in POLICIES[ops]]
    assert len(names) == len(set(names)) == (14 if ops == "fixmatch" else 15)
    operations, _ = RandAugment(ops=ops, probability=0.5).draw(6000, generator())
    share = operations.flatten().bincount(minlength=len(OPERATIONS)) / 12000
    for place, name in enumerate(OPERATIONS):
        expected = (name in names) * 0.5 / len(names) + (name == "identity") * 0.5
        assert abs(share[place] - expected) < 0.015
    first, second = operations.unbind(1)
    assert (first == second).float().mean() < 0.3  # drawn independently


TIMM = {
    "brightness": "Brightness",
    "color": "Color",
    "contrast": "Contrast",
    "posterize": "Posterize",
    "rotate": "Rotate",
    "sharpness": "Sharpness",
    "shear-x": "ShearX",
    "shear-y": "ShearY",
    "solarize": "Solarize",
    "solarize-add": "SolarizeAdd",
    "translate-x": "TranslateXRel",
    "translate-y": "TranslateYRel",
}


@pytest.mark.parametrize("ops", ["timm", "timm-increasing"])
def test_levels_are_timms(ops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from timm.data import auto_augment

    level_of: dict[str, Any] = auto_augment.LEVEL_TO_ARG
    magnitudes = torch.linspace(0, 1, 41)
    names = auto_augment._RAND_INCREASING_TRANSFORMS if ops == "timm-increasing" else auto_augment._RAND_TRANSFORMS
    assert len(POLICIES[ops]) == len(names)
    for row in POLICIES[ops]:
        if row.name not in TIMM:
            assert row.level(magnitudes, torch.ones(41)).eq(0).all()
            continue
        name = TIMM[row.name] + ("Increasing" if TIMM[row.name] + "Increasing" in names else "")
        assert name in names
        for magnitude in magnitudes.double().tolist():
            for sign in (-1.0, 1.0):
                monkeypatch.setattr("random.random", lambda sign=sign: 0.5 - 0.1 * sign)  # it negates above 0.5
                (expected,) = level_of[name](10 * magnitude, {})
                got = row.level(torch.tensor(magnitude).double(), torch.tensor(sign)).item()
                assert got == pytest.approx(expected, abs=1e-6), (name, magnitude, sign)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        *((name, 1 - 0.68, 1 + 0.68) for name in ("brightness", "color", "contrast", "sharpness")),
        ("rotate", -21, 21),
        ("shear-x", -0.21, 0.21),
        ("translate-y", -0.21, 0.21),
        ("posterize", 6, 6),
        ("solarize", 77, 77),
    ],
)
def test_fixmatchs_levels_at_magnitude_7(name: str, low: float, high: float) -> None:
    operations, levels = RandAugment(magnitude=7, magnitude_std=0).draw(3000, generator())
    got = levels[operations == OPERATIONS.index(name)]
    assert got.min() == pytest.approx(low, abs=1e-5)
    assert got.max() == pytest.approx(high, abs=1e-5)
    assert len(got.round(decimals=4).unique()) == len({low, high})
    if low < high:
        assert 0.35 < (got > (low + high) / 2).float().mean() < 0.65


def test_magnitudes_are_normal_and_cut_at_ten() -> None:
    operations, levels = RandAugment(magnitude=7, magnitude_std=0.5, probability=1).draw(20000, generator())
    degrees = levels[operations == OPERATIONS.index("rotate")].abs() / 3
    assert abs(degrees.mean() - 7) < 0.05
    assert abs(degrees.std() - 0.5) < 0.05
    operations, levels = RandAugment(magnitude=9, magnitude_std=2, probability=1).draw(5000, generator())
    degrees = levels[operations == OPERATIONS.index("rotate")].abs() / 3
    assert degrees.max() == 10


def test_small_grey_images_change() -> None:
    images = floats(64, 8, 8, channels=1)
    got, _ = applied(RandAugment(probability=1.0), images)
    assert got.shape == images.shape
    assert ((got - images).abs().flatten(1).amax(1) > 1e-3).float().mean() > 0.6
