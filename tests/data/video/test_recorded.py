"""Stored videos become sequences in the right order, and splits that do not overlap."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from switch_ema.data.video.catalog import Source, locate
from switch_ema.data.video.recorded import Recorded
from switch_ema.data.video.videos import Videos, load
from tests.data import make as images

from .make import array, clip_folder, clip_folders, frame, npy_folder, published


def read(path: Path, length: int = 4, **options: Any) -> Videos:
    return load(locate(str(path)), length, **options)


def pixels(sequences: object) -> list[list[int]]:
    """Return for each sequence the value of each frame, and check that all pixels of a frame have it."""
    assert isinstance(sequences, Recorded)
    found = sequences.read(np.arange(len(sequences)))
    assert (found == found[..., :1, :1, :1]).all()
    values: list[list[int]] = found[..., 0, 0, 0].tolist()
    return values


def clips_of(sequences: object) -> set[int]:
    return {values[0] // 10 for values in pixels(sequences)}


def test_frames_are_sorted_by_their_number(tmp_path: Path) -> None:
    clip_folders(tmp_path, {"train": [12, 12], "test": [12]})
    found = read(tmp_path, 12)
    assert sorted(pixels(found.train) + pixels(found.val)) == [list(range(12)), list(range(10, 22))]
    assert pixels(found.test) == [list(range(20, 32))]
    assert found.test.shape == (1, 8, 8)


def test_clips_are_cut_into_windows_that_do_not_overlap(tmp_path: Path) -> None:
    clip_folders(tmp_path, {"train": [9] * 2, "test": [9]})
    assert pixels(read(tmp_path).test) == [[20, 21, 22, 23], [24, 25, 26, 27]]
    assert pixels(read(tmp_path, frames=7).test) == [[20, 21, 22, 23]]


def test_clips_of_any_length_may_be_cut(tmp_path: Path) -> None:
    clip_folders(tmp_path, {"train": [4, 9], "val": [5], "test": [8, 4]})
    found = read(tmp_path, frames="any")
    assert pixels(found.train) == [[0, 1, 2, 3], [10, 11, 12, 13], [14, 15, 16, 17]]
    assert pixels(found.val) == [[20, 21, 22, 23]]
    assert pixels(found.test) == [[30, 31, 32, 33], [34, 35, 36, 37], [40, 41, 42, 43]]


@pytest.mark.parametrize("kind", ["clips", "npy"])
def test_missing_splits_are_held_out_by_clips(kind: str, tmp_path: Path) -> None:
    if kind == "clips":
        clip_folders(tmp_path, {"": [8] * 20})
    else:
        npy_folder(tmp_path, {"train": (20, 8)})
    found = read(tmp_path)
    parts = [clips_of(part) for part in (found.train, found.val, found.test)]
    assert [len(part) for part in parts] == [14, 2, 4]
    assert set.union(*parts) == set(range(20))
    assert parts[2] not in ({0, 1, 2, 3}, {16, 17, 18, 19})  # drawn, not a corner of the data
    assert len(found.train) == 2 * 14
    some = read(tmp_path, train_size=5, test_size=3)
    assert len(some.train) == 5
    assert len(some.test) == 3
    assert clips_of(some.train) <= parts[0]
    assert clips_of(some.test) <= parts[2]
    assert pixels(some.val) == pixels(found.val)


@pytest.mark.parametrize("kind", ["clips", "npy"])
def test_with_train_and_val_alone_the_latter_is_the_test_split(kind: str, tmp_path: Path) -> None:
    if kind == "clips":
        clip_folders(tmp_path, {"train": [4] * 4, "val": [4] * 2})
    else:
        npy_folder(tmp_path, {"train": (4, 4), "val": (2, 4)})
    found = read(tmp_path)
    assert clips_of(found.test) == {4, 5}
    assert clips_of(found.train) | clips_of(found.val) == {0, 1, 2, 3}


@pytest.mark.parametrize("colour", [False, True])
def test_arrays_are_clips_too(colour: bool, tmp_path: Path) -> None:
    npy_folder(tmp_path, {"train": (3, 9), "val": (1, 9), "test": (2, 9)})
    if colour:
        for file in tmp_path.iterdir():
            np.save(file, np.repeat(np.load(file)[..., None], 3, axis=-1))
    found = read(tmp_path)
    assert found.train.shape == (3 if colour else 1, 8, 8)
    assert pixels(found.train)[:3] == [[0, 1, 2, 3], [4, 5, 6, 7], [10, 11, 12, 13]]
    assert pixels(found.val) == [[30, 31, 32, 33], [34, 35, 36, 37]]
    assert clips_of(found.test) == {4, 5}


def test_height_and_width_are_not_mixed_up(tmp_path: Path) -> None:
    for path in (tmp_path / "clips", tmp_path / "npy"):
        if path.name == "clips":
            clip_folders(path, {"train": [4] * 2, "test": [4]}, size=(12, 8))
        else:
            path.mkdir()
            for split, count in (("train", 2), ("test", 1)):
                np.save(path / f"{split}.npy", array(0, count, 4, size=(12, 8)))
        assert read(path).test.shape == (1, 8, 12)
        small = read(path, image_size=4)
        assert small.test.shape == (1, 4, 4)
        assert pixels(small.train) == pixels(read(path).train)


def test_a_coloured_clip_makes_all_coloured(tmp_path: Path) -> None:
    clip_folders(tmp_path, {"train": [4] * 2, "test": [4]})
    clip_folder(tmp_path / "test" / "colour", 9, 4, channels=3)
    found = read(tmp_path)
    assert found.train.shape == found.test.shape == (3, 8, 8)
    assert pixels(found.test) == [[20, 21, 22, 23], [90, 91, 92, 93]]
    assert isinstance(found.train, Recorded)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    images.idx(tmp_path / "root" / "mnist")
    monkeypatch.setenv("SEMA_DATA", str(tmp_path / "root"))
    return tmp_path / "root"


def test_the_published_file_is_time_first(root: Path, tmp_path: Path) -> None:
    file = published(tmp_path / "mnist_test_seq.npy")
    for spec in (file, file.parent):
        found = read(spec, 20)
        assert pixels(found.test) == [list(range(start, start + 20)) for start in (0, 20, 40)]
        assert found.test.shape == found.train.shape == (1, 64, 64)
        assert len(found.train) == 10_000
    assert pixels(read(file, 10).test)[:3] == [list(range(10)), list(range(10, 20)), list(range(20, 30))]
    small = read(file, 20, image_size=32, test_size=2)
    assert small.test.shape == small.train.shape == (1, 32, 32)
    assert len(small.test) == 2


def test_the_published_file_is_taken_where_it_is_there(root: Path) -> None:
    assert locate("moving-mnist") == Source("moving-mnist", "moving-mnist", str(root / "mnist"))
    file = published(root / "moving-mnist" / "mnist_test_seq.npy")
    assert locate("moving-mnist").test_file == str(file)
    assert len(load(locate("moving-mnist"), 20).test) == 3


def test_hidden_files_and_other_files_are_no_frames(tmp_path: Path) -> None:
    clip_folders(tmp_path, {"train": [4] * 2, "test": [4]})
    clip = tmp_path / "test" / "clip02"
    (clip / ".hidden").mkdir()
    (clip / "notes7.txt").write_text("no frame")
    Image.fromarray(frame(9, 9)).save(clip / ".9.png")
    os.rename(clip / "4.png", clip / "frame_3_0004.PNG")
    assert pixels(read(tmp_path).test) == [[20, 21, 22, 23]]
