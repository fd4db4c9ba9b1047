"""Images that stay on disk: the same rows as in memory, opened one at a time and in other processes."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from switch_ema.data import streams
from switch_ema.data.catalog import locate
from switch_ema.data.decode import UnreadableImageError
from switch_ema.data.images import load
from switch_ema.data.parts import Part
from switch_ema.data.streams import Stream, decoded_bytes, index
from switch_ema.errors import InputError
from tests.data import make

SPLITS = ("train", "val", "test")
ROOT = Path(os.environ.get("SEMA_DATA") or "../shared/data")
WRITERS = {
    "parquet": make.parquet,
    "grey parquet": lambda path: make.parquet(path, channels=1),
    "idx": make.idx,
    "folder": make.image_folder,
    "cifar pickled": make.cifar10_python,
    "cifar binary": make.cifar10_binary,
    "tiny-imagenet": make.tiny_imagenet,
    "cub": make.cub,
    "aircraft": make.aircraft,
    "cars": make.cars,
    "stl10": make.stl10,
}
EVERY = pytest.mark.parametrize("case", WRITERS)


def opened(stream: Stream) -> list[bytes]:
    return [stream.open(position).tobytes() for position in range(len(stream))]


def in_memory(images: np.ndarray[Any, np.dtype[np.uint8]]) -> list[bytes]:
    return [image.tobytes() for image in images]


@EVERY
def test_a_stream_is_what_would_be_loaded(case: str, tmp_path: Path) -> None:
    source = locate(str(WRITERS[case](tmp_path / "set")))
    held_out: dict[str, Any] = {} if case == "aircraft" else {"val_share": 0.3}  # it has a validation split of its own
    for sizes in ({}, {"train_size": 6}, {"train_size": 6, **held_out}):
        stored, data = index(source, **sizes), load(source, **sizes)
        for split in SPLITS:
            stream, images = getattr(stored, split), getattr(data, split)
            assert opened(stream) == in_memory(images.images)
            assert stream.labels.tolist() == images.labels.tolist()
            assert stream.rows.tolist() == images.rows.tolist()
        np.testing.assert_allclose([stored.mean, stored.std], [data.mean, data.std])  # all are in the sample
        assert stored.class_names == data.class_names
        assert (stored.source_labels == data.source_labels).all()
        size = sum(getattr(data, split).images.nbytes for split in SPLITS)
        assert stored.decoded_bytes == decoded_bytes(source, **sizes) == size


def first_pixel(stream: Stream, position: int) -> int:
    return int(np.asarray(stream.open(position)).flat[0])


def test_streams_work_in_new_processes(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for case in ("parquet", "cifar binary", "cub"):
            stream = index(locate(str(WRITERS[case](tmp_path / case)))).train
            got = [pool.apply(first_pixel, (stream, position)) for position in (0, 7)]
            assert got == [first_pixel(stream, position) for position in (0, 7)]


def test_a_pickled_stream_holds_no_image(tmp_path: Path) -> None:
    for case in ("parquet", "cifar binary", "stl10", "folder"):
        stream = index(locate(str(WRITERS[case](tmp_path / case)))).train
        before = len(pickle.dumps(stream))
        first_pixel(stream, 0)
        assert len(pickle.dumps(stream)) == before < 3000
        assert opened(pickle.loads(pickle.dumps(stream))) == opened(stream)


def test_unlabeled_images_stream_as_well(tmp_path: Path) -> None:
    source = locate(str(make.stl10(tmp_path)))
    stored, data = index(source), load(source, unlabeled=True)
    assert stored.unlabeled is not None
    assert data.unlabeled is not None
    assert opened(stored.unlabeled) == in_memory(data.unlabeled.images)
    assert (stored.unlabeled.labels == -1).all()
    assert index(locate(str(make.cub(tmp_path / "cub")))).unlabeled is None


def test_grey_among_colour_opens_as_colour(tmp_path: Path) -> None:
    make.image_folder(tmp_path)
    (tmp_path / "train/cat/000.png").write_bytes(make.png(0, channels=1))
    stored = index(locate(str(tmp_path)))
    assert {stored.train.open(position).mode for position in range(len(stored.train))} == {"RGB"}
    np.testing.assert_allclose(stored.mean, load(locate(str(tmp_path))).mean)


def test_sizes_may_differ(tmp_path: Path) -> None:
    make.image_folder(tmp_path)
    (tmp_path / "train/dog/001.png").write_bytes(make.png(1, (8, 6)))
    source = locate(str(tmp_path))
    stored = index(source)
    sizes = {stored.train.open(position).size for position in range(18)}
    sizes |= {stored.val.open(position).size for position in range(2)}
    assert sizes == {(4, 4), (8, 6)}
    assert stored.decoded_bytes == 3 * (25 * 16 + 48)
    assert decoded_bytes(source, image_size=5) == 26 * 75
    np.testing.assert_allclose(index(source, image_size=5).mean, load(source, image_size=5).mean)


def test_statistics_come_from_a_fixed_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = locate(str(make.image_folder(tmp_path)))
    whole = index(source).mean
    monkeypatch.setattr(streams, "_STATISTICS_SAMPLE", 5)
    index.cache_clear()
    sample = index(source).mean
    index.cache_clear()
    assert sample == index(source).mean != whole
    index.cache_clear()
    part = Part(index(source).train.table, np.arange(9, 20))
    assert set(streams._sample(part, 5).rows) < set(part.rows)


def test_damaged_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make.image_folder(tmp_path)
    whole = locate(str(tmp_path))
    bad = index(whole).train.table.read.entry(int(index(whole).train.rows[3]))[0]  # type: ignore[attr-defined]
    Path(bad).write_bytes(b"junk")
    index.cache_clear()
    with pytest.raises(InputError, match=rf"{bad}: not a readable image .* or write --skip-corrupt"):
        index(whole)
    with caplog.at_level(logging.WARNING):
        stored = index(whole, skip_corrupt=True)
    assert "1 of 18 sampled images cannot be read" in caplog.text
    with pytest.raises(UnreadableImageError, match=bad):
        stored.train.open(3)
    assert len(stored.train) == 18
    assert stored.train.open(4).size == (4, 4)
    for file in (tmp_path / "train").rglob("*.png"):
        file.write_bytes(b"junk")
    with pytest.raises(InputError, match="no readable image among 18"):
        index(locate(f"{tmp_path}/."), skip_corrupt=True)


def test_few_row_groups_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from switch_ema.data import rowgroups

    make.parquet(tmp_path)
    monkeypatch.setattr(rowgroups, "_KEPT_BYTES", 1)
    reader = rowgroups.RowGroups.of([(str(tmp_path / "train.parquet"), "image")])
    names = [reader(row)[0].rpartition(" ")[2] for row in (0, 6, 7, 13, 14, 19, 3)]
    assert names == ["0", "6", "7", "13", "14", "19", "3"]
    assert list(reader._kept) == [0]
    monkeypatch.setattr(rowgroups, "_KEPT_BYTES", 10**6)
    for row in (0, 7, 14, 2):
        reader(row)
    assert list(reader._kept) == [1, 2, 0]
    assert list(pickle.loads(pickle.dumps(reader))._kept) == []


@pytest.mark.skipif(not (ROOT / "cifar10").is_dir(), reason=f"no CIFAR-10 in {ROOT} (set SEMA_DATA)")
def test_cifar10() -> None:
    stored = index(locate("cifar10"), train_size=3000)
    np.testing.assert_allclose(np.array(stored.mean) / 255, [0.491, 0.482, 0.447], atol=0.02)  # the known means
    assert stored.test.open(9_999).size == (32, 32)
    assert stored.decoded_bytes == 18_000 * 32 * 32 * 3
    assert decoded_bytes(locate("cifar10")) == 60_000 * 32 * 32 * 3
