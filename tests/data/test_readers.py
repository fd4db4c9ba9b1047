"""Every reader, on small files whose content is known, and on the real sets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from switch_ema.data.catalog import Source, locate
from switch_ema.data.images import ImageSet, load

from .make import SIZES, classes, idx, image_folder, parquet, parquet_file, png

ROOT = Path(os.environ.get("SEMA_DATA") or "../shared/data")
SPLITS = ("train", "val", "test")


def read(path: Path, **options: Any) -> ImageSet:
    return load(locate(str(path)), **options)


def rows(data: ImageSet, split: str) -> list[int]:
    """Tell by their pixels which rows of the file a split holds."""
    images = getattr(data, split).images
    assert (images == images[:, :1, :1, :1]).all()
    return [int(row) for row in images[:, 0, 0, 0]]


@pytest.mark.parametrize(
    ("write", "format", "channels"),
    [
        pytest.param(parquet, "parquet", 3, id="parquet"),
        pytest.param(lambda path: parquet(path, channels=1), "parquet", 1, id="grey parquet"),
        pytest.param(idx, "idx", 1, id="idx"),
        pytest.param(lambda path: idx(path, ".gz"), "idx", 1, id="idx gz"),
        pytest.param(lambda path: idx(path, ".gz", "."), "idx", 1, id="idx with dots"),
        pytest.param(lambda path: idx(path / "raw", ".gz").parent, "idx", 1, id="idx in raw"),
        pytest.param(lambda path: idx(path / "MNIST" / "raw").parents[1], "idx", 1, id="idx in MNIST/raw"),
        pytest.param(image_folder, "folder", 3, id="folder"),
        pytest.param(lambda path: image_folder(path, ("train", "val")), "folder", 3, id="folder with val"),
        pytest.param(lambda path: image_folder(path, channels=1), "folder", 1, id="grey folder"),
    ],
)
def test_every_format_gives_the_same_images(
    tmp_path: Path, write: Callable[[Path], Path], format: str, channels: int
) -> None:
    path = write(tmp_path / "set")
    assert locate(str(path)) == Source(str(path), format, str(path))
    data = read(path)
    assert sorted(rows(data, "train") + rows(data, "val")) == list(range(SIZES["train"]))
    assert sorted(rows(data, "test")) == list(range(SIZES["test"]))
    for split in SPLITS:
        part = getattr(data, split)
        assert part.images.dtype == np.uint8
        assert part.images.shape == (len(part.labels), 4, 4, channels)
        assert part.labels.dtype == np.int64
        assert part.labels.tolist() == [row % 2 for row in rows(data, split)]
    assert len(data.val.labels) == 2
    train = data.train.images.astype(float)
    np.testing.assert_allclose(data.mean, train.mean((0, 1, 2)))
    np.testing.assert_allclose(data.std, train.std((0, 1, 2)))


def test_class_names(tmp_path: Path) -> None:
    assert read(image_folder(tmp_path / "folder")).class_names == ("cat", "dog")
    assert read(parquet(tmp_path / "named", names=("no", "yes"))).class_names == ("no", "yes")
    assert read(parquet(tmp_path / "unnamed")).class_names == ("0", "1")


def test_a_val_folder_beside_test_is_the_validation_split(tmp_path: Path) -> None:
    data = read(image_folder(tmp_path, ("train", "val", "test")))
    assert [len(getattr(data, split).labels) for split in SPLITS] == [20, 6, 6]


def test_class_folders_alone_are_divided(tmp_path: Path) -> None:
    data = read(classes(tmp_path, 50))
    parts = [rows(data, split) for split in SPLITS]
    assert [len(part) for part in parts] == [36, 4, 10]
    assert sorted(row for part in parts for row in part) == list(range(50))


def test_only_image_files_count(tmp_path: Path) -> None:
    image_folder(tmp_path)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / ".cache").mkdir()
    assert len(read(tmp_path).train.labels) == 18


def test_one_coloured_image_makes_all_rgb(tmp_path: Path) -> None:
    image_folder(tmp_path, channels=1)
    (tmp_path / "test" / "dog" / "003.png").write_bytes(png(3, channels=3))
    data = read(tmp_path)
    assert data.train.images.shape[3] == data.test.images.shape[3] == 3
    assert sorted(rows(data, "train") + rows(data, "val")) == list(range(20))


def test_image_size_scales_the_shorter_side_and_crops_the_centre(tmp_path: Path) -> None:
    classes(tmp_path, 20, size=(4, 4))
    wide = np.zeros((6, 12, 3), np.uint8)
    wide[:, 2:10] = 200  # the central square, columns 3 to 8, and what smoothing sees
    Image.fromarray(wide).save(tmp_path / "cat" / "000.png")
    data = read(tmp_path, image_size=3)
    everything = np.concatenate([getattr(data, split).images for split in SPLITS])
    assert everything.shape == (20, 3, 3, 3)
    assert (everything == 200).all((1, 2, 3)).sum() == 1


@pytest.mark.parametrize("write", [parquet, idx, image_folder])
def test_every_format_can_be_scaled(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    data = read(write(tmp_path / "set"), image_size=8)
    assert data.train.images.shape[:3] == (18, 8, 8)
    assert sorted(rows(data, "test")) == list(range(6))


def test_only_the_chosen_images_are_decoded(tmp_path: Path) -> None:
    parquet(tmp_path)
    chosen = set(rows(read(tmp_path, train_size=4), "train") + rows(read(tmp_path, train_size=4), "val"))
    images = [png(row) if row in chosen else b"not an image" for row in range(20)]
    spoilt = parquet(tmp_path / "spoilt")
    parquet_file(spoilt / "train.parquet", images, [row % 2 for row in range(20)])
    assert len(read(spoilt, train_size=4).train.labels) == 4


def test_data_are_read_once_per_process(tmp_path: Path) -> None:
    path = parquet(tmp_path / "set")
    assert read(path, train_size=4) is read(path, train_size=4)
    assert read(path, train_size=4) is not read(path, train_size=6)


def test_digits_are_scikit_learns() -> None:
    data = load(locate("digits"))
    assert [len(getattr(data, split).labels) for split in SPLITS] == [1294, 144, 359]
    found = sorted(image.tobytes() for split in SPLITS for image in getattr(data, split).images)
    assert found == sorted(image.astype(np.uint8).tobytes() for image in load_digits().images)
    assert data.class_names == tuple("0123456789")
    assert load(locate("digits"), image_size=16).train.images.shape == (1294, 16, 16, 1)


@pytest.mark.skipif(not (ROOT / "cifar10").is_dir(), reason=f"no CIFAR-10 in {ROOT} (set SEMA_DATA)")
def test_cifar10() -> None:
    data = load(locate("cifar10"), train_size=100)
    assert data.train.images.shape == (100, 32, 32, 3)
    assert np.bincount(data.train.labels).tolist() == [10] * 10
    assert np.bincount(data.val.labels).tolist() == [500] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    np.testing.assert_allclose(np.array(data.mean) / 255, [0.491, 0.482, 0.447], atol=0.05)  # the known means


@pytest.mark.skipif(not (ROOT / "mnist").is_dir(), reason=f"no MNIST in {ROOT} (set SEMA_DATA)")
def test_mnist() -> None:
    data = load(locate("mnist"), train_size=1000)
    assert [getattr(data, split).images.shape for split in SPLITS] == [
        (1000, 28, 28, 1),
        (5000, 28, 28, 1),
        (10000, 28, 28, 1),
    ]
    assert np.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_allclose(data.mean[0] / 255, 0.1307, atol=0.01)  # the known mean


def test_sema_data_says_where_the_named_sets_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    path = idx(tmp_path / "mnist")
    assert locate("mnist") == Source("mnist", "idx", str(path))
    monkeypatch.delenv("SEMA_DATA")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    parquet(tmp_path / "shared" / "data" / "cifar10")
    assert locate("cifar10").path == "../shared/data/cifar10"
