"""Small data sets on disk, right by default, for tests to read or to spoil."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.data.published import (
    SIZES,
    aircraft,
    cars,
    cifar10_binary,
    cifar10_python,
    cifar100_binary,
    cifar100_python,
    cub,
    imagenet,
    jpeg,
    stl10,
    tiny_imagenet,
)

__all__ = [
    "SIZES",
    "aircraft",
    "cars",
    "cifar10_binary",
    "cifar10_python",
    "cifar100_binary",
    "cifar100_python",
    "classes",
    "cub",
    "fashion_mnist",
    "idx",
    "idx_bytes",
    "image_folder",
    "imagenet",
    "jpeg",
    "parquet",
    "parquet_file",
    "pixels",
    "png",
    "stl10",
    "tiny_imagenet",
]

IDX_PREFIX = {"train": "train", "test": "t10k"}


def pixels(row: int, size: tuple[int, int] = (4, 4), channels: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Make an image that tells its row number by every pixel."""
    return np.full((size[1], size[0], channels), row, np.uint8).squeeze()


def png(row: int, size: tuple[int, int] = (4, 4), channels: int = 3) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(row, size, channels)).save(stream, "PNG")
    return stream.getvalue()


def parquet_file(
    file: Path,
    images: Sequence[bytes | None],
    labels: Any,
    names: Sequence[str] = (),
    column: str = "image",
    label_column: str = "label",
) -> None:
    image = pa.array(
        [{"bytes": image, "path": None} for image in images], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    table = pa.table({column: image, label_column: labels})
    if names:
        features = {"info": {"features": {label_column: {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, file, row_group_size=7)


def parquet(folder: Path, channels: int = 3, names: Sequence[str] = ()) -> Path:
    """Write train.parquet and test.parquet: labels 0, 1, 0, 1, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in SIZES.items():
        images = [png(row, channels=channels) for row in range(count)]
        parquet_file(folder / f"{split}.parquet", images, [row % 2 for row in range(count)], names)
    return folder


def idx_bytes(values: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def idx(folder: Path, end: str = "", dot: str = "-") -> Path:
    """Write the four MNIST files: labels 0, 1, 0, 1, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in SIZES.items():
        rows = np.arange(count, dtype=np.uint8)
        arrays = {"images-idx3": np.broadcast_to(rows[:, None, None], (count, 4, 4)), "labels-idx1": rows % 2}
        for name, values in arrays.items():
            content = idx_bytes(values)
            file = folder / f"{IDX_PREFIX[split]}-{name.replace('-', dot)}-ubyte{end}"
            file.write_bytes(gzip.compress(content) if end else content)
    return folder


def fashion_mnist(folder: Path) -> Path:
    """Write FashionMNIST/raw/ into a folder."""
    idx(folder / "FashionMNIST" / "raw")
    return folder


def classes(folder: Path, count: int, size: tuple[int, int] = (4, 4), channels: int = 3) -> Path:
    """Write PNG files into the class folders cat and dog: rows 0, 2, 4, ... are cats."""
    for row in range(count):
        directory = folder / ("cat", "dog")[row % 2]
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{row:03}.png").write_bytes(png(row, size, channels))
    return folder


def image_folder(folder: Path, splits: Sequence[str] = ("train", "test"), channels: int = 3) -> Path:
    for split in splits:
        classes(folder / split, SIZES["train" if split == "train" else "test"], channels=channels)
    return folder
