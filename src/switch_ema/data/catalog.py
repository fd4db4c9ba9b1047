"""What `--data` accepts: names of data sets, and folders whose format is detected.

Everything here needs the standard library only, so that a wrong path is refused at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from switch_ema.data import aircraft, cars, cifar, cub, folder, idx, parquet, stl10, tinyimagenet
from switch_ema.data.named import NAMED
from switch_ema.data.root import data_root
from switch_ema.errors import InputError, unknown

if TYPE_CHECKING:
    from switch_ema.data.table import Table

DATASETS = {
    "digits": "1,797 handwritten digits, 8x8, grey, that come with scikit-learn",
    **{name: f"{entry.summary}, from $SEMA_DATA/{entry.folders[0]}" for name, entry in NAMED.items()},
}
"""The named data sets, each with one line that describes it."""

FORMATS = (
    "train.parquet and test.parquet, or MNIST IDX files, or CIFAR, STL-10, Tiny-ImageNet, CUB_200_2011, FGVC-Aircraft "
    "or Stanford Cars as published, or images in one folder per class (below train/ and test/, or directly)"
)
"""What a folder given to `--data` may hold."""


class Format(Protocol):
    """A way to store labelled images; each is a module."""

    def found(self, path: str) -> bool:
        """Say whether a folder looks like it; cheap."""

    def check(self, path: str) -> None:
        """Refuse what is missing, empty or truncated; cheap."""

    def tables(self, path: str, image_size: int | None) -> dict[str, Table]:
        """Read the labels."""


FOLDER_FORMATS: Mapping[str, Format] = {
    "parquet": parquet,
    "cifar": cifar,
    "stl10": stl10,
    "tiny-imagenet": tinyimagenet,
    "cub": cub,
    "aircraft": aircraft,
    "cars": cars,
    "idx": idx,
    "folder": folder,
}
"""The formats by name, in the order in which a folder is compared with them."""


@dataclass(frozen=True)
class Source:
    """A data set that was found and passed the cheap checks.

    Attributes:
        name: The name or path as the user gave it.
        format: ``digits`` or a name from `FOLDER_FORMATS`.
        path: The folder to read; empty for embedded data.
    """

    name: str
    format: str
    path: str


def locate(spec: str) -> Source:
    """Find a data set and check all that can be checked in milliseconds.

    Args:
        spec: A name from `DATASETS` or the path of a folder (see `FORMATS`). Named sets other than ``digits`` lie
            below the folder in the environment variable ``SEMA_DATA`` (default ``../shared/data``).

    Returns:
        Where the data lie and how to read them.

    Raises:
        InputError: Nothing is there, or it is not a data set, or one of its files is empty, truncated or of the
            wrong kind.

    Example:
        >>> locate("digits")
        Source(name='digits', format='digits', path='')
    """
    if spec == "digits":
        return Source(spec, "digits", "")
    path, holds = spec, FORMATS
    if spec in NAMED:
        path, holds = _named_folder(spec), f"{NAMED[spec].wants} (for {spec})"
    elif os.path.isfile(path):
        raise InputError(f"{path}: this is a file; give the folder that holds it ({FORMATS})")
    elif not os.path.isdir(path):
        raise unknown("data set or folder", spec, DATASETS, hint=f"or the path of a folder with {FORMATS}")
    return Source(spec, _checked_format(path, holds), path)


def _named_folder(name: str) -> str:
    root = data_root()
    entry = NAMED[name]
    for candidate in entry.folders:
        if os.path.isdir(path := os.path.join(root, candidate)):
            return path
    raise InputError(
        f"data set {name!r} not found: no folder {os.path.join(root, entry.folders[0])}; set SEMA_DATA to the folder "
        f"that holds {entry.folders[0]}/, which should have {entry.wants}; or write --data digits"
    )


def _checked_format(path: str, holds: str) -> str:
    try:
        if not any(not name.startswith(".") for name in os.listdir(path)):
            raise InputError(f"{path}: the folder is empty; it should hold {holds}")
        for name, format_ in FOLDER_FORMATS.items():
            if format_.found(path):
                format_.check(path)
                return name
    except OSError as error:
        raise InputError(
            f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    raise InputError(f"{path}: no data in a known format; the folder should hold {holds}")
