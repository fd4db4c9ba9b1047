"""CIFAR-10 and CIFAR-100 as they are published: pickled batches, which torchvision keeps, or binary ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from switch_ema.data.arrays import Pixels, Records, count_records
from switch_ema.data.table import Table
from switch_ema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SIDE = 32
_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")


@dataclass(frozen=True)
class _Layout:
    """One published folder; `label` is a key of a pickled batch, or says which byte of a binary record it is."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label: str | int
    names: str
    header: int = 0

    def files(self, split: str) -> tuple[str, ...]:
        return self.train if split == "train" else self.test

    @property
    def record(self) -> int:
        return self.header + 3 * _SIDE**2


_LAYOUTS = (
    _Layout("cifar-10-batches-py", _BATCHES, ("test_batch",), "labels", "batches.meta"),
    _Layout("cifar-100-python", ("train",), ("test",), "fine_labels", "meta"),
    _Layout(
        "cifar-10-batches-bin",
        tuple(f"{name}.bin" for name in _BATCHES),
        ("test_batch.bin",),
        label=0,
        names="batches.meta.txt",
        header=1,
    ),
    _Layout(
        "cifar-100-binary", ("train.bin",), ("test.bin",), label=1, names="fine_label_names.txt", header=2
    ),  # byte 0 is the coarse label
)


def found(path: str) -> bool:
    """Say whether the folder is, or holds, one of the published folders."""
    return bool(_candidates(path))


def check(path: str) -> None:
    """Check that all batches are there, and whole as far as their sizes and ends tell.

    Raises:
        InputError: A file is missing, empty, truncated or no pickle, or two data sets lie side by side.
    """
    candidates = _candidates(path)
    if len(candidates) > 1:
        first, second = (folder for folder, _ in candidates[:2])
        raise InputError(f"{path}: two data sets in it; give {first} or {second}")
    folder, layout = candidates[0]
    for name in layout.train + layout.test:
        file = os.path.join(folder, name)
        if layout.header:
            count_records(file, layout.record)
        else:
            _check_pickle(file)


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """Read the batches; nothing in them is executed (see `switch_ema.data.pickles`).

    Args:
        path: The folder.
        image_size: Side to scale and crop the images to; None keeps 32.

    Returns:
        The tables ``train`` and ``test``; CIFAR-100 has its 100 fine labels.

    Raises:
        InputError: A batch is damaged, or holds something else than such a batch.
    """
    folder, layout = _candidates(path)[0]
    names = _class_names(os.path.join(folder, layout.names))
    read = _binary if layout.header else _pickled
    return {split: read(folder, layout, split, names, image_size) for split in ("train", "test")}


def _candidates(path: str) -> list[tuple[str, _Layout]]:
    """List the published folders; all files of one would be too much to ask, a missing one is named by `check`."""
    return [
        (folder, layout)
        for layout in _LAYOUTS
        for folder in (path, os.path.join(path, layout.folder))
        if any(os.path.isfile(os.path.join(folder, name)) for name in layout.train + layout.test)
    ]


def _check_pickle(file: str) -> None:
    if not os.path.isfile(file):
        raise InputError(f"{file}: no such file; CIFAR's batches are complete only together: copy the folder again")
    size = os.path.getsize(file)
    if size == 0:
        raise InputError(f"{file}: the file is empty; copy or download it again")
    with open(file, "rb") as stream:
        stream.seek(size - 1)
        if stream.read(1) != b".":  # the last command of every pickle
            raise InputError(
                f"{file}: truncated, or no pickled batch (it does not end with a full stop); copy it again"
            )


def _binary(folder: str, layout: _Layout, split: str, names: tuple[str, ...], image_size: int | None) -> Table:
    import numpy as np

    files = [os.path.join(folder, name) for name in layout.files(split)]
    counted = tuple((file, count_records(file, layout.record)) for file in files)
    records = Records(counted, _SIDE, layout.header, column_major=False, image_size=image_size)
    labels = records.headers()[:, int(layout.label)].astype(np.int64)
    return Table(files[0] if len(files) == 1 else folder, labels, names, records)


def _pickled(folder: str, layout: _Layout, split: str, names: tuple[str, ...], image_size: int | None) -> Table:
    import numpy as np

    files = [os.path.join(folder, name) for name in layout.files(split)]
    batches = [_batch(file, str(layout.label)) for file in files]
    pixels = np.concatenate([data for data, _ in batches]).reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    labels = np.concatenate([labels for _, labels in batches])
    return Table(
        files[0] if len(files) == 1 else folder, labels, names, Pixels(np.ascontiguousarray(pixels), image_size)
    )


def _batch(file: str, key: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    import numpy as np

    batch = _unpickled(file)
    for name in ("data", key):
        if name not in batch:
            listed = ", ".join(map(str, batch)) or "nothing"
            raise InputError(f"{file}: no {name!r} in this batch (it has {listed}); is it the right file?")
    data, labels = np.asarray(batch["data"]), np.asarray(batch[key])
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * _SIDE**2:
        raise InputError(
            f"{file}: 'data' is {data.dtype} of shape {data.shape}; it must be uint8 of shape (n, {3 * _SIDE**2})"
        )
    if labels.shape != data.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{file}: {len(data)} images but {key!r} is {labels.dtype} of shape {labels.shape}")
    return data, labels.astype(np.int64)


def _unpickled(file: str) -> dict[Any, Any]:
    from switch_ema.data.pickles import loads

    with open(file, "rb") as stream:
        batch = loads(stream.read(), file)
    if not isinstance(batch, dict):
        raise InputError(f"{file}: a pickled {type(batch).__name__}, not a dictionary; is it the right file?")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}


def _class_names(file: str) -> tuple[str, ...]:
    """Return the names that lie beside the batches, or none where there is no such file."""
    if not os.path.isfile(file):
        return ()
    if file.endswith(".txt"):
        with open(file, encoding="utf-8") as stream:
            return tuple(line.strip() for line in stream if line.strip())
    meta = _unpickled(file)
    names = meta.get("label_names", meta.get("fine_label_names", ()))
    return tuple(name.decode("latin1") if isinstance(name, bytes) else str(name) for name in names)
