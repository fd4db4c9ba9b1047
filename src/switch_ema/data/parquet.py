"""Folders with train.parquet and test.parquet in the Hugging Face image layout, whole or in numbered parts.

Column ``image`` (or ``img``) is a struct {bytes, path} with an encoded image, column ``label`` (or ``fine_label``) an
integer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from switch_ema.data.table import Encoded, Table
from switch_ema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SPLITS = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}
_IMAGE, _LABEL = ("image", "img"), ("label", "fine_label")
_MAGIC = b"PAR1"


def found(path: str) -> bool:
    """Say whether the folder, or data/ in it, holds parquet files."""
    return _folder(path) is not None


def check(path: str) -> None:
    """Check that all files are there and whole, by the marks at their ends.

    Raises:
        InputError: A file is missing, empty, truncated or no parquet file.
    """
    for files in _layout(path).values():
        for file in files:
            _check_marks(file)


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """Open the files and read their labels.

    Args:
        path: The folder.
        image_size: Side to scale and crop the images to; None keeps them.

    Returns:
        The tables ``train`` and ``test``; also ``val`` where there are validation files beside both.

    Raises:
        InputError: A column is missing or of the wrong type, a label is missing, or a file is damaged.
    """
    return {split: _table(files, image_size) for split, files in _layout(path).items()}


def _folder(path: str) -> str | None:
    for folder in (path, os.path.join(path, "data")):
        if os.path.isdir(folder) and any(name.endswith(".parquet") for name in os.listdir(folder)):
            return folder
    return None


def _layout(path: str) -> dict[str, list[str]]:
    """Map each split to its files; with validation alone, the validation files are the test split."""
    folder = _folder(path) or path
    names = sorted(name for name in os.listdir(folder) if name.endswith(".parquet")) if os.path.isdir(folder) else []
    there = {
        split: files
        for split, words in _SPLITS.items()
        if (files := [os.path.join(folder, name) for name in names if _belongs(name, words)])
    }
    if "test" not in there and "val" in there:
        there["test"] = there.pop("val")
    for split in ("train", "test"):
        if split not in there:
            file = os.path.join(folder, f"{split}.parquet")
            raise InputError(f"{file}: no such file; a parquet data set needs train.parquet and test.parquet")
    return there


def _belongs(name: str, words: tuple[str, ...]) -> bool:
    """Say whether a file is one of a split, as ``train.parquet`` or ``train-00000-of-00002.parquet``."""
    return any(name == f"{word}.parquet" or name.startswith(f"{word}-") for word in words)


def _check_marks(file: str) -> None:
    if not os.path.isfile(file):
        raise InputError(f"{file}: no such file; a parquet data set needs train.parquet and test.parquet")
    size = os.path.getsize(file)
    if size == 0:
        raise InputError(f"{file}: the file is empty; copy or download it again")
    with open(file, "rb") as stream:
        if stream.read(4) != _MAGIC:
            raise InputError(f"{file}: not a parquet file (it does not begin with PAR1); copy or download it again")
        stream.seek(max(0, size - 4))
        if size < 12 or stream.read(4) != _MAGIC:
            raise InputError(f"{file}: truncated (it does not end with PAR1); copy or download it again")


def _table(files: list[str], image_size: int | None) -> Table:
    import numpy as np

    from switch_ema.data.rowgroups import RowGroups

    parts = [_columns(file) for file in files]
    labels = np.concatenate([_labels(file, label) for file, (_, label, _) in zip(files, parts, strict=True)])
    where = files[0] if len(files) == 1 else f"{files[0]} to {os.path.basename(files[-1])}"
    entry = RowGroups.of([(file, image) for file, (image, _, _) in zip(files, parts, strict=True)])
    return Table(where, labels, parts[0][2], Encoded(entry, image_size))


def _columns(file: str) -> tuple[str, str, tuple[str, ...]]:
    """Check the columns and return the names of the image and label column, and of the classes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(file):
        schema = pq.read_schema(file)
    image, label = (_column(file, schema.names, names) for names in (_IMAGE, _LABEL))
    images, labels = schema.field(image).type, schema.field(label).type
    if not pa.types.is_struct(images) or not _is_bytes(images):
        raise InputError(f"{file}: column {image!r} is {images}; it must be a struct with a binary field 'bytes'")
    if not pa.types.is_integer(labels):
        raise InputError(f"{file}: column {label!r} is {labels}; it must be an integer")
    return image, label, _class_names(schema, label)


def _column(file: str, there: list[str], names: tuple[str, ...]) -> str:
    for name in names:
        if name in there:
            return name
    raise InputError(
        f"{file}: no column {' or '.join(map(repr, names))} (columns: {', '.join(there)}); rename the column"
    )


def _labels(file: str, column: str) -> NDArray[np.int64]:
    import numpy as np
    import pyarrow.parquet as pq

    with reading(file):
        values = pq.read_table(file, columns=[column])[column]
    if values.null_count:
        raise InputError(f"{file}: {values.null_count} labels are missing; fill them or remove the rows")
    labels: NDArray[np.int64] = values.to_numpy().astype(np.int64)
    return labels


def _is_bytes(image: Any) -> bool:
    import pyarrow as pa

    position = image.get_field_index("bytes")
    if position < 0:
        return False
    kind = image.field(position).type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _class_names(schema: Any, column: str) -> tuple[str, ...]:
    """Return the class names that Hugging Face `datasets` leaves in the metadata, or none."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[column]["names"])
    except (TypeError, KeyError, ValueError):
        return ()


@contextmanager
def reading(file: str) -> Iterator[None]:
    """Raise one line that names the file if pyarrow cannot read it in the block; names in it may be no UTF-8."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file}: damaged ({reason}); copy or download it again") from error
