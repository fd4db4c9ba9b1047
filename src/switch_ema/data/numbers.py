"""What `--data` accepts where a number is to be predicted: names of data sets, and .csv files.

Everything here needs the standard library only, so that a wrong path or a bad line is refused at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from switch_ema.data import csvimages, rcfmnist
from switch_ema.data.root import data_root
from switch_ema.data.sheet import IMAGE_COLUMNS, TARGET_COLUMNS, find_sheet, read_sheet
from switch_ema.errors import InputError, unknown

NUMBER_SETS = {
    "digits-rotated": "1,797 turned digits, 16x16, grey, that come with scikit-learn; the angle in degrees",
    "diabetes": "442 patients, ten measurements each, that come with scikit-learn; progress of the disease in points",
    "rcf-mnist": "clothes, turned and painted on photographs, from $SEMA_DATA/{fashion-mnist,cifar10}; the angle",
    "rc-mnist": "handwritten digits, turned and painted on photographs, from $SEMA_DATA/{mnist,cifar10}; the angle",
    "agedb": "faces and their ages in years: one .csv file and the images, in $SEMA_DATA/agedb",
    "imdb-wiki": "faces and their ages in years: one .csv file and the images, in $SEMA_DATA/imdb-wiki",
}
"""The named data sets, each with one line that describes it."""

NUMBER_FORMATS = (
    "one .csv file with a column age, target, label or value, and a column path, image or filename for images, or "
    "else numbers to predict from; a column split may say train, val or test"
)
"""What another folder or file may hold."""

_UNITS = {"age": "years", "angle": "degrees", "degrees": "degrees"}
_PERIODS = {"degrees": 360.0}


@dataclass(frozen=True)
class NumberSource:
    """A data set that was found and passed the cheap checks.

    Attributes:
        name: The name or path as the user gave it.
        format: ``rotated``, ``diabetes``, ``rcf``, ``csv-images`` or ``csv-table``.
        path: The file or folder to read; empty for embedded data.
        background: The folder of the background images of ``rcf``.
        target: The column to predict, of comma-separated files; empty where none is chosen yet.
        unit: Unit of the target, such as ``degrees``; empty where it is not known.
    """

    name: str
    format: str
    path: str = ""
    background: str = ""
    target: str = ""
    unit: str = ""

    @property
    def is_table(self) -> bool:
        """Whether the inputs are vectors, not images."""
        return self.format in ("diabetes", "csv-table")

    @property
    def period(self) -> float | None:
        """After how much the target comes round again: 360 for degrees; None for what is no angle."""
        return _PERIODS.get(self.unit)


def locate_numbers(spec: str) -> NumberSource:
    """Find a data set and check all that can be checked without reading images.

    Args:
        spec: A name from `NUMBER_SETS`, or the path of a .csv file, or of a folder with one (see `NUMBER_FORMATS`).
            Named sets that are not embedded lie below the folder in the environment variable ``SEMA_DATA`` (default
            ``../shared/data``).

    Returns:
        Where the data lie and how to read them. The target is chosen where the names of the columns leave no doubt.

    Raises:
        InputError: Nothing is there, or a file is empty, damaged or of the wrong kind, or images are missing.

    Example:
        >>> locate_numbers("digits-rotated").period
        360.0
    """
    if spec == "digits-rotated":
        return NumberSource(spec, "rotated", unit="degrees")
    if spec == "diabetes":
        return NumberSource(spec, "diabetes", unit="points")
    root = data_root()
    if spec in ("rcf-mnist", "rc-mnist"):
        front, back = rcfmnist.locate(spec, root)
        return NumberSource(spec, "rcf", front, back, unit="degrees")
    path = os.path.join(root, spec) if spec in NUMBER_SETS else spec
    if spec in NUMBER_SETS and not os.path.isdir(path):
        raise InputError(
            f"data set {spec!r} not found: no folder {path} with one .csv file (columns path, age and, if you like, "
            f"split) and the images; set SEMA_DATA to the folder that holds {spec}/, or write --data digits-rotated"
        )
    if not os.path.isdir(path) and not (os.path.isfile(path) and path.lower().endswith(".csv")):
        raise unknown("data set, folder or .csv file", spec, NUMBER_SETS, hint=f"or the path of {NUMBER_FORMATS}")
    return _checked_sheet(spec, find_sheet(path))


def choose_target(source: NumberSource, target: str | None = None) -> NumberSource:
    """Choose the column to predict and check its values, with the standard library alone.

    Args:
        source: What `locate_numbers` found.
        target: Name of the column; None keeps the one that the names of the columns leave no doubt about.

    Returns:
        The source with its target and unit: years for a column ``age``, degrees for ``angle`` or ``degrees``.

    Raises:
        InputError: There is no such column, or a value is no number, or there is nothing to predict it from.

    Example:
        >>> choose_target(locate_numbers("diabetes")).unit
        'points'
    """
    if not source.format.startswith("csv"):
        if target is not None:
            raise InputError(f"{source.name}: its target is fixed; leave out --target, which chooses a .csv column")
        return source
    sheet = read_sheet(source.path)
    name = sheet.target_column(target)
    sheet.numbers(name)
    if source.is_table:
        sheet.feature_columns(name)
    return replace(source, target=name, unit=_UNITS.get(name.lower(), ""))


def _checked_sheet(spec: str, file: str) -> NumberSource:
    sheet = read_sheet(file)
    sheet.splits()
    column = sheet.image_column()
    if column is None and spec in NUMBER_SETS:
        listed = ", ".join(sheet.columns)
        raise InputError(
            f"{file}: no column {' or '.join(IMAGE_COLUMNS)} (columns: {listed}); rename the one with the image files"
        )
    if column is not None:
        csvimages.check(sheet, column)
    source = NumberSource(spec, "csv-table" if column is None else "csv-images", file)
    there = [name for name in TARGET_COLUMNS if name in sheet.columns]
    return choose_target(source) if len(there) == 1 or spec in NUMBER_SETS else source
