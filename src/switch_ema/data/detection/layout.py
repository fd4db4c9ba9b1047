"""Where the files of COCO and Pascal VOC folders lie, with the standard library alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeVar

from switch_ema.errors import InputError

SPLITS = ("train", "val", "test")

_YEARS = ("VOC2007", "VOC2012")
_PREFIX = "instances_"
_File = TypeVar("_File")


@dataclass(frozen=True)
class CocoFile:
    """An annotation file of one split.

    Attributes:
        path: The file.
        folders: Where its images may be, in the order in which these are searched.
    """

    path: str
    folders: tuple[str, ...]


class Listing:
    """Finds files in folders by listing each folder once, which is quicker than to look for every single file.

    Args:
        folders: The folders, in the order in which they are searched.
    """

    def __init__(self, folders: tuple[str, ...]) -> None:
        self.folders = folders
        self._names: dict[str, frozenset[str]] = {}

    def find(self, name: str) -> str | None:
        """Return the path of a file by its name, which may begin with subfolders, or None."""
        for folder in self.folders:
            path = os.path.join(folder, name)
            if os.path.basename(path) in self._in(os.path.dirname(path)):
                return path
        return None

    def _in(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            self._names[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
        return self._names[folder]


def is_coco(path: str) -> bool:
    """Say whether a folder looks like COCO: ``annotations/`` with a JSON file."""
    folder = os.path.join(path, "annotations")
    return os.path.isdir(folder) and any(name.endswith(".json") for name in os.listdir(folder))


def coco_files(path: str) -> dict[str, CocoFile]:
    """Find the annotation file of every split.

    With train and val alone, val is the test split, as results on COCO are reported.

    Args:
        path: The folder that holds ``annotations/``.

    Returns:
        The file of ``train``, and of ``val`` and ``test`` where they are there.

    Raises:
        InputError: There is none for train, there are two for one split, or one is empty; or there are no images.
    """
    folder = os.path.join(path, "annotations")
    there = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    files: dict[str, CocoFile] = {}
    for split in SPLITS:
        names = [f"{_PREFIX}{split}.json", f"{_PREFIX}{split}2017.json"]
        found = [name for name in names if name in there]
        if len(found) == 2:
            raise InputError(f"{folder}: {' and '.join(found)} are both there for the split {split}; remove one")
        if found:
            files[split] = _coco_file(path, os.path.join(folder, found[0]))
    if "train" not in files:
        raise InputError(
            f"{folder}: no {_PREFIX}train.json or {_PREFIX}train2017.json (there are {', '.join(there)}); rename the "
            "file with the training images' annotations"
        )
    if not any(os.path.isdir(images) for file in files.values() for images in file.folders[:-1]) and not _has_more(
        path
    ):
        raise InputError(f"{path}: annotations/ but no images; put them into {files['train'].folders[0]}")
    return _with_test(files)


def voc_folder(path: str) -> str | None:
    """Return the folder of one year of Pascal VOC, at `path` or just below it, or None.

    Raises:
        InputError: There are several years.
    """
    if os.path.isdir(os.path.join(path, "Annotations")) and os.path.isdir(os.path.join(path, "ImageSets")):
        return path
    years = [os.path.join(path, year) for year in _YEARS if os.path.isdir(os.path.join(path, year, "Annotations"))]
    if len(years) > 1:
        raise InputError(f"{path}: {' and '.join(_YEARS)} are both there; give the path of one, such as {years[0]}")
    return years[0] if years else None


def voc_lists(path: str, kind: str) -> dict[str, str]:
    """Find the list of images of every split of Pascal VOC.

    ``trainval.txt`` stands for train where there is no ``train.txt``; with train and val alone, val is the test split.

    Args:
        path: The folder of one year.
        kind: ``Main``, or ``Segmentation`` for the images whose objects have masks.

    Returns:
        The file of ``train``, and of ``val`` and ``test`` where they are there.

    Raises:
        InputError: There is none for train, one is empty, or there are no images.
    """
    folder = os.path.join(path, "ImageSets", kind)
    files: dict[str, str] = {}
    for split, name in (("train", "trainval"), ("train", "train"), ("val", "val"), ("test", "test")):
        if os.path.isfile(file := os.path.join(folder, f"{name}.txt")):
            _check_size(file)
            files[split] = file
    if "train" not in files:
        raise InputError(f"{folder}: neither train.txt nor trainval.txt; write the names of the training images there")
    if files["train"].endswith("trainval.txt"):
        files.pop("val", None)  # its images are among them
    if not os.path.isdir(os.path.join(path, "JPEGImages")):
        raise InputError(f"{path}: no folder JPEGImages/; put the images there")
    return _with_test(files)


def unreadable(error: OSError, path: str) -> InputError:
    """Make the error for a file that the system refuses to read."""
    return InputError(f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions")


def _with_test(files: dict[str, _File]) -> dict[str, _File]:
    if "val" in files and "test" not in files:
        return {"train": files["train"], "test": files["val"]}
    return files


def _coco_file(path: str, file: str) -> CocoFile:
    _check_size(file)
    split = os.path.basename(file).removeprefix(_PREFIX).removesuffix(".json")
    images = os.path.join(path, "images")
    return CocoFile(file, (os.path.join(path, split), os.path.join(images, split), images, path))


def _check_size(file: str) -> None:
    if os.path.getsize(file) == 0:
        raise InputError(f"{file}: the file is empty; copy or download it again")


def _has_more(path: str) -> bool:
    return any(not name.startswith(".") and name != "annotations" for name in os.listdir(path))
