"""CUB-200-2011 (birds) as it is published: CUB_200_2011/ with images/ and lists of labels and splits."""

from __future__ import annotations

import os

from switch_ema.data.lists import inside, numbered
from switch_ema.data.table import Table, table_of_files
from switch_ema.errors import InputError

_FOLDER = "CUB_200_2011"
_IMAGES, _LABELS, _SPLIT, _CLASSES = "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"


def found(path: str) -> bool:
    """Say whether the folder is, or holds, CUB_200_2011."""
    return _folder(path) is not None


def check(path: str) -> None:
    """Check the lists, and that they speak of the same images.

    Raises:
        InputError: A list is missing, damaged, or lists other images or classes than the others.
    """
    folder = _folder(path) or path
    _rows(folder)
    if not os.path.isdir(os.path.join(folder, "images")):
        raise InputError(f"{os.path.join(folder, 'images')}: no such folder; it should hold the images")


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """List the images of the published training and test split.

    Args:
        path: The folder.
        image_size: Side to scale and crop the images to; None keeps them, and then all must have one size.

    Returns:
        The tables ``train`` and ``test``.

    Raises:
        InputError: As `check`.
    """
    folder = _folder(path) or path
    classes, rows = _rows(folder)
    names = tuple(name.partition(".")[2] or name for name in classes)  # "017.Cardinal"
    images = os.path.join(folder, "images")
    parts = {split: [row[:2] for row in rows if row[2] == flag] for split, flag in (("train", "1"), ("test", "0"))}
    where = os.path.join(folder, _LABELS)
    return {split: table_of_files(where, images, files, names, image_size) for split, files in parts.items()}


def _folder(path: str) -> str | None:
    for folder in (path, os.path.join(path, _FOLDER)):
        if os.path.isfile(os.path.join(folder, _LABELS)) or os.path.isfile(os.path.join(folder, _SPLIT)):
            return folder
    return None


def _rows(folder: str) -> tuple[list[str], list[tuple[str, int, str]]]:
    """Return the names of the classes, and path, label and split flag of every image."""
    lists = {name: os.path.join(folder, name) for name in (_IMAGES, _LABELS, _SPLIT, _CLASSES)}
    images, labels, split, classes = (numbered(file) for file in lists.values())
    for name, listed in ((_LABELS, labels), (_SPLIT, split)):
        if listed.keys() != images.keys():
            odd = min(listed.keys() ^ images.keys())
            raise InputError(f"{lists[name]}: lists other images than {_IMAGES}, such as number {odd}; copy both again")
    order = {number: position for position, number in enumerate(classes)}
    rows = []
    for number, name in images.items():
        if labels[number] not in order:
            raise InputError(
                f"{lists[_LABELS]}: image {number} has class {labels[number]}, which {_CLASSES} lacks; copy both again"
            )
        if split[number] not in ("0", "1"):
            raise InputError(f"{lists[_SPLIT]}: image {number} has {split[number]!r}; it must be 1 (train) or 0 (test)")
        rows.append((inside(lists[_IMAGES], name), order[labels[number]], split[number]))
    return list(classes.values()), rows
