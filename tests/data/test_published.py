"""Public data sets as they are published: each layout is read back exactly, found by name and by path."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from switch_ema.data.catalog import DATASETS, Source, locate
from switch_ema.data.images import ImageSet, load
from switch_ema.data.named import NAMED
from switch_ema.data.pickles import loads
from switch_ema.errors import InputError
from tests.conftest import loaded_after
from tests.data import make
from tests.data.published import pattern

Write = Callable[[Path], Path]
# name: what writes it, its format, side and class names
SETS: dict[str, tuple[str, Write, str, int, tuple[str, ...]]] = {
    "cifar10 pickled": ("cifar10", make.cifar10_python, "cifar", 32, ("cat", "dog")),
    "cifar10 binary": ("cifar10", make.cifar10_binary, "cifar", 32, ("cat", "dog")),
    "cifar100 pickled": ("cifar100", make.cifar100_python, "cifar", 32, ("cat", "dog")),
    "cifar100 binary": ("cifar100", make.cifar100_binary, "cifar", 32, ("cat", "dog")),
    "tiny-imagenet": ("tiny-imagenet", make.tiny_imagenet, "tiny-imagenet", 4, ("cat", "dog")),
    "imagenet": ("imagenet", make.imagenet, "folder", 4, ("n01", "n02")),
    "mnist": ("mnist", lambda path: make.idx(path / "MNIST" / "raw").parents[1], "idx", 4, ("0", "1")),
    "fashion-mnist": ("fashion-mnist", make.fashion_mnist, "idx", 4, ("0", "1")),
    "cub": ("cub", make.cub, "cub", 4, ("Cat", "Dog")),
    "aircraft": ("aircraft", make.aircraft, "aircraft", 4, ("A340-300", "Boeing 707 320")),
    "cars": ("cars", make.cars, "cars", 4, ("Audi TT", "BMW M3")),
    "stl10": ("stl10", make.stl10, "stl10", 96, ("cat", "dog")),
}
EVERY = pytest.mark.parametrize("case", SETS)


def seen(data: ImageSet, split: str, side: int) -> list[int]:
    """Tell by their pixels which rows a split holds, after checking every pixel and label."""
    part = getattr(data, split)
    patterned = side in (32, 96)
    rows = [int(value) // (7 if patterned else 1) for value in part.images[:, 0, 0, 0]]
    for row, image, label in zip(rows, part.images, part.labels, strict=True):
        assert (image == (pattern(row, side) if patterned else row)).all()
        assert label == row % 2
    return rows


def test_every_named_set_is_tested() -> None:
    assert {name for name, *_ in SETS.values()} == set(NAMED) == set(DATASETS) - {"digits"}


@EVERY
def test_a_named_set_is_read_back_exactly(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, write, format_, side, class_names = SETS[case]
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    write(tmp_path / name)
    source = locate(name)
    assert source == Source(name, format_, str(tmp_path / name))
    data = load(source)
    own_val = name == "aircraft"
    held_out = [] if own_val else seen(data, "val", side)
    assert sorted(seen(data, "train", side) + held_out) == list(range(20))
    assert sorted(seen(data, "test", side)) == list(range(6))
    assert len(data.val.labels) == (4 if own_val else 2)
    assert data.class_names == class_names
    assert data.train.images.shape[1:3] == (side, side)
    assert data.train.images.dtype == np.uint8
    assert data.train.labels.dtype == np.int64
    assert (data.source_labels[data.train.rows] == data.train.labels).all()
    assert len(data.source_labels) == 20
    assert (data.unlabeled, data.skipped) == (None, 0)


@EVERY
def test_a_path_does_as_well_as_a_name(case: str, tmp_path: Path) -> None:
    _, write, format_, side, _ = SETS[case]
    outer = write(tmp_path / "set")
    assert locate(str(outer)).format == format_
    inner = [path for path in outer.iterdir() if path.name not in ("train", "val", "MNIST", "FashionMNIST")]
    if len(inner) == 1:  # the published folder itself
        assert locate(str(inner[0])).format == format_
        assert len(load(locate(str(inner[0])), image_size=3).test.labels) == 6
    assert load(locate(str(outer)), image_size=8).train.images.shape[1:3] == (8, 8)
    assert load(locate(str(outer)), train_size=4).train.images.shape[:2] == (4, side)


@EVERY
def test_a_missing_set_says_what_it_wants(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = SETS[case][0]
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    with pytest.raises(InputError) as caught:
        locate(name)
    for word in (name, str(tmp_path / name), "SEMA_DATA", NAMED[name].wants):
        assert word in str(caught.value)
    (tmp_path / name / "something").mkdir(parents=True)
    with pytest.raises(InputError, match="no data in a known format") as caught:
        locate(name)
    assert NAMED[name].wants in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_published_sets_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    for write in (make.cifar10_python, make.cifar100_python, make.cub, make.aircraft, make.cars, make.stl10):
        write(tmp_path)
    formats = {name: locate(name).format for name in ("cifar10", "cifar100", "cub", "aircraft", "cars", "stl10")}
    assert formats == {**{name: name for name in formats}, "cifar10": "cifar", "cifar100": "cifar"}
    with pytest.raises(InputError, match=r"two data sets in it; give .*cifar-10-batches-py or .*cifar-100-python"):
        locate(str(tmp_path))


def test_mnist_and_fashion_mnist_side_by_side(tmp_path: Path) -> None:
    make.idx(tmp_path / "MNIST" / "raw")
    make.fashion_mnist(tmp_path)
    with pytest.raises(InputError, match=r"two data sets in it; give .*/MNIST/raw or .*/FashionMNIST/raw"):
        locate(str(tmp_path))


def test_pickled_batches_are_what_an_ordinary_unpickler_reads(tmp_path: Path) -> None:
    for write in (make.cifar10_python, make.cifar100_python):
        write(tmp_path)
    for file in (tmp_path / "cifar-10-batches-py").glob("*batch*"), (tmp_path / "cifar-100-python").iterdir():
        for batch in file:
            content = batch.read_bytes()
            theirs, ours = pickle.loads(content, encoding="latin1"), loads(content, "here")
            assert theirs.keys() == ours.keys()
            assert all(np.array_equal(theirs[key], ours[key]) for key in theirs)


def test_unlabeled_images_come_when_asked_for(tmp_path: Path) -> None:
    data = load(locate(str(make.stl10(tmp_path))), unlabeled=True)
    assert data.unlabeled is not None
    assert data.unlabeled.images.shape == (9, 96, 96, 3)
    assert (data.unlabeled.images[8] == pattern(8, 96)).all()
    assert (data.unlabeled.labels == -1).all()
    assert load(locate(str(make.cifar10_python(tmp_path / "c"))), unlabeled=True).unlabeled is None
    (tmp_path / "stl10_binary" / "unlabeled_X.bin").unlink()
    load.cache_clear()
    assert load(locate(str(tmp_path)), unlabeled=True).unlabeled is None


@pytest.mark.parametrize("layout", ["whole", "parts in data/", "validation only"])
def test_hugging_face_names_and_columns(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "data" if layout == "parts in data/" else tmp_path
    folder.mkdir(exist_ok=True)
    split_files = {
        "whole": {"train.parquet": (0, 20), "test.parquet": (0, 6)},
        "parts in data/": {
            "train-00000-of-00002.parquet": (0, 9),
            "train-00001-of-00002.parquet": (9, 20),
            "validation-00000-of-00001.parquet": (0, 4),
            "test-00000-of-00001.parquet": (0, 6),
        },
        "validation only": {"train-0.parquet": (0, 20), "valid-0.parquet": (0, 6)},
    }[layout]
    for name, (start, stop) in split_files.items():
        rows = range(start, stop)
        make.parquet_file(
            folder / name,
            [make.png(row) for row in rows],
            [row % 2 for row in rows],
            ("cat", "dog"),
            "img",
            "fine_label",
        )
    data = load(locate(str(tmp_path)))
    own_val = layout == "parts in data/"
    assert sorted(seen(data, "train", 4) + ([] if own_val else seen(data, "val", 4))) == list(range(20))
    assert (len(data.val.labels), len(data.test.labels)) == (4 if own_val else 2, 6)
    assert data.class_names == ("cat", "dog")


def test_locating_every_set_needs_the_standard_library_only(tmp_path: Path) -> None:
    for name, write, *_ in SETS.values():
        write(tmp_path / name)
    loaded = loaded_after(
        f"import os; os.environ['SEMA_DATA'] = {str(tmp_path)!r}\n"
        "from switch_ema.data.catalog import locate\n"
        f"[locate(name) for name in {sorted(set(NAMED) - {'cifar10', 'cifar100'})!r}]"
    )
    assert not loaded & {"numpy", "torch", "PIL", "pyarrow", "scipy"}
