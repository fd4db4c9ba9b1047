"""CIFAR-10 for the benchmarks: a part of the real set, or random bytes of its shape where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from switch_ema.data.catalog import locate
from switch_ema.data.images import load
from switch_ema.errors import InputError

TRAIN, TEST = 50_000, 10_000
"""Images of the whole set; a tenth of the training images, at most 5,000, is held out for validation."""

_BATCHES = 5
_PLACES = ("../shared/data", "shared/data")

Bytes = NDArray[np.uint8]


def use_data() -> None:
    """Set `SEMA_DATA` to where data sets lie: what it says already, else beside the checkout, else within it."""
    for place in _PLACES:
        if Path(place).is_dir():
            os.environ.setdefault("SEMA_DATA", place)


def cifar_folder(folder: Path, num_train: int, num_test: int) -> str:
    """Write a part of CIFAR-10 in its published binary form, which the classification task reads.

    Args:
        folder: Where to write.
        num_train: Training and validation images, a multiple of 50.
        num_test: Test images.

    Returns:
        What it is: `"CIFAR-10"`, or random bytes and why.
    """
    use_data()
    try:
        source = locate("cifar10")
    except InputError:
        images, labels = _random(num_train + num_test)
        what = "random bytes in the shape of CIFAR-10, which was not found"
    else:
        whole = num_train == TRAIN
        held_out = min(num_train // 10, TRAIN // 10)
        found = load(source, train_size=None if whole else num_train - held_out)
        pieces = (found.train, num_train - held_out), (found.val, held_out), (found.test, num_test)
        images = np.concatenate([part.images[:size] for part, size in pieces])
        labels = np.concatenate([part.labels[:size] for part, size in pieces]).astype(np.uint8)
        what = "CIFAR-10"
    records = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(len(images), -1)], axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(np.array_split(records[:num_train], _BATCHES), start=1):
        (folder / f"data_batch_{number}.bin").write_bytes(batch.tobytes())
    (folder / "test_batch.bin").write_bytes(records[num_train:].tobytes())
    return what


def _random(count: int) -> tuple[Bytes, Bytes]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return images, np.arange(count, dtype=np.uint8) % 10
