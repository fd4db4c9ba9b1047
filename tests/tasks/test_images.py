"""Batches of stored images: seeded, shared out, normalised."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from switch_ema.bench.task import WHOLE, Shard
from switch_ema.tasks.augment.base import Chain
from switch_ema.tasks.augment.colour import ColourJitter
from switch_ema.tasks.augment.crop import ResizedCrop, ShiftFlip
from switch_ema.tasks.images import Augment, ImageBatches

CPU = torch.device("cpu")
MEAN, STD = (100.0, 120.0, 140.0), (50.0, 60.0, 70.0)
STORAGE = torch.randint(256, (40, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
AUGMENTS = {
    "none": Augment(),
    "shift": Augment(ShiftFlip(2)),
    "resized": Augment(ResizedCrop(12)),
    "colour": Augment(None, Chain((ColourJitter(0.5, 0.5),))),
    "both": Augment(ShiftFlip(2), Chain((ColourJitter(0.5, 0.5),))),
}


def epoch(augment: Augment, size: int = 16, seed: int = 3, shard: Shard = WHOLE) -> list[tuple[Tensor, Tensor, slice]]:
    return list(ImageBatches({"train": STORAGE}, MEAN, STD, augment).epoch(size, seed, CPU, shard))


def normalised(images: Tensor) -> Tensor:
    return ((images.float() - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def test_images_are_the_ones_they_are_said_to_be() -> None:
    seen = []
    for images, numbers, where in epoch(AUGMENTS["none"]):
        torch.testing.assert_close(images, normalised(STORAGE[numbers]))
        assert (where.stop - where.start, images.shape) == (16, (16, 3, 16, 16))
        seen += numbers.tolist()
    assert len(set(seen)) == 32
    assert seen != sorted(seen)


def test_floats_are_normalised_like_bytes() -> None:
    batches = ImageBatches({}, MEAN, STD)
    unit = STORAGE.permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(batches.normalised(unit), batches.normalised(STORAGE), rtol=1e-4, atol=1e-5)
    assert batches.normalised(unit).is_contiguous(memory_format=torch.channels_last)
    assert batches.normalised(STORAGE).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_batches_depend_on_the_seed_alone(augment: str) -> None:
    state = torch.get_rng_state()
    first, again, other = (epoch(AUGMENTS[augment], seed=seed) for seed in (3, 3, 4))
    assert torch.get_rng_state().equal(state)
    assert all(a.equal(b) for (a, _, _), (b, _, _) in zip(first, again, strict=True))
    assert not any(a.equal(b) for (a, _, _), (b, _, _) in zip(first, other, strict=True))


@pytest.mark.parametrize("augment", AUGMENTS)
def test_shards_make_up_the_whole_batch(augment: str) -> None:
    parts = [epoch(AUGMENTS[augment], shard=Shard(rank, 4)) for rank in range(4)]
    for (images, numbers, _), *shards in zip(epoch(AUGMENTS[augment]), *parts, strict=True):
        assert torch.cat([part[0] for part in shards]).equal(images)
        assert torch.cat([part[1] for part in shards]).equal(numbers)


@pytest.mark.parametrize("augment", [name for name in AUGMENTS if name != "none"])
def test_augmentation_changes_images_each_in_its_own_way(augment: str) -> None:
    plain = ImageBatches({"train": STORAGE[:1].expand(32, -1, -1, -1)}, MEAN, STD, AUGMENTS[augment])
    (images, _, _), *_ = plain.epoch(32, 0, CPU)
    assert len(torch.unique(images.flatten(1), dim=0)) > 16


def test_held_out_images_come_in_order() -> None:
    batches = ImageBatches({"val": STORAGE}, MEAN, STD, AUGMENTS["both"])
    parts = list(batches.held_out("val", 16, CPU))
    assert [len(images) for images, _ in parts] == [16, 16, 8]
    assert torch.cat([torch.arange(40)[where] for _, where in parts]).tolist() == list(range(40))
    torch.testing.assert_close(torch.cat([images for images, _ in parts]), normalised(STORAGE))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("augment", AUGMENTS)
def test_batches_are_the_same_on_a_gpu(augment: str) -> None:
    there = ImageBatches({"train": STORAGE}, MEAN, STD, AUGMENTS[augment]).epoch(16, 3, torch.device("cuda"))
    for (images, numbers, _), (same, equal, _) in zip(epoch(AUGMENTS[augment]), there, strict=True):
        assert same.is_cuda
        torch.testing.assert_close(same.cpu(), images, rtol=1e-3, atol=1e-3)
        assert equal.cpu().equal(numbers)
