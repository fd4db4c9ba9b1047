"""The splits of a data set with a numeric target as row numbers, before any input is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data import csvimages, rcfmnist, rotated, tabular
from switch_ema.data.numbers import choose_target
from switch_ema.data.sheet import read_sheet
from switch_ema.data.splits import SPLIT_SEED, held_out_size
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from switch_ema.data.numbers import NumberSource
    from switch_ema.data.numbertable import NumberTable

    Rows = NDArray[np.int64]


@dataclass(frozen=True)
class NumberPart:
    """Some rows of a table, sorted."""

    table: NumberTable
    rows: Rows

    @property
    def targets(self) -> NDArray[np.float64]:
        """Target of each row."""
        return self.table.targets[self.rows]


def find_number_parts(
    source: NumberSource,
    *,
    train_size: int | None = None,
    image_size: int | None = None,
    full_circle: bool = False,
    skip_corrupt: bool = False,
) -> dict[str, NumberPart]:
    """Read the targets of a data set and divide the rows.

    Args:
        source: What `switch_ema.data.numbers.locate_numbers` found.
        train_size: Number of training examples; None takes all.
        image_size: Side in pixels to scale and crop images to when they are read; None keeps them.
        full_circle: Turn the images of ``digits-rotated`` by [0, 360) degrees instead of [-60, 60).
        skip_corrupt: Leave out corrupt images of a .csv file when they are read.

    Returns:
        The splits ``train``, ``val`` and ``test``, held out of the training rows where the data lack them.

    Raises:
        InputError: Something in the files is wrong, or there are too few rows.
    """
    if not source.target:
        source = choose_target(source)
    tables = _tables(source, image_size, full_circle, skip_corrupt)
    train = tables.pop("train")
    missing = [split for split in ("test", "val") if split not in tables]
    rows = hold_out(len(train.targets), missing, train_size, source.name)
    parts = {split: NumberPart(train, chosen) for split, chosen in rows.items()}
    parts |= {split: NumberPart(table, np.arange(len(table.targets))) for split, table in tables.items()}
    return {split: parts[split] for split in ("train", "val", "test")}


def hold_out(count: int, splits: Sequence[str], train_size: int | None, where: str) -> dict[str, Rows]:
    """Divide rows into splits that do not overlap, by one fixed shuffle.

    Args:
        count: Number of rows.
        splits: Which splits to take from them: ``test``, ``val``, both in this order, or none.
        train_size: Number of training rows to keep, the first of the shuffle; None keeps all.
        where: Name of the data, for messages.

    Returns:
        Sorted row numbers under ``train`` and the names in `splits`.

    Raises:
        InputError: There are too few rows for that.
    """
    rest = np.random.default_rng(SPLIT_SEED).permutation(count)
    parts: dict[str, Rows] = {}
    for split in splits:
        size = held_out_size(split, len(rest))
        if size >= len(rest):
            raise InputError(f"{where}: {count} training examples are too few to hold some out for {split}; add some")
        parts[split], rest = np.sort(rest[:size]), rest[size:]
    if train_size is not None and not 1 <= train_size <= len(rest):
        raise InputError(f"{where}: train size {train_size}: write 1 to {len(rest)}, the number of training examples")
    parts["train"] = np.sort(rest[:train_size])
    return parts


def _tables(
    source: NumberSource, image_size: int | None, full_circle: bool, skip_corrupt: bool
) -> dict[str, NumberTable]:
    if source.format == "rotated":
        return rotated.tables(image_size, full_circle)
    if source.format == "diabetes":
        return tabular.diabetes()
    if source.format == "rcf":
        return rcfmnist.tables(source.path, source.background, image_size)
    sheet = read_sheet(source.path)
    column = sheet.image_column()
    if column is None:
        return tabular.tables(sheet, source.target)
    return csvimages.tables(sheet, column, source.target, image_size, skip_corrupt)
