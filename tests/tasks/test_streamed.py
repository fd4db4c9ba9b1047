"""Images read from disk make the batches that stored ones make."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from switch_ema.bench.task import WHOLE, Shard
from switch_ema.errors import InputError
from switch_ema.tasks.classification import Classification

CPU = torch.device("cpu")
Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty colour images of two classes and many sizes."""
    generator = np.random.default_rng(0)
    for row in range(40):
        folder = tmp_path / "photos" / str(row % 2)
        folder.mkdir(exist_ok=True, parents=True)
        height, width = generator.integers(20, 40, 2)
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).resize((int(width), int(height))).save(folder / f"{row:02}.png")
    return tmp_path / "photos"


def batches(task: Classification, seed: int = 0, shard: Shard = WHOLE) -> Batches:
    return list(task.train_batches(8, seed, CPU, shard))


def streamed(photos: Path, **options: Any) -> Classification:
    return Classification(data=str(photos), image_size=16, stream="true", **{"workers": 0, **options})


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_they_are_the_stored_ones(photos: Path, augment: str) -> None:
    stored = Classification(data=str(photos), image_size=16, stream="false", augment=augment)
    for (images, labels), (same, equal) in zip(
        batches(stored), batches(streamed(photos, augment=augment)), strict=True
    ):
        torch.testing.assert_close(same, images)
        assert equal.equal(labels)
    model = stored.build_model().eval()
    here, there = (task.evaluate(model, "test", CPU) for task in (stored, streamed(photos)))
    assert here == pytest.approx(there, rel=1e-5)


def test_resized_crops_are_cut_from_the_whole_image_by_pillow(photos: Path) -> None:
    task = streamed(photos, augment="resized-crop", crop_scale=0.2)
    seen = torch.cat([images for images, _ in batches(task)])
    assert seen.shape[1:] == (3, 16, 16)
    assert not batches(task, seed=1)[0][0].equal(batches(task)[0][0])
    assert batches(task)[0][0].equal(batches(task)[0][0])


def test_workers_change_nothing(photos: Path) -> None:
    options: dict[str, Any] = {"augment": "resized-crop", "randaugment": 5, "erasing": 0.5, "mixup": 0.4}
    alone, together = batches(streamed(photos, **options)), batches(streamed(photos, **options, workers=2))
    for (images, targets), (same, equal) in zip(alone, together, strict=True):
        assert same.equal(images)
        assert equal.equal(targets)


def test_shards_make_up_the_whole_batch(photos: Path) -> None:
    task = streamed(photos, augment="resized-crop", randaugment=5)
    parts = [batches(task, shard=Shard(rank, 2)) for rank in range(2)]
    for (images, labels), first, second in zip(batches(task), *parts, strict=True):
        assert torch.cat([first[0], second[0]]).equal(images)
        assert torch.cat([first[1], second[1]]).equal(labels)


def _break(photos: Path, count: int) -> list[str]:
    files = sorted(str(path) for path in photos.rglob("*.png"))[::4][:count]
    for file in files:
        with open(file, "r+b") as stream:
            stream.truncate(os.path.getsize(file) // 2)
    return files


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    task = streamed(photos, workers=workers)
    files = _break(photos, 10)
    with pytest.raises(InputError) as caught:
        batches(task)
    assert any(file in str(caught.value) for file in files)
    assert "--skip-corrupt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_images_are_left_out_when_asked(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = streamed(photos, skip_corrupt=True)
    whole = batches(task)
    _break(photos, 10)
    partly = batches(task)
    assert len(partly) == len(whole)
    assert any(not a.equal(b) for (a, _), (b, _) in zip(whole, partly, strict=True))
    assert all(images.shape == (8, 3, 16, 16) and images.isfinite().all() for images, _ in partly)
    model = task.build_model().eval()
    assert all(np.isfinite(value) for value in task.evaluate(model, "test", CPU).values())
    assert "cannot be read" in caplog.text


def test_a_size_is_needed(photos: Path) -> None:
    with pytest.raises(InputError, match=r"is read from disk while training; write --image-size, such as 224"):
        Classification(data=str(photos), stream="true")


def test_large_sets_are_read_from_disk(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from switch_ema.tasks import imagesource

    kinds = []
    for limit in (40 * 16 * 16 * 3, 40 * 16 * 16 * 3 - 1):
        monkeypatch.setattr(imagesource, "IN_MEMORY", limit)
        kinds.append(type(Classification(data=str(photos), image_size=16)._batches).__name__)
    assert kinds == ["ImageBatches", "StreamBatches"]
