"""Small copies of public data sets, laid out as they are published; labels are 0, 1, 0, 1, ... in every split."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES = {"train": 20, "test": 6}
CLASSES = ("cat", "dog")

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def pattern(row: int, side: int) -> Pixels:
    """Make an image of which every pixel and channel tells its row and place: swapped axes show."""
    y, x, channel = np.indices((side, side, 3))
    return np.asarray(7 * row + 3 * y + 5 * x + 11 * channel, np.uint8)


def patterns(count: int, side: int) -> Pixels:
    return np.stack([pattern(row, side) for row in range(count)])


def planes(count: int, side: int) -> Pixels:
    """Return the same images as CIFAR stores them: plane after plane, row after row, of shape (count, 3 * side^2)."""
    return patterns(count, side).transpose(0, 3, 1, 2).reshape(count, -1)


def labels(count: int) -> list[int]:
    return [row % 2 for row in range(count)]


def jpeg(row: int, size: tuple[int, int] = (4, 4)) -> bytes:
    """Encode an image of one grey, which JPEG keeps exactly."""
    stream = io.BytesIO()
    Image.new("RGB", size, (row, row, row)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def python2_batch(data: Pixels, key: str, values: list[int]) -> bytes:
    """Pickle a batch as Python 2 did for the published files: texts and pixels are strings of bytes."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"".join(b"J" + struct.pack("<i", size) for size in data.shape)
        + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T"
        + struct.pack("<i", data.size)
        + data.tobytes()
        + b"tb"
    )
    name = b"U" + bytes([len(key)]) + key.encode()
    return b"\x80\x02}(U\x04data" + array + name + b"](" + b"".join(b"K" + bytes([v]) for v in values) + b"eu."


def cifar10_python(folder: Path, counts: Mapping[str, int] = SIZES) -> Path:
    """Write cifar-10-batches-py/ into a folder: five training batches, a test batch and the names."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True, exist_ok=True)
    for file, start, stop, data in _batches(counts):
        (batches / file).write_bytes(python2_batch(data, "labels", [row % 2 for row in range(start, stop)]))
    (batches / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"cat", b"dog"]}, 2))
    return folder


def cifar100_python(folder: Path, counts: Mapping[str, int] = SIZES) -> Path:
    """Write cifar-100-python/ into a folder; the coarse labels are all 7."""
    batches = folder / "cifar-100-python"
    batches.mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        batch = {"data": planes(count, 32), "fine_labels": labels(count), "coarse_labels": [7] * count}
        (batches / split).write_bytes(pickle.dumps(batch, 2))
    meta = {"fine_label_names": list(CLASSES), "coarse_label_names": ["animal"]}
    (batches / "meta").write_bytes(pickle.dumps(meta))
    return folder


def cifar10_binary(folder: Path, counts: Mapping[str, int] = SIZES) -> Path:
    batches = folder / "cifar-10-batches-bin"
    batches.mkdir(parents=True, exist_ok=True)
    for file, start, stop, data in _batches(counts):
        header = np.arange(start, stop, dtype=np.uint8)[:, None] % 2
        (batches / f"{file}.bin").write_bytes(np.hstack([header, data]).tobytes())
    (batches / "batches.meta.txt").write_text("cat\ndog\n\n")
    return folder


def cifar100_binary(folder: Path, counts: Mapping[str, int] = SIZES) -> Path:
    batches = folder / "cifar-100-binary"
    batches.mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        header = np.array([[7, label] for label in labels(count)], np.uint8)
        (batches / f"{split}.bin").write_bytes(np.hstack([header, planes(count, 32)]).tobytes())
    (batches / "fine_label_names.txt").write_text("cat\ndog\n")
    return folder


def stl10(folder: Path, counts: Mapping[str, int] = SIZES, unlabeled: int = 9) -> Path:
    """Write stl10_binary/ into a folder: planes column after column, labels from 1."""
    files = folder / "stl10_binary"
    files.mkdir(parents=True, exist_ok=True)
    for split, count in {**counts, "unlabeled": unlabeled}.items():
        (files / f"{split}_X.bin").write_bytes(patterns(count, 96).transpose(0, 3, 2, 1).tobytes())
        if split != "unlabeled":
            (files / f"{split}_y.bin").write_bytes(bytes(label + 1 for label in labels(count)))
    (files / "class_names.txt").write_text("cat\ndog\n")
    return folder


def tiny_imagenet(folder: Path, counts: Mapping[str, int] = SIZES) -> Path:
    """Write tiny-imagenet-200/ into a folder, of two classes whose wnids are listed in the other order."""
    root, wnids = folder / "tiny-imagenet-200", ("n01", "n02")
    for row in range(counts["train"]):
        images = root / "train" / wnids[row % 2] / "images"
        images.mkdir(parents=True, exist_ok=True)
        (images / f"{wnids[row % 2]}_{row:03}.JPEG").write_bytes(jpeg(row))
    (root / "val" / "images").mkdir(parents=True, exist_ok=True)
    for row in range(counts["test"]):
        (root / "val" / "images" / f"val_{row}.JPEG").write_bytes(jpeg(row))
    lines = [f"val_{row}.JPEG\t{wnids[row % 2]}\t0\t0\t3\t3\n" for row in range(counts["test"])]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text("n01\tcat, true cat\nn02\tdog\nn03\tcow\n")
    (root / "test" / "images").mkdir(parents=True, exist_ok=True)
    return folder


def imagenet(folder: Path, counts: Mapping[str, int] = SIZES) -> Path:
    """Write train/WNID and val/WNID with JPEG files."""
    for split, count in {"train": counts["train"], "val": counts["test"]}.items():
        for row in range(count):
            images = folder / split / ("n01", "n02")[row % 2]
            images.mkdir(parents=True, exist_ok=True)
            (images / f"{row:03}.JPEG").write_bytes(jpeg(row))
    return folder


def cub(folder: Path, counts: Mapping[str, int] = SIZES) -> Path:
    """Write CUB_200_2011/ into a folder; training and test images alternate in its lists."""
    root = folder / "CUB_200_2011"
    order = sorted((row, split) for split, count in counts.items() for row in range(count))
    lists: dict[str, list[str]] = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    for number, (row, split) in enumerate(order, 1):
        name = f"{row % 2 + 1:03}.{CLASSES[row % 2].title()}/{split}_{row}.jpg"
        file = root / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(row))
        for list_, value in zip(lists.values(), (name, row % 2 + 1, int(split == "train")), strict=True):
            list_.append(f"{number} {value}\n")
    for name, listed in lists.items():
        (root / f"{name}.txt").write_text("".join(listed))
    (root / "classes.txt").write_text("1 001.Cat\n2 002.Dog\n")
    return folder


def aircraft(folder: Path, counts: Mapping[str, int] | None = None) -> Path:
    """Write fgvc-aircraft-2013b/ into a folder, with a validation split of its own."""
    data = folder / "fgvc-aircraft-2013b" / "data"
    (data / "images").mkdir(parents=True, exist_ok=True)
    (data / "variants.txt").write_text("A340-300\nBoeing 707 320\n")
    for start, (split, count) in enumerate((counts or {"train": 20, "val": 4, "test": 6}).items()):
        lines = []
        for row in range(count):
            (data / "images" / f"{start}{row:06}.jpg").write_bytes(jpeg(row))
            lines.append(f"{start}{row:06} {('A340-300', 'Boeing 707 320')[row % 2]}\n")
        (data / f"images_variant_{split}.txt").write_text("".join(lines))
    return folder


def cars(folder: Path, counts: Mapping[str, int] = SIZES) -> Path:
    """Write stanford_cars/ into a folder."""
    from scipy.io import savemat

    root = folder / "stanford_cars"
    (root / "devkit").mkdir(parents=True, exist_ok=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array([["Audi TT", "BMW M3"]], object)})
    lists = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for split, count in counts.items():
        images = root / f"cars_{split}"
        images.mkdir(exist_ok=True)
        listed = np.zeros((1, count), [("class", object), ("fname", object)])
        for row in range(count):
            (images / f"{row:05}.jpg").write_bytes(jpeg(row))
            listed[0, row] = (row % 2 + 1, f"{row:05}.jpg")
        savemat(root / lists[split], {"annotations": listed})
    return folder


def _batches(counts: Mapping[str, int]) -> list[tuple[str, int, int, Pixels]]:
    """Cut the training rows into CIFAR-10's five batches; name, first and last row, and pixels of each."""
    bounds = [counts["train"] * part // 5 for part in range(6)]
    train = planes(counts["train"], 32)
    cut = [
        (f"data_batch_{k + 1}", bounds[k], bounds[k + 1], train[bounds[k] : bounds[k + 1]])  # like the published ones
        for k in range(5)
    ]
    return [*cut, ("test_batch", 0, counts["test"], planes(counts["test"], 32))]
