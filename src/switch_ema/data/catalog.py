"""What `--data` accepts: names of data sets, and folders whose format is detected.

Everything here needs the standard library only, so that a wrong path is refused at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from switch_ema.data import folder, idx, parquet
from switch_ema.errors import InputError, unknown

DATASETS = {
    "digits": "1,797 handwritten digits, 8x8, grey, that come with scikit-learn",
    "cifar10": "60,000 photographs of ten classes, 32x32, colour, from $SEMA_DATA/cifar10",
    "mnist": "70,000 handwritten digits, 28x28, grey, from $SEMA_DATA/mnist",
}
"""The named data sets, each with one line that describes it."""

FORMATS = (
    "train.parquet and test.parquet, or MNIST IDX files, or images in one folder per class (below train/ and test/, "
    "or directly)"
)
"""What a folder given to `--data` may hold."""

_DEFAULT_ROOT = "../shared/data"


@dataclass(frozen=True)
class Source:
    """A data set that was found and passed the cheap checks.

    Attributes:
        name: The name or path as the user gave it.
        format: ``digits``, ``parquet``, ``idx`` or ``folder``.
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
    """
    if spec == "digits":
        return Source(spec, "digits", "")
    path = spec
    if spec in DATASETS:
        path = os.path.join(os.environ.get("SEMA_DATA") or _DEFAULT_ROOT, spec)
        if not os.path.isdir(path):
            raise InputError(
                f"data set {spec!r} not found: no folder {path}; set SEMA_DATA to the folder that holds {spec}/, "
                f"or write --data digits"
            )
    elif os.path.isfile(path):
        raise InputError(f"{path}: this is a file; give the folder that holds it ({FORMATS})")
    elif not os.path.isdir(path):
        raise unknown("data set or folder", spec, DATASETS, hint=f"or the path of a folder with {FORMATS}")
    return Source(spec, _checked_format(path), path)


def _checked_format(path: str) -> str:
    try:
        if not any(not name.startswith(".") for name in os.listdir(path)):
            raise InputError(f"{path}: the folder is empty; it should hold {FORMATS}")
        if parquet.found(path):
            parquet.check(path)
            return "parquet"
        if idx.found(path):
            idx.check(path)
            return "idx"
        if folder.found(path):
            folder.check(path)
            return "folder"
    except OSError as error:
        raise InputError(
            f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    raise InputError(f"{path}: no data in a known format; the folder should hold {FORMATS}")
