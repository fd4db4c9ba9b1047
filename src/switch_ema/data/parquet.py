"""Folders with train.parquet and test.parquet in the Hugging Face image layout.

Column ``image`` is a struct {bytes, path} with an encoded image, column ``label`` an integer.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from switch_ema.data.table import Table
from switch_ema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SPLITS = ("train", "test")
_MAGIC = b"PAR1"


def found(path: str) -> bool:
    """Say whether the folder holds parquet files."""
    return any(name.endswith(".parquet") for name in os.listdir(path))


def check(path: str) -> None:
    """Check that both files are there and whole, by the marks at their ends.

    Raises:
        InputError: A file is missing, empty, truncated or no parquet file.
    """
    for split in _SPLITS:
        file = _file(path, split)
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


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """Open both files and read their labels.

    Args:
        path: The folder.
        image_size: Side to scale and crop the images to; None keeps them.

    Returns:
        The tables ``train`` and ``test``.

    Raises:
        InputError: A column is missing or of the wrong type, a label or an image is missing, or the file is damaged.
    """
    return {split: _table(_file(path, split), image_size) for split in _SPLITS}


def _file(path: str, split: str) -> str:
    return os.path.join(path, f"{split}.parquet")


def _table(file: str, image_size: int | None) -> Table:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
        for name in ("image", "label"):
            if name not in schema.names:
                raise InputError(f"{file}: no column {name!r} (columns: {', '.join(schema.names)}); rename the column")
        image, label = schema.field("image").type, schema.field("label").type
        if not pa.types.is_struct(image) or not _is_bytes(image):
            raise InputError(f"{file}: column 'image' is {image}; it must be a struct with a binary field 'bytes'")
        if not pa.types.is_integer(label):
            raise InputError(f"{file}: column 'label' is {label}; it must be an integer")
        column = pq.read_table(file, columns=["label"])["label"]
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error
    if column.null_count:
        raise InputError(f"{file}: {column.null_count} labels are missing; fill them or remove the rows")
    labels = column.to_numpy().astype(np.int64)
    return Table(file, labels, _class_names(schema), partial(_read, file, image_size))


def _is_bytes(image: Any) -> bool:
    import pyarrow as pa

    position = image.get_field_index("bytes")
    if position < 0:
        return False
    kind = image.field(position).type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _class_names(schema: Any) -> tuple[str, ...]:
    """Return the class names that Hugging Face `datasets` leaves in the metadata, or none."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features["label"]["names"])
    except (TypeError, KeyError, ValueError):
        return ()


def _read(file: str, image_size: int | None, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from switch_ema.data.decode import decode

    try:
        encoded = pc.struct_field(pq.read_table(file, columns=["image"])["image"], "bytes")
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error

    def streams() -> Iterator[tuple[str, io.BytesIO]]:
        for row in rows.tolist():
            content = encoded[row].as_py()
            if content is None:
                raise InputError(f"{file} row {row}: the image has no bytes; embed the image or remove the row")
            yield f"{file} row {row}", io.BytesIO(content)

    return decode(streams(), len(rows), image_size)


def _damaged(file: str, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{file}: damaged ({reason}); copy or download it again")
