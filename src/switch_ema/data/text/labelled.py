"""What `--data` accepts where a text is to be classified: names of data sets, folders and .csv files.

Everything here needs the standard library only, so that a wrong path is refused at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from switch_ema.data.root import data_root
from switch_ema.errors import InputError, unknown

DATASETS = {
    "pydoc-topics": "passages of Python's language reference, which comes with Python; the class is one of 12 topics",
    "yelp": "reviews of shops and restaurants, and their stars or their polarity, from $SEMA_DATA/yelp",
}
"""The named data sets, each with one line that describes it."""

FORMATS = (
    "train.csv and test.csv (label and text, with or without these names in the first line) or train.parquet and "
    "test.parquet (columns label and text), each whole or in numbered parts; or one .csv file"
)
"""What another folder or file may hold; a missing test or validation file is held out of the training texts."""

_SPLITS = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}


@dataclass(frozen=True)
class Source:
    """A data set that was found and passed the cheap checks.

    Attributes:
        name: The name or path as the user gave it.
        format: ``topics``, ``csv`` or ``parquet``.
        files: Each split, ``train`` first, with the files to read one after the other; empty for embedded data.
    """

    name: str
    format: str
    files: tuple[tuple[str, tuple[str, ...]], ...] = ()


def locate(spec: str) -> Source:
    """Find a data set and check all that can be checked in milliseconds.

    Args:
        spec: A name from `DATASETS`, or the path of a folder or .csv file (see `FORMATS`). Named sets that are not
            embedded lie below the folder in the environment variable ``SEMA_DATA`` (default ``../shared/data``).

    Returns:
        Where the data lie and how to read them.

    Raises:
        InputError: Nothing is there, or no training file is, or a file is empty.

    Example:
        >>> locate("pydoc-topics")
        Source(name='pydoc-topics', format='topics', files=())
    """
    if spec == "pydoc-topics":
        return Source(spec, "topics")
    path = os.path.join(data_root(), spec) if spec in DATASETS else spec
    if os.path.isdir(path):
        source = _in_folder(spec, path)
    elif spec in DATASETS:
        raise InputError(
            f"data set {spec!r} not found: no folder {path} with {FORMATS}; set SEMA_DATA to the folder that holds "
            f"{spec}/, or write --data pydoc-topics"
        )
    elif os.path.isfile(path):
        if not path.lower().endswith(".csv"):
            raise InputError(f"{path}: not a .csv file; give one, or a folder with {FORMATS}")
        source = Source(spec, "csv", (("train", (path,)),))
    else:
        raise unknown("data set, folder or .csv file", spec, DATASETS, hint=f"or the path of a folder with {FORMATS}")
    for _, files in source.files:
        for file in files:
            if not os.path.getsize(file):
                raise InputError(f"{file}: the file is empty; copy or download it again")
    return source


def _in_folder(spec: str, path: str) -> Source:
    """List the files of each split, which lie in the folder or in data/ below it."""
    for folder in (path, os.path.join(path, "data")):
        try:
            names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        except OSError as error:
            raise InputError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error
        for format_ in ("csv", "parquet"):
            there = {
                split: tuple(os.path.join(folder, name) for name in names if _belongs(name, words, format_))
                for split, words in _SPLITS.items()
            }
            if there["train"]:
                return Source(spec, format_, tuple((split, files) for split, files in there.items() if files))
    raise InputError(f"{path}: no train.csv or train.parquet in this folder; it should hold {FORMATS}")


def _belongs(name: str, words: tuple[str, ...], format_: str) -> bool:
    """Say whether a file is one of a split, as ``train.csv`` or ``train-00000-of-00002.parquet``."""
    stem, _, end = name.rpartition(".")
    return end == format_ and any(stem == word or stem.startswith(f"{word}-") for word in words)
