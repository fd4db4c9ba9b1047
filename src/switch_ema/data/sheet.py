"""Comma-separated files with a numeric target: read whole, checked line by line, with the standard library only."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass
from functools import lru_cache

from switch_ema.errors import InputError

IMAGE_COLUMNS = ("path", "image", "filename")
"""Names of the column that holds the image files; a sheet without one is a table of features."""

TARGET_COLUMNS = ("age", "target", "label", "value")
"""Names of the column that is the target when none is chosen."""

SPLIT_COLUMN = "split"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sheet:
    """A comma-separated file: names in the first line, then one example a line.

    Attributes:
        file: The file.
        columns: Names of the columns.
        rows: The values of each example, as text.
        lines: Line of each example in the file.
    """

    file: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> list[str]:
        """Return the values of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def numbers(self, name: str) -> list[float]:
        """Return a column as finite numbers.

        Raises:
            InputError: A value is none.
        """
        found = [number(text) for text in self.column(name)]
        for line, value, text in zip(self.lines, found, self.column(name), strict=True):
            if value is None:
                raise InputError(
                    f"{self.file} line {line}: {name} {text!r} is not a finite number; correct or remove the line"
                )
        return [value for value in found if value is not None]

    def splits(self) -> dict[str, list[int]]:
        """Return the rows of each split that the column ``split`` names; all are ``train`` without such a column.

        Raises:
            InputError: A value is not a split, or there is no training row.
        """
        if SPLIT_COLUMN not in self.columns:
            return {"train": list(range(len(self.rows)))}
        parts: dict[str, list[int]] = {}
        for row, text in enumerate(self.column(SPLIT_COLUMN)):
            if text.lower() not in SPLITS:
                raise InputError(
                    f"{self.file} line {self.lines[row]}: split {text!r}; write one of {', '.join(SPLITS)}"
                )
            parts.setdefault(text.lower(), []).append(row)
        if "train" not in parts:
            raise InputError(f"{self.file}: no row has split train; mark the training rows")
        return parts

    def image_column(self) -> str | None:
        """Return the name of the column with the image files, or None.

        Raises:
            InputError: Several columns could be it.
        """
        return self._one_of(IMAGE_COLUMNS, "hold the images", "rename the others")

    def target_column(self, chosen: str | None) -> str:
        """Return the name of the column with the target.

        Args:
            chosen: The user's choice; None looks for `TARGET_COLUMNS`.

        Raises:
            InputError: There is no such column, or none was chosen where several could be it.
        """
        name = chosen or self._one_of(TARGET_COLUMNS, "be the target", "choose one with --target")
        if name is None:
            wanted = " or ".join(TARGET_COLUMNS)
            raise InputError(f"{self.file}: no column {wanted} (columns: {self._listed()}); name it with --target")
        if name not in self.columns:
            raise InputError(f"{self.file}: no column {name!r} (columns: {self._listed()}); give --target one of these")
        return name

    def feature_columns(self, target: str) -> list[str]:
        """Return the names of the numeric columns beside the target; columns without any number are left out.

        Raises:
            InputError: A column has numbers and something else, or no column is numeric.
        """
        names = []
        for name in self.columns:
            if name in ("", target, SPLIT_COLUMN):  # a column without a name is the row number that pandas writes
                continue
            values = [number(text) for text in self.column(name)]
            if None not in values:
                names.append(name)
            elif any(value is not None for value in values):
                row = values.index(None)
                raise InputError(
                    f"{self.file} line {self.lines[row]}: {name} {self.column(name)[row]!r} is not a finite number, as "
                    f"others in the column; correct it, or remove the line or the column"
                )
        if not names:
            raise InputError(
                f"{self.file}: neither image files (column {' or '.join(IMAGE_COLUMNS)}) nor numbers beside {target!r} "
                f"(columns: {self._listed()}); add a column to predict from"
            )
        return names

    def _one_of(self, names: tuple[str, ...], use: str, remedy: str) -> str | None:
        there = [name for name in names if name in self.columns]
        if len(there) > 1:
            raise InputError(f"{self.file}: columns {' and '.join(there)} could each {use}; {remedy}")
        return there[0] if there else None

    def _listed(self) -> str:
        return ", ".join(self.columns)


def number(text: str) -> float | None:
    """Return the finite number that a text writes, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def find_sheet(path: str) -> str:
    """Return the one .csv file of a folder, or the file itself.

    Raises:
        InputError: There is none, or several.
    """
    if not os.path.isdir(path):
        return path
    names = sorted(name for name in os.listdir(path) if name.lower().endswith(".csv") and not name.startswith("."))
    if not names:
        raise InputError(f"{path}: no .csv file in this folder; add one with a column for the target")
    if len(names) > 1:
        raise InputError(f"{path}: {len(names)} .csv files ({', '.join(names[:5])}); give the path of one of them")
    return os.path.join(path, names[0])


def read_sheet(file: str) -> Sheet:
    """Read a comma-separated file; one that has not changed since is not read again.

    Raises:
        InputError: It cannot be read, has no rows, a column twice, or a line of another length.
    """
    try:
        status = os.stat(file)
        return _read(file, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: not a comma-separated text in UTF-8 ({error}); save it as one") from error


@lru_cache(maxsize=2)
def _read(file: str, changed: int, size: int) -> Sheet:
    with open(file, encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        columns = tuple(name.strip() for name in next(reader, []))
        rows, lines = [], []
        for row in reader:
            if not row:
                continue
            if len(row) != len(columns):
                raise InputError(
                    f"{file} line {reader.line_num}: {len(row)} values for {len(columns)} columns; correct it"
                )
            rows.append(tuple(value.strip() for value in row))
            lines.append(reader.line_num)
    if not rows:
        raise InputError(f"{file}: no rows in it; write the names of the columns in the first line, then the examples")
    for name in columns:
        if columns.count(name) > 1:
            raise InputError(f"{file}: column {name!r} is there twice; rename or remove one")
    return Sheet(file, columns, tuple(rows), tuple(lines))
