"""Wrong data: each case is refused with one line that says where, what, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from switch_ema.data.catalog import DATASETS, locate
from switch_ema.data.images import load
from switch_ema.errors import InputError

from .make import classes, idx, idx_bytes, image_folder, parquet, parquet_file, png

Spoil = Callable[[Path], object]
ALTERNATE = [0, 1] * 10


def cut(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])


def with_parquet(spoil: Spoil) -> Spoil:
    return lambda path: spoil(parquet(path))


def with_idx(spoil: Spoil, end: str = "") -> Spoil:
    return lambda path: spoil(idx(path, end))


def with_folder(spoil: Spoil) -> Spoil:
    return lambda path: spoil(image_folder(path))


def train_parquet(images: Sequence[bytes | None] = (), labels: object = None, column: str = "image") -> Spoil:
    """Write a train.parquet that is whole but wrong in one of these."""
    images = images or [png(row) for row in range(20)]
    return with_parquet(
        lambda path: parquet_file(
            path / "train.parquet", images, ALTERNATE if labels is None else labels, column=column
        )
    )


def write(name: str, content: bytes) -> Spoil:
    def spoil(path: Path) -> None:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)

    return spoil


def folders(*names: str) -> Spoil:
    def spoil(path: Path) -> None:
        for name in names:
            (path / name).mkdir(parents=True)

    return spoil


def remove_images(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()


def spoil_checksum(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-8] ^= 1  # a gzip file ends in the checksum and the length
    file.write_bytes(content)


def save(image: Image.Image, name: str) -> Spoil:
    return with_folder(lambda path: image.save(path / name))


TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

LOCATE_REFUSES: dict[str, tuple[Spoil, list[str]]] = {
    "no folder": (lambda path: None, ["unknown data set or folder", *DATASETS, "train.parquet", "IDX", "per class"]),
    "a file": (lambda path: path.write_text("x"), ["this is a file", "give the folder"]),
    "empty folder": (lambda path: path.mkdir(), ["the folder is empty", "train.parquet"]),
    "hidden files only": (write(".x", b""), ["the folder is empty"]),
    "unknown format": (write("a.csv", b"1"), ["no data in a known format", "IDX"]),
    "folders without images": (folders("a/b"), ["no data in a known format"]),
    "no train.parquet": (with_parquet(lambda p: (p / "train.parquet").unlink()), ["/train.parquet: no such file"]),
    "no test.parquet": (with_parquet(lambda p: (p / "test.parquet").unlink()), ["/test.parquet: no such file"]),
    "empty parquet": (with_parquet(write("test.parquet", b"")), ["/test.parquet: the file is empty", "again"]),
    "truncated parquet": (with_parquet(lambda p: cut(p / "train.parquet", 300)), ["truncated", "PAR1", "again"]),
    "tiny parquet": (with_parquet(lambda p: cut(p / "train.parquet", 6)), ["/train.parquet: truncated"]),
    "no parquet inside": (with_parquet(write("train.parquet", b"x" * 99)), ["not a parquet file", "PAR1"]),
    "an IDX file missing": (with_idx(lambda p: (p / TEST_LABELS).unlink()), [f"/{TEST_LABELS}: no such file"]),
    "empty IDX": (with_idx(write(TRAIN_IMAGES, b"")), [f"/{TRAIN_IMAGES}: the file is empty"]),
    "empty IDX gz": (with_idx(write(TRAIN_IMAGES + ".gz", b""), ".gz"), [f"/{TRAIN_IMAGES}.gz: the file is empty"]),
    "truncated IDX": (with_idx(lambda p: cut(p / TEST_IMAGES, 60)), [f"/{TEST_IMAGES}: 60 bytes", "6x4x4", "112"]),
    "truncated IDX header": (with_idx(lambda p: cut(p / TRAIN_LABELS, 6)), [f"/{TRAIN_LABELS}: 6 bytes", "promises"]),
    "truncated IDX gz": (with_idx(lambda p: cut(p / f"{TRAIN_IMAGES}.gz", 50), ".gz"), ["promises 336", "again"]),
    "IDX gz cut in its header": (with_idx(lambda p: cut(p / f"{TRAIN_IMAGES}.gz", 12), ".gz"), ["not a whole gzip"]),
    "no gzip inside": (with_idx(write(f"{TRAIN_LABELS}.gz", b"x" * 99), ".gz"), ["not a whole gzip file"]),
    "IDX magic": (with_idx(write(TRAIN_IMAGES, b"x" * 336)), ["not an IDX file of bytes with 3 dimension"]),
    "IDX labels as images": (
        with_idx(lambda p: (p / TRAIN_IMAGES).write_bytes((p / TRAIN_LABELS).read_bytes())),
        [f"/{TRAIN_IMAGES}: not an IDX file of bytes with 3"],
    ),
    "IDX of floats": (with_idx(write(TRAIN_LABELS, b"\0\0\x0d\1\0\0\0\0")), ["not an IDX file of bytes"]),
    "IDX of no images": (with_idx(write(TEST_IMAGES, idx_bytes(np.zeros((0, 4, 4), np.uint8)))), ["no images in it"]),
    "more labels than images": (
        with_idx(write(TEST_LABELS, idx_bytes(np.zeros(7, np.uint8)))),
        [f"/{TEST_LABELS}: 7 labels for the 6 images"],
    ),
    "train without test": (lambda p: image_folder(p, ("train",)), ["neither test/ nor val/", "/train"]),
    "test without train": (lambda p: image_folder(p, ("test",)), ["no folder train/ beside test/"]),
    "no class folders": (folders("train", "test"), ["0 class folder(s)"]),
    "one class folder": (lambda p: classes(p, 1), ["1 class folder(s)", "at least two"]),
    "class without images": (with_folder(lambda p: remove_images(p / "train/dog")), ["/train/dog: no images", ".png"]),
    "class missing in test": (
        with_folder(write("train/cow/1.png", png(1))),
        ["/test: class folders differ", "/train in cow"],
    ),
    "class missing in train": (
        with_folder(write("test/cow/1.png", png(1))),
        ["/test: class folders differ", "in cow"],
    ),
}

LOAD_REFUSES: dict[str, tuple[Spoil, list[str]]] = {
    "damaged parquet": (with_parquet(write("train.parquet", b"PAR1" + b"x" * 99 + b"PAR1")), ["damaged"]),
    "no image column": (
        train_parquet(column="picture"),
        ["no column 'image' or 'img'", "columns: picture, label", "rename"],
    ),
    "no label column": (
        with_parquet(
            lambda p: pq.write_table(pq.read_table(p / "train.parquet", columns=["image"]), p / "train.parquet")
        ),
        ["no column 'label'"],
    ),
    "image column of text": (
        with_parquet(lambda p: pq.write_table(pa.table({"image": ["a"], "label": [0]}), p / "test.parquet")),
        ["/test.parquet: column 'image' is string", "struct"],
    ),
    "image bytes of text": (
        with_parquet(lambda p: pq.write_table(pa.table({"image": [{"bytes": "a"}], "label": [0]}), p / "test.parquet")),
        ["column 'image' is struct<bytes: string>"],
    ),
    "labels of text": (train_parquet(labels=["a", "b"] * 10), ["column 'label' is string", "integer"]),
    "labels of floats": (train_parquet(labels=[0.0, 1.0] * 10), ["column 'label' is double"]),
    "missing label": (train_parquet(labels=[*ALTERNATE[:-1], None]), ["1 labels are missing"]),
    "negative label": (train_parquet(labels=[-1, *ALTERNATE[1:]]), ["label -1 out of range", "0 to 2"]),
    "label gap": (train_parquet(labels=[0, 5] * 10), ["label 5 out of range", "0 to 1 without gaps"]),
    "huge label": (train_parquet(labels=[0, 2**60] * 10), ["out of range"]),
    "test label unknown": (
        with_parquet(lambda p: parquet_file(p / "test.parquet", [png(0)], [2])),
        ["/test.parquet: label 2 out of range", "/train.parquet has 2 classes"],
    ),
    "named class without images": (
        with_parquet(lambda p: parquet_file(p / "train.parquet", [png(0)] * 20, ALTERNATE, ["no", "yes", "maybe"])),
        ["no image of class 'maybe' (label 2)"],
    ),
    "one class only": (train_parquet(labels=[0] * 20), ["one class"]),
    "no rows": (with_parquet(lambda p: parquet_file(p / "test.parquet", [], pa.array([], pa.int64()))), ["no images"]),
    "image without bytes": (train_parquet(images=[png(0)] * 19 + [None]), ["/train.parquet row 19", "no bytes"]),
    "image not decodable": (train_parquet(images=[b"x"] + [png(0)] * 19), ["/train.parquet row 0: not a readable"]),
    "too few images": (train_parquet(images=[png(0)] * 2, labels=[0, 1]), ["2 training images", "too few"]),
    "IDX label gap": (
        with_idx(write(TRAIN_LABELS, idx_bytes(np.array(ALTERNATE, np.uint8) * 3))),
        ["label 3 out of range"],
    ),
    "damaged IDX gz": (with_idx(lambda p: spoil_checksum(p / f"{TRAIN_IMAGES}.gz"), ".gz"), ["damaged", "again"]),
    "corrupt image": (with_folder(write("train/cat/000.png", b"junk")), ["/train/cat/000.png: not a readable image"]),
    "empty image": (with_folder(write("train/dog/001.png", b"")), ["/train/dog/001.png: not a readable image"]),
    "truncated image": (with_folder(write("test/cat/002.png", png(2, (99, 99))[:60])), ["/test/cat/002.png: not a"]),
    "16-bit image": (
        save(Image.fromarray(np.zeros((4, 4), np.uint16)), "test/cat/000.png"),
        ["/test/cat/000.png: pixels of mode I;16", "8 bits"],
    ),
    "images of unequal size": (
        with_folder(write("train/cat/000.png", png(0, (5, 4)))),
        ["/train/", "5x4", "4x4", "--image-size"],
    ),
    "images not square": (lambda p: classes(p, 20, size=(6, 4)), ["6x4 pixels", "--image-size"]),
    "splits of unequal size": (
        lambda p: classes(p / "train", 20) and classes(p / "test", 4, size=(5, 5)),
        ["4x4 and 5x5 pixels", "--image-size"],
    ),
}


def refusal(path: str, *, read: bool) -> str:
    with pytest.raises(InputError) as caught:
        load(locate(path)) if read else locate(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path in message
    return message


@pytest.mark.parametrize("case", LOCATE_REFUSES)
def test_locate_refuses(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, words = LOCATE_REFUSES[case]
    monkeypatch.chdir(tmp_path)
    spoil(tmp_path / "set")
    message = refusal("./set", read=False)  # shown as given
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("case", LOAD_REFUSES)
def test_load_refuses(case: str, tmp_path: Path) -> None:
    spoil, words = LOAD_REFUSES[case]
    spoil(tmp_path / "set")
    locate(str(tmp_path / "set"))
    message = refusal(str(tmp_path / "set"), read=True)
    assert [word for word in words if word not in message] == [], message


def test_a_misspelt_name_is_corrected() -> None:
    with pytest.raises(InputError, match="did you mean 'cifar10'"):
        locate("cifar-10")


def test_a_named_set_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    with pytest.raises(InputError, match=f"'cifar10' not found: no folder {tmp_path}/cifar10; set SEMA_DATA"):
        locate("cifar10")


@pytest.mark.parametrize("train_size", [1, 19, 1000])
def test_train_size_out_of_range(train_size: int, tmp_path: Path) -> None:
    source = locate(str(parquet(tmp_path)))
    with pytest.raises(InputError, match=f"train size {train_size}: write 2 .* to 18"):
        load(source, train_size=train_size)
