"""Texts with a label as the Yelp reviews are published: comma-separated, or in parquet files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from switch_ema.data.parquet import reading
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAMES = ["label", "text"]


@dataclass(frozen=True)
class Labelled:
    """Texts and their labels.

    Attributes:
        texts: The texts; none is blank.
        labels: Their labels, int64 of shape (n,).
        first: Each label with the place where it comes first, as ``train.csv line 3``.
        where: The first file, for messages.
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]
    first: Mapping[int, str]
    where: str


_DIGITS = 9  # of a label; more would be no class


def read(format_: str, files: Sequence[str]) -> Labelled:
    r"""Read the files of one split, one after the other.

    Args:
        format_: ``csv`` or ``parquet``.
        files: Their paths, at least one. A .csv file has two columns, label and text, in this order or as its first
            line says; texts in quotes have their own quotes doubled, and in all of them ``\n`` stands for a new line.
            A parquet file has the columns ``label`` (integers) and ``text``.

    Returns:
        The texts, with labels as they are written.

    Raises:
        InputError: A file is damaged, not in UTF-8, or has no rows; a line has other than two values; a label is no
            whole number; a text is blank.
    """
    examples = {"csv": _csv_examples, "parquet": _parquet_examples}[format_]
    texts: list[str] = []
    labels: list[int] = []
    first: dict[int, str] = {}
    for file in files:
        before = len(texts)
        for place, label, text in examples(file):
            if not text.strip():
                raise InputError(f"{place}: the text is empty; remove the row")
            texts.append(text)
            labels.append(label)
            first.setdefault(label, place)
        if len(texts) == before:
            raise InputError(f"{file}: no texts in it; write a label and a text into each row")
    return Labelled(tuple(texts), np.array(labels, np.int64), first, files[0])


Examples = Iterator[tuple[str, int, str]]
"""Place, label and text of each example."""


def _csv_examples(file: str) -> Examples:
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            yield from _csv_rows(file, stream)
    except UnicodeDecodeError:
        raise _undecodable(file) from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error


def _csv_rows(file: str, stream: TextIO) -> Examples:
    label_at, text_at = 0, 1
    for number, (line, row) in enumerate(_records(file, stream)):
        place = f"{file} line {line}"
        names = [name.strip().lower() for name in row]
        if number == 0 and sorted(names) == _NAMES:
            label_at, text_at = map(names.index, _NAMES)
            continue
        if len(row) != 2:
            counted = "1 value" if len(row) == 1 else f"{len(row)} values"
            raise InputError(f"{place}: {counted}; write two, the label and the text in quotes")
        label = row[label_at].strip()
        if not label.isdecimal() or len(label) > _DIGITS:
            raise InputError(f"{place}: label {label[:60]!r} is not a whole number; write one, or label,text above all")
        yield place, int(label), row[text_at].replace("\\n", "\n")


def _records(file: str, stream: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the values of each record, and the line where it begins; one may go over several lines."""
    reader = csv.reader(stream, strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{file} line {line}: {error}; write texts in quotes, and quotes in them doubled") from error


def _undecodable(file: str) -> InputError:
    """Say where a file stops being UTF-8."""
    where = file
    with open(file, "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                where = f"{file} line {number}, byte {error.start + 1} of the line (0x{line[error.start]:02x})"
                break
    return InputError(f"{where}: not UTF-8; save the file in UTF-8")


def _parquet_examples(file: str) -> Examples:
    import pyarrow.parquet as pq

    with reading(file), pq.ParquetFile(file) as opened:
        _check_columns(file, opened.schema_arrow)
        row = 0
        for batch in opened.iter_batches(columns=_NAMES):
            for label, text in zip(*(batch.column(name).to_pylist() for name in _NAMES), strict=True):
                row += 1
                place = f"{file} row {row}"
                if label is None:
                    raise InputError(f"{place}: the label is missing; fill it in or remove the row")
                yield place, label, text or ""


def _check_columns(file: str, schema: Any) -> None:
    import pyarrow as pa

    for name in _NAMES:
        if name not in schema.names:
            raise InputError(f"{file}: no column {name!r} (columns: {', '.join(schema.names)}); rename the column")
    label, text = (schema.field(name).type for name in _NAMES)
    if not pa.types.is_integer(label):
        raise InputError(f"{file}: column 'label' is {label}; it must be an integer")
    if not (pa.types.is_string(text) or pa.types.is_large_string(text)):
        raise InputError(f"{file}: column 'text' is {text}; it must be a string")
