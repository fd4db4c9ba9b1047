"""Images that cannot be read are refused by name, or left out and counted when that was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from switch_ema.data.catalog import locate
from switch_ema.data.decode import decode
from switch_ema.data.images import ImageSet, load
from switch_ema.errors import InputError
from tests.data import make

SPLITS = ("train", "val", "test")
# rows 1 and 6 of the training images, row 3 of the test images
BAD = {"train": (1, 6), "test": (3,)}


def spoilt_folder(path: Path) -> Path:
    make.image_folder(path)
    for split, rows in BAD.items():
        for row in rows:
            file = path / split / ("cat", "dog")[row % 2] / f"{row:03}.png"
            file.write_bytes(b"junk" if row == 1 else make.png(row, (60, 60))[:70])
    return path


def spoilt_parquet(path: Path) -> Path:
    make.parquet(path)
    for split, rows in BAD.items():
        count = make.SIZES[split]
        images: list[bytes | None] = [make.png(row) for row in range(count)]
        for row in rows:
            images[row] = None if row == 6 else b"junk"
        make.parquet_file(path / f"{split}.parquet", images, [row % 2 for row in range(count)])
    return path


def spoilt_cub(path: Path) -> Path:
    make.cub(path)
    for split, rows in BAD.items():
        for row in rows:
            (path / f"CUB_200_2011/images/{('001.Cat', '002.Dog')[row % 2]}/{split}_{row}.jpg").unlink()
    return path


EVERY = pytest.mark.parametrize("spoil", [spoilt_folder, spoilt_parquet, spoilt_cub])


def values(data: ImageSet, split: str) -> list[int]:
    part = getattr(data, split)
    assert (part.images == part.images[:, :1, :1, :1]).all()
    assert [int(value) % 2 for value in part.images[:, 0, 0, 0]] == part.labels.tolist()
    assert len(part.rows) == len(part.labels)
    return [int(value) for value in part.images[:, 0, 0, 0]]


@EVERY
def test_left_out_and_counted(spoil: Callable[[Path], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = locate(str(spoil(tmp_path / "set")))
    with caplog.at_level(logging.WARNING):
        data = load(source, skip_corrupt=True)
        load(source, skip_corrupt=True)
    assert data.skipped == 3
    assert sorted(values(data, "train") + values(data, "val")) == [row for row in range(20) if row not in BAD["train"]]
    assert sorted(values(data, "test")) == [0, 1, 2, 4, 5]
    assert [record.getMessage() for record in caplog.records] == [
        f"{source.name}: left out 3 images that cannot be read"
    ]


@EVERY
def test_refused_by_default(spoil: Callable[[Path], Path], tmp_path: Path) -> None:
    source = locate(str(spoil(tmp_path / "set")))
    with pytest.raises(InputError) as caught:
        load(source)
    message = str(caught.value)
    assert "2 of 20 images cannot be read; replace or remove them, or write --skip-corrupt" in message
    assert message.startswith(str(tmp_path))
    assert "\n" not in message


def test_the_other_images_keep_their_splits(tmp_path: Path) -> None:
    whole = load(locate(str(make.image_folder(tmp_path / "whole"))))
    data = load(locate(str(spoilt_folder(tmp_path / "spoilt"))), skip_corrupt=True)
    for split in SPLITS:
        bad = BAD["test"] if split == "test" else BAD["train"]
        assert values(data, split) == [row for row in values(whole, split) if row not in bad]
    assert (data.source_labels[data.train.rows] == data.train.labels).all()
    assert (data.source_labels == whole.source_labels).all()


def test_nothing_to_skip_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for write in (make.image_folder, make.idx, make.cifar100_python):
        assert load(locate(str(write(tmp_path / write.__name__))), skip_corrupt=True).skipped == 0
    assert not caplog.records


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_must_not_become_empty(split: str, tmp_path: Path) -> None:
    make.image_folder(tmp_path)
    for file in (tmp_path / split).rglob("*.png"):
        file.write_bytes(b"junk")
    with pytest.raises(InputError, match=r"not a readable image .* so are all \d+ images read with it"):
        load(locate(str(tmp_path)), skip_corrupt=True)


def test_a_class_must_not_lose_all_training_images(tmp_path: Path) -> None:
    make.image_folder(tmp_path)
    for file in (tmp_path / "train" / "dog").iterdir():
        file.write_bytes(b"junk")
    with pytest.raises(InputError, match="no readable training image of class 'dog'"):
        load(locate(str(tmp_path)), skip_corrupt=True)


def test_readable_but_unfit_images_are_refused_all_the_same(tmp_path: Path) -> None:
    make.image_folder(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "test/cat/000.png")
    with pytest.raises(InputError, match="pixels of mode I;16"):
        load(locate(str(tmp_path)), skip_corrupt=True)


def test_decode_counts_from_the_first_file(tmp_path: Path) -> None:
    for row in (0, 2):
        (tmp_path / f"{row}").write_bytes(make.png(row, channels=1 + row))
    files = [(str(tmp_path / str(row)), str(tmp_path / str(row))) for row in (1, 0, 3, 2, 4)]
    skipped: list[int] = []
    images = decode(files, 5, None, skipped)
    assert skipped == [0, 2, 4]
    assert images.shape == (2, 4, 4, 3)
    assert images[:, 0, 0].tolist() == [[0] * 3, [2] * 3]
