"""A comma-separated file that names images and a number for each."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from switch_ema.data.numbertable import NumberTable
from switch_ema.data.table import table_of_files
from switch_ema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from switch_ema.data.sheet import Sheet
    from switch_ema.data.table import Table


def check(sheet: Sheet, column: str) -> None:
    """Check that all images are there.

    Args:
        sheet: The file.
        column: Name of its column with the images' paths, relative to the file's folder.

    Raises:
        InputError: Some are not.
    """
    files = image_files(sheet, column)
    missing = [row for row, file in enumerate(files) if not os.path.isfile(file)]
    if missing:
        raise InputError(
            f"{sheet.file} line {sheet.lines[missing[0]]}: no image file {files[missing[0]]} ({len(missing)} of "
            f"{len(files)} are missing); paths count from the folder of the .csv file: correct them or add the images"
        )


def tables(
    sheet: Sheet, column: str, target: str, image_size: int | None, skip_corrupt: bool
) -> dict[str, NumberTable]:
    """List the images of every split.

    Args:
        sheet: The file.
        column: Name of its column with the images' paths.
        target: Name of the column to predict.
        image_size: Side to scale and crop the images to; None keeps them, and then all must have one size.
        skip_corrupt: Leave out images that cannot be decoded.

    Returns:
        The table ``train``; also ``val`` and ``test`` where the file has rows for them.
    """
    import numpy as np

    folder, names = os.path.dirname(sheet.file), sheet.column(column)
    targets = np.array(sheet.numbers(target))
    made = {}
    for split, rows in sheet.splits().items():
        files = table_of_files(sheet.file, folder, [(names[row], -1) for row in rows], (), image_size)
        made[split] = NumberTable(targets[rows], partial(_read, files, skip_corrupt), files)
    return made


def image_files(sheet: Sheet, column: str) -> list[str]:
    """Return the path of each row's image."""
    folder = os.path.dirname(sheet.file)
    return [os.path.join(folder, name) for name in sheet.column(column)]


def _read(files: Table, skip_corrupt: bool, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    import numpy as np

    images, skipped = files.read_good(rows) if skip_corrupt else (files.read(rows), [])
    kept = np.ones(len(rows), np.bool_)
    kept[skipped] = False
    return images, kept
