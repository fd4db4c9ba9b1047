"""Batches depend on their seed alone; mirroring moves images, boxes and masks alike."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch

from switch_ema.bench.task import WHOLE, Shard
from switch_ema.errors import InputError
from switch_ema.tasks.detection.batches import Batch, SceneBatches, held_out

from .scenes import SIDE, objects, scenes

CPU = torch.device("cpu")

TRAIN = scenes(
    objects((10, 20, 50, 70, 0), (100.5, 30.25, 160, 190, 2)),
    objects((0, 0, SIDE, SIDE, 1), (20, 30, 60, 90, 1), crowd=(0,)),
    objects(),
    objects((5, 5, 5.5, 90, 0), (7, 7, 20, 7.75, 1), (40, 30, 41, 31, 2)),
    *[objects((k, 2 * k, k + 30, 2 * k + 20, k % 3)) for k in range(1, 9)],
)


def batches(size: int = 4, seed: int = 0, shard: Shard = WHOLE, flip: float = 0.5, masks: bool = True) -> list[Batch]:
    return list(SceneBatches(TRAIN, flip=flip, masks=masks).epoch(size, seed, CPU, shard))


def numbers(batch: Batch) -> list[int]:
    """Return which images are in a batch, mirrored or not, told by their sum."""
    sums = {int(TRAIN.image(k).sum(dtype=np.int64)): k for k in range(len(TRAIN))}
    return [sums[round(image.double().sum().item() * 255)] for image in batch[0]]


def same(first: Batch, second: Batch) -> bool:
    targets = zip(first[1], second[1], strict=True)
    return all(a.equal(b) for a, b in zip(first[0], second[0], strict=True)) and all(
        a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a) for a, b in targets
    )


def test_an_epoch_is_shuffled_once_through_and_drops_the_rest() -> None:
    seen = [number for batch in batches(4) for number in numbers(batch)]
    assert sorted(seen) == list(range(12))
    assert seen != list(range(12))
    assert [len(batch[0]) for batch in batches(5)] == [5, 5]


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_mirroring_moves_images_boxes_and_masks_alike(flip: float) -> None:
    for batch in batches(flip=flip):
        for number, image, target in zip(numbers(batch), *batch, strict=True):
            pixels = torch.tensor(TRAIN.image(number)).permute(2, 0, 1).float() / 255
            truth = TRAIN.objects[number]
            kept = ~truth.crowd & ((truth.boxes[:, 2:] - truth.boxes[:, :2]).min(1, initial=SIDE) >= 1)
            boxes, masks = torch.tensor(truth.boxes[kept]), torch.tensor(truth.bitmaps(SIDE, SIDE)[kept])
            assert image.equal(pixels.flip(2) if flip else pixels)
            assert target["masks"].equal(masks.flip(2) if flip else masks)
            left, top, right, bottom = boxes.T
            expected = torch.stack([SIDE - right, top, SIDE - left, bottom], 1) if flip else boxes
            assert target["boxes"].equal(expected)
            assert target["labels"].tolist() == [label + 1 for label in truth.labels[kept]]
            assert (image.dtype, target["boxes"].dtype, target["labels"].dtype, target["masks"].dtype) == (
                torch.float32, torch.float32, torch.int64, torch.uint8,
            )  # fmt: skip


def test_crowds_and_boxes_below_a_pixel_are_not_learnt() -> None:
    kept = {n: len(target["labels"]) for batch in batches() for n, target in zip(numbers(batch), batch[1], strict=True)}
    assert [kept[n] for n in range(5)] == [2, 1, 0, 1, 1]


def test_about_the_share_asked_for_is_mirrored_anew_in_every_epoch() -> None:
    def mirrored(seed: int, flip: float) -> set[int]:
        given = [
            (n, image)
            for batch in batches(seed=seed, flip=flip)
            for n, image in zip(numbers(batch), batch[0], strict=True)
        ]
        plain = {n: torch.tensor(TRAIN.image(n)).permute(2, 0, 1).float() / 255 for n in range(len(TRAIN))}
        return {n for n, image in given if not image.equal(plain[n])}

    counts = [len(mirrored(seed, 0.25)) for seed in range(8)]
    assert 12 <= sum(counts) <= 36  # 24 of 96 expected, 4.2 the standard deviation
    assert mirrored(0, 0.5) != mirrored(1, 0.5)


def test_batches_depend_on_their_seed_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = batches(seed=5)
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    assert all(map(same, first, batches(seed=5)))
    assert not any(map(same, first, batches(seed=6)))


@pytest.mark.parametrize("world_size", [2, 4])
def test_shards_make_up_the_whole_batch(world_size: int) -> None:
    parts = [batches(shard=Shard(rank, world_size), seed=3) for rank in range(world_size)]
    for whole, *shards in zip(batches(seed=3), *parts, strict=True):
        images, targets = ([*chain.from_iterable(part[place] for part in shards)] for place in (0, 1))
        assert same((images, targets), whole)
        assert {len(part[0]) for part in shards} == {4 // world_size}


def test_masks_are_made_only_if_wanted() -> None:
    assert all(set(target) == {"boxes", "labels"} for batch in batches(masks=False) for target in batch[1])


def test_an_epoch_may_be_broken_off() -> None:
    epoch = SceneBatches(TRAIN, flip=0, masks=False).epoch(1, 0, CPU)
    assert len(next(epoch)[0]) == 1
    epoch.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [1, 5, 100])
def test_held_out_images_come_in_their_order(size: int) -> None:
    images = [*chain.from_iterable(held_out(TRAIN, size, CPU))]
    assert len(images) == len(TRAIN)
    for number, image in enumerate(images):
        assert image.equal(torch.tensor(TRAIN.image(number)).permute(2, 0, 1).float() / 255)


@pytest.mark.parametrize(
    ("size", "shard", "words"),
    [(0, WHOLE, "write 1 to 12"), (13, WHOLE, "write 1 to 12"), (6, Shard(0, 4), "write a multiple of 4")],
)
def test_bad_batch_size_is_refused_at_the_call(size: int, shard: Shard, words: str) -> None:
    with pytest.raises(InputError, match=f"batch size {size}: {words}"):
        SceneBatches(TRAIN, flip=0, masks=False).epoch(size, 0, CPU, shard)
