"""Crops equal padding, cutting, resizing and mirroring one image at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from switch_ema.tasks.augment.crop import ResizedCrop, ShiftFlip
from switch_ema.tasks.augment.resample import Interpolation

from .sample import applied, generator, stored


@pytest.mark.parametrize("mode", ["reflect", "zero"])
@pytest.mark.parametrize("padding", [1, 4])
def test_shift_flip_is_pad_crop_flip(mode: str, padding: int) -> None:
    images = stored(24, 12, 10)
    rows = torch.randperm(24, generator=generator(1))[:16]
    augment = ShiftFlip(padding, mode=mode)  # type: ignore[arg-type]
    draws = augment.draw(16, generator())
    got = augment.gather(images, rows, draws)
    for row, image, (down, right), mirrored in zip(rows, got, draws[0].tolist(), draws[1], strict=True):
        planes = images[row].permute(2, 0, 1)[None].float()
        wide = pad(planes, [padding] * 4, mode="reflect" if mode == "reflect" else "constant")
        top, left = padding + down, padding + right
        expected = wide[0, :, top : top + 12, left : left + 10].permute(1, 2, 0).byte()
        assert image.equal(expected.flip(1) if mirrored else expected)


def test_shifts_are_even_and_half_is_mirrored() -> None:
    shifts, mirrored = ShiftFlip(2).draw(5000, generator())
    for direction in shifts.unbind(1):
        assert (direction.add(2).bincount(minlength=5) / 5000 - 0.2).abs().max() < 0.02
    assert abs(mirrored.float().mean() - 0.5) < 0.02
    assert abs(torch.corrcoef(shifts.T.float())[0, 1]) < 0.05
    assert not ShiftFlip(2, flip=False).draw(100, generator())[1].any()


def test_any_storage_type_and_a_call_without_rows() -> None:
    images = stored(8).float()
    got, draws = applied(ShiftFlip(3), images)
    assert got.dtype == torch.float32
    assert ShiftFlip(3).gather(images, torch.arange(8), draws).equal(got)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (40, 30, 12), (9, 8, 24), (50, 10, 16)])
def test_resized_crop_is_torchvisions(interpolation: Interpolation, height: int, width: int, size: int) -> None:
    images = stored(24, height, width)
    crop = ResizedCrop(size, interpolation=interpolation)
    got, draws = applied(crop, images)
    boxes = torch.stack(crop.boxes(draws, height, width)[:4], 1).int().tolist()
    assert draws[3].any()
    assert not draws[3].all()
    for image, view, box, mirrored in zip(images, got, boxes, draws[3], strict=True):
        expected = functional.resized_crop(
            image.permute(2, 0, 1).float() / 255,
            *box,
            [size, size],
            InterpolationMode(interpolation),
            antialias=True,
        ).clamp(0, 1)
        torch.testing.assert_close(view, expected.flip(2) if mirrored else expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 20), (8, 8)])
def test_parts_are_distributed_as_torchvisions(height: int, width: int) -> None:
    crop, theirs = ResizedCrop(8), v2.RandomResizedCrop(8)
    boxes = crop.boxes(crop.draw(4000, generator()), height, width)
    ours = torch.stack(boxes[:4], 1)
    torch.manual_seed(0)
    drawn = [theirs.make_params([torch.empty(3, height, width)]) for _ in range(1000)]
    expected = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn]).float()
    spread = expected.std(0)
    assert ((ours.mean(0) - expected.mean(0)).abs() < 4 * spread / 1000**0.5).all()
    assert ((ours.std(0) - spread).abs() < 0.1 * spread).all()
    assert (ours.amin(0) >= torch.tensor([0, 0, 1, 1])).all()
    assert (boxes.top + boxes.height <= height).all()
    assert (boxes.left + boxes.width <= width).all()
    fixed = ResizedCrop(8, scale=(0.25, 0.25), ratio=(1, 1))
    places = torch.stack(fixed.boxes(fixed.draw(4000, generator()), height, width)[:2])
    assert abs(torch.corrcoef(places)[0, 1]) < 0.06


@pytest.mark.parametrize(("height", "width", "expected"), [(10, 40, (10, 13)), (40, 10, (13, 10)), (20, 20, (20, 20))])
def test_where_no_try_fits_the_middle_is_taken(height: int, width: int, expected: tuple[int, int]) -> None:
    crop = ResizedCrop(8)
    areas, ratios, places, mirrored = crop.draw(4, generator())
    boxes = crop.boxes((areas + 100, ratios, places, mirrored), height, width)
    assert not boxes.found.any()
    assert boxes.height.tolist() == [expected[0]] * 4
    assert boxes.width.tolist() == [expected[1]] * 4
    assert boxes.top.tolist() == [(height - expected[0]) // 2] * 4
    assert boxes.left.tolist() == [(width - expected[1]) // 2] * 4


def test_a_later_try_counts_only_where_the_first_does_not_fit() -> None:
    crop = ResizedCrop(8)
    areas, ratios, places, mirrored = crop.draw(2, generator())
    areas, ratios = torch.full_like(areas, 0.25), torch.ones_like(ratios)
    areas[0, 0], areas[0, 1], areas[1, 1] = 4.0, 0.5625, 0.5625
    boxes = crop.boxes((areas, ratios, places, mirrored), 16, 16)
    assert boxes.height.tolist() == [12, 8]
