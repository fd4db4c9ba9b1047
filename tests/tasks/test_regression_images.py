"""Images with a number each: augmented as asked, and the same batches whether they are stored or read from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import pad

from switch_ema.bench.task import WHOLE, Shard
from switch_ema.errors import InputError
from switch_ema.tasks import imagesource, regression
from switch_ema.tasks.regression import Regression

CPU = torch.device("cpu")


def batches(task: Regression, size: int, seed: int = 0, shard: Shard = WHOLE) -> list[tuple[Tensor, Tensor]]:
    return list(task.train_batches(size, seed, CPU, shard))


class Spy(nn.Module):
    """Says 0, and remembers what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.zeros(len(x), 1)


@pytest.fixture
def colour(tmp_path: Path) -> str:
    """Forty colour images, 32x32, and a number for each."""
    generator = np.random.default_rng(0)
    lines = ["path,value"]
    for row in range(40):
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / f"{row}.png")
        lines.append(f"{row}.png,{row}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    return str(tmp_path)


def test_crop_moves_images_by_up_to_a_sixteenth_and_mirrors_nothing(colour: str) -> None:
    plain, augmented = Regression(data=colour, augment="none"), Regression(data=colour, augment="crop")
    places = set()
    for seed in range(4):
        (before, targets), (after, same) = batches(plain, 29, seed)[0], batches(augmented, 29, seed)[0]
        assert targets.equal(same)
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        for image, crop in zip(before, after, strict=True):
            padded = pad(image, (2, 2, 2, 2), mode="reflect")
            found = {(y, x) for y in range(5) for x in range(5) if padded[:, y : y + 32, x : x + 32].equal(crop)}
            assert len(found) == 1
            places |= found
    assert len(places) > 20  # of 25


def test_auto_augments_colour_images_only(colour: str) -> None:
    def first(**options: Any) -> Tensor:
        return batches(Regression(**options), 8)[0][0]

    assert first(data=colour).equal(first(data=colour, augment="crop"))
    assert not first(data=colour).equal(first(data=colour, augment="none"))
    assert first().equal(first(augment="none"))
    assert not first().equal(first(augment="crop"))
    assert first(data="diabetes").equal(first(data="diabetes", augment="none"))


def test_held_out_images_are_not_augmented(colour: str) -> None:
    plain, spied = Spy(), Spy()
    Regression(data=colour, augment="none").evaluate(plain, "test", CPU)
    Regression(data=colour, augment="crop-flip", randaugment=9).evaluate(spied, "test", CPU)
    assert spied.seen[0].equal(plain.seen[0])


def test_padding_is_the_largest_shift_and_reflects(colour: str) -> None:
    plain, augmented = Regression(data=colour, augment="none"), Regression(data=colour, augment="crop", padding=1)
    places = set()
    for image, crop in zip(batches(plain, 29)[0][0], batches(augmented, 29)[0][0], strict=True):
        padded = pad(image, (1, 1, 1, 1), mode="reflect")
        places |= {(y, x) for y in range(3) for x in range(3) if padded[:, y : y + 32, x : x + 32].equal(crop)}
    assert len(places) == 9


def test_flips_mirror_half_of_the_images(colour: str) -> None:
    plain, flipped = Regression(data=colour, augment="none"), Regression(data=colour, augment="crop-flip", padding=0)
    pairs = list(zip(batches(plain, 29)[0][0], batches(flipped, 29)[0][0], strict=True))
    mirrored = [image.flip(2).equal(same) for image, same in pairs]
    assert 5 < sum(mirrored) < 24
    assert all(image.equal(same) for (image, same), turned in zip(pairs, mirrored, strict=True) if not turned)


@pytest.mark.parametrize(
    "options",
    [
        {"augment": "resized-crop", "crop_scale": 0.5, "interpolation": "bicubic"},
        {"augment": "none", "randaugment": 9},
        {"augment": "none", "erasing": 1},
    ],
)
def test_other_augmentation_changes_images_and_keeps_their_targets(options: dict[str, Any], colour: str) -> None:
    (before, targets), (after, same) = (
        batches(Regression(data=colour, **chosen), 29)[0] for chosen in ({"augment": "none"}, options)
    )
    assert targets.equal(same)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert sum(not a.equal(b) for a, b in zip(before, after, strict=True)) > 14
    parts = [batches(Regression(data=colour, **options), 28, shard=Shard(rank, 2))[0][0] for rank in (0, 1)]
    assert torch.cat(parts).equal(batches(Regression(data=colour, **options), 28)[0][0])


def test_interpolation_and_smallest_share_are_passed_on(colour: str) -> None:
    def first(**options: Any) -> Tensor:
        return batches(Regression(data=colour, augment="resized-crop", **options), 8)[0][0]

    assert first().equal(first(crop_scale=0.5))
    assert not first().equal(first(crop_scale=0.2))
    assert not first().equal(first(interpolation="bicubic"))


def test_rates_reach_the_network(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(regression, "build_model", lambda *_, **rates: given.update(rates) or nn.Identity())
    Regression(data=colour, model="vit-t", drop_path=0.2, dropout=0.3).build_model()
    assert given == {"drop_path": 0.2, "dropout": 0.3}


def test_corrupt_images_are_counted(colour: str) -> None:
    (Path(colour) / "7.png").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"/7\.png: not a readable image"):
        Regression(data=colour)
    assert Regression(data=colour, skip_corrupt=True).skipped == 1
    assert Regression().skipped == 0


@pytest.mark.parametrize("augment", ["none", "crop", "crop-flip"])
def test_streamed_batches_are_the_stored_ones(augment: str, colour: str) -> None:
    options: dict[str, Any] = {"data": colour, "image_size": 16, "augment": augment}
    stored, streamed = (Regression(**options, stream=stream, workers=0) for stream in ("false", "true"))
    assert type(streamed._batches).__name__ == "StreamBatches"
    assert streamed.num_train == stored.num_train
    for (images, targets), (same, equal) in zip(batches(stored, 8), batches(streamed, 8), strict=True):
        torch.testing.assert_close(same, images)
        assert equal.equal(targets)
    model = stored.build_model().eval()
    for split in ("val", "test"):
        here, there = (task.evaluate(model, split, CPU) for task in (stored, streamed))
        assert here == pytest.approx(there, rel=1e-5)


def test_streams_follow_the_split_column(tmp_path: Path) -> None:
    lines = ["image,age,split"]
    for row in range(24):
        Image.new("L", (9, 8), 10 * row).save(tmp_path / f"{row}.png")
        lines.append(f"{row}.png,{row},{('train', 'val', 'test')[row % 3]}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    options: dict[str, Any] = {"data": str(tmp_path), "image_size": 8, "scale_target": False}
    task = Regression(**options, stream="true", workers=1)
    assert sorted(batches(task, 8)[0][1].tolist()) == list(range(0, 24, 3))
    stored = Spy()
    streamed = Spy()
    Regression(**options).evaluate(stored, "val", CPU)
    assert task.evaluate(streamed, "val", CPU)["mae"] == np.mean(range(1, 24, 3))
    assert streamed.seen[0].shape == (8, 1, 8, 8)
    torch.testing.assert_close(streamed.seen[0], stored.seen[0])


def test_large_sets_are_read_from_disk(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []
    for limit in (40 * 16 * 16 * 3, 40 * 16 * 16 * 3 - 1):
        monkeypatch.setattr(imagesource, "IN_MEMORY", limit)
        kinds.append(type(Regression(data=colour, image_size=16)._batches).__name__)
    assert kinds == ["ImageBatches", "StreamBatches"]
    with pytest.raises(InputError, match=r"is read from disk while training; write --image-size, such as 224"):
        Regression(data=colour)


def test_damaged_streamed_images_are_named_or_left_out(colour: str, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"data": colour, "image_size": 16, "workers": 0, "augment": "none", "scale_target": False}
    strict, lenient = (Regression(**options, stream="true", skip_corrupt=skip) for skip in (False, True))
    whole = {image.sum().item(): target for image, target in zip(*batches(lenient, 29)[0], strict=True)}
    for row in range(0, 40, 3):
        (Path(colour) / f"{row}.png").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"/\d+\.png: not a readable image.*--skip-corrupt"):
        batches(strict, 8)
    images, targets = batches(lenient, 29)[0]
    assert len(images) == 29
    for image, target in zip(images, targets, strict=True):  # what stands in for a damaged one brings its own target
        assert whole[image.sum().item()] == target
    everything = Spy()
    stored = Regression(**options, stream="false", skip_corrupt=True).evaluate(Spy(), "test", CPU)
    assert lenient.evaluate(everything, "test", CPU)["mae"] == pytest.approx(stored["mae"])
    assert sum(map(len, everything.seen)) < 8
    assert "cannot be read" in caplog.text
    for file in Path(colour).glob("*.png"):
        file.write_bytes(b"junk")
    with pytest.raises(InputError, match="test: none of its 8 images can be read"):
        lenient.evaluate(Spy(), "test", CPU)
