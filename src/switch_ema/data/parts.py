"""The splits of a labelled data set as row numbers, before any image is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data import digits
from switch_ema.data.catalog import FOLDER_FORMATS
from switch_ema.data.splits import divide
from switch_ema.errors import FieldError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from switch_ema.data.catalog import Source
    from switch_ema.data.table import Table


@dataclass(frozen=True)
class Part:
    """Some rows of a table, sorted."""

    table: Table
    rows: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each row."""
        return self.table.labels[self.rows]


@dataclass(frozen=True)
class Parts:
    """The splits of a data set.

    Attributes:
        train: Training rows.
        val: Validation rows; held out of the training table where the data have none of their own.
        test: Test rows; likewise.
        unlabeled: Rows that nobody has labelled, or None.
        class_names: Name of each class.
    """

    train: Part
    val: Part
    test: Part
    unlabeled: Part | None
    class_names: tuple[str, ...]


def find_parts(source: Source, train_size: int | None, image_size: int | None, val_share: float | None = None) -> Parts:
    """Read the labels of a data set, check them and divide the rows.

    Args:
        source: What `switch_ema.data.catalog.locate` found.
        train_size: Number of training images; None takes all.
        image_size: Side to scale and crop the images to when they are read.
        val_share: Share of the training images to hold out for validation; None takes 10 %, at most 5,000.

    Returns:
        The splits.

    Raises:
        InputError: `val_share` is given for data with a validation split of their own, a split is empty, a label out
            of range, or a class without training images.
    """
    read = digits.tables if source.format == "digits" else FOLDER_FORMATS[source.format].tables
    tables = read(source.path, image_size)
    unlabeled = tables.pop("unlabeled", None)
    train = tables.pop("train")
    names = _check_labels(train, tables)
    missing = [split for split in ("test", "val") if split not in tables]
    if val_share is not None and "val" not in missing:
        raise FieldError("val_share", f"{val_share:g}: {source.name} has a validation split of its own; leave it out")
    rows = divide(train.labels, missing, train_size=train_size, val_share=val_share, where=source.name)
    parts = {split: Part(train, chosen) for split, chosen in rows.items()}
    parts.update({split: _whole(table) for split, table in tables.items()})
    rest = None if unlabeled is None else _whole(unlabeled)
    return Parts(parts["train"], parts["val"], parts["test"], rest, names)


def _whole(table: Table) -> Part:
    return Part(table, np.arange(len(table.labels)))


def _check_labels(train: Table, others: dict[str, Table]) -> tuple[str, ...]:
    """Check that the labels are 0, 1, ... without gaps, and return the names of the classes."""
    present = np.unique(train.labels)
    names = train.class_names or tuple(str(k) for k in range(len(present)))
    tables = (train, *others.values())
    for table in tables:
        if not len(table.labels):
            raise InputError(f"{table.where}: no images in it; is it the right file?")
    if len(names) < 2:
        raise InputError(f"{train.where}: all images are of one class; classification needs at least two")
    for table in tables:
        for label in (int(table.labels.min()), int(table.labels.max())):
            if not 0 <= label < len(names):
                raise InputError(
                    f"{table.where}: label {label} out of range; {train.where} has {len(names)} classes: "
                    f"number the labels 0 to {len(names) - 1} without gaps"
                )
    if len(present) < len(names):
        absent = sorted(set(range(len(names))) - set(present.tolist()))[0]
        raise InputError(f"{train.where}: no image of class {names[absent]!r} (label {absent}); add some")
    return names
