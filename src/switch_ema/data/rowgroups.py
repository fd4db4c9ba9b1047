"""Single images out of parquet files, which can be read a group of rows at a time only."""

from __future__ import annotations

import bisect
import io
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from switch_ema.data.parquet import reading
from switch_ema.data.table import Entry

_KEPT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class _Group:
    """One group of rows: its file and column, its number, and the number of its first row in the file."""

    file: str
    column: str
    number: int
    first: int


@dataclass
class RowGroups:
    """Maps a row number to its encoded image; the groups read last are kept, a pickled copy starts with none.

    Attributes:
        groups: All groups of rows, in order.
        starts: Number of the first row of each, over all files.
    """

    groups: list[_Group]
    starts: list[int]
    _kept: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, columns: list[tuple[str, str]]) -> RowGroups:
        """List the groups of rows.

        Args:
            columns: Each file with the name of its image column.

        Returns:
            The reader.

        Raises:
            InputError: A file is damaged.
        """
        groups, starts, start = [], [], 0
        for file, column in columns:
            with reading(file):
                metadata = pq.read_metadata(file)
            first = 0
            for number in range(metadata.num_row_groups):
                groups.append(_Group(file, column, number, first))
                starts.append(start + first)
                first += metadata.row_group(number).num_rows
            start += first
        return cls(groups, starts)

    def __call__(self, row: int) -> Entry:
        """Return the encoded image of a row; None where it is missing."""
        place = bisect.bisect_right(self.starts, row) - 1
        group = self.groups[place]
        position = row - self.starts[place]
        content = self._images(place)[position].as_py()
        return f"{group.file} row {group.first + position}", None if content is None else io.BytesIO(content)

    def __getstate__(self) -> dict[str, Any]:
        return {"groups": self.groups, "starts": self.starts, "_kept": {}}

    def _images(self, place: int) -> Any:
        if place in self._kept:
            self._kept[place] = self._kept.pop(place)  # the last one is the latest used
        else:
            self._kept[place] = _read(self.groups[place])
            while len(self._kept) > 1 and sum(images.nbytes for images in self._kept.values()) > _KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
        return self._kept[place]


def _read(group: _Group) -> Any:
    with reading(group.file), pq.ParquetFile(group.file) as file:
        images = file.read_row_group(group.number, columns=[group.column], use_threads=False)[group.column]
    return pc.struct_field(images, "bytes")
