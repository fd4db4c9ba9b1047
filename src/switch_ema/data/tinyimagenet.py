"""Tiny-ImageNet as it is published: train/<wnid>/images/*.JPEG, val/images/ and val/val_annotations.txt, wnids.txt."""

from __future__ import annotations

import os

from switch_ema.data.folder import image_names
from switch_ema.data.lists import inside, lines
from switch_ema.data.table import Table, table_of_files
from switch_ema.errors import InputError

_FOLDER = "tiny-imagenet-200"


def found(path: str) -> bool:
    """Say whether the folder is, or holds, tiny-imagenet-200."""
    return _folder(path) is not None


def check(path: str) -> None:
    """Check that every class has images, and the list of the labelled test images, which are called val.

    Raises:
        InputError: A class has no images, or a list is missing, damaged or names an unknown class.
    """
    folder = _folder(path) or path
    for name in _classes(folder):
        directory = os.path.join(folder, "train", name, "images")
        if not os.path.isdir(directory):
            raise InputError(f"{directory}: no such folder, though wnids.txt lists the class; copy the data again")
        if next(image_names(directory), None) is None:
            raise InputError(f"{directory}: no images in this class folder; copy the data again")
    _annotated(folder)


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """List the images; val/ is the test split, because the published test images have no labels.

    Args:
        path: The folder.
        image_size: Side to scale and crop the images to; None keeps 64.

    Returns:
        The tables ``train`` and ``test``; classes are in the order of their wnids.

    Raises:
        InputError: As `check`.
    """
    folder = _folder(path) or path
    train = os.path.join(folder, "train")
    files = [
        (os.path.join(name, "images", file), label)
        for label, name in enumerate(_classes(folder))
        for file in sorted(image_names(os.path.join(train, name, "images")))
    ]
    names, val = _names(folder), os.path.join(folder, "val", "images")
    return {
        "train": table_of_files(train, train, files, names, image_size),
        "test": table_of_files(val, val, _annotated(folder), names, image_size),
    }


def _folder(path: str) -> str | None:
    for folder in (path, os.path.join(path, _FOLDER)):
        if os.path.isfile(os.path.join(folder, "wnids.txt")):
            return folder
    return None


def _classes(folder: str) -> list[str]:
    file = os.path.join(folder, "wnids.txt")
    names = sorted(inside(file, name) for (name,) in lines(file, 1))
    if len(set(names)) < len(names):
        raise InputError(f"{file}: a class is listed twice; copy it again")
    return names


def _annotated(folder: str) -> list[tuple[str, int]]:
    file = os.path.join(folder, "val", "val_annotations.txt")
    order = {name: label for label, name in enumerate(_classes(folder))}
    files = []
    for image, name, *_ in lines(file, 2, "\t"):
        wnid = name.split("\t")[0]
        if wnid not in order:
            raise InputError(f"{file}: image {image} has class {wnid!r}, which wnids.txt lacks; copy both again")
        files.append((inside(file, image), order[wnid]))
    return files


def _names(folder: str) -> tuple[str, ...]:
    """Return the first word for each class from words.txt, or the wnid where there is none."""
    file = os.path.join(folder, "words.txt")
    words = {line[0]: line[1] for line in lines(file, 2, "\t")} if os.path.isfile(file) else {}
    return tuple(words.get(name, name).split(",")[0] for name in _classes(folder))
