"""Stanford Cars, read through torchvision from stanford_cars/; its lists are MATLAB files, which scipy reads."""

from __future__ import annotations

import os

from switch_ema.data.lists import holder, inside
from switch_ema.data.table import Table, table_of_files
from switch_ema.errors import InputError

_FOLDER = "stanford_cars"
_LISTS = {"train": os.path.join("devkit", "cars_train_annos.mat"), "test": "cars_test_annos_withlabels.mat"}
_META = os.path.join("devkit", "cars_meta.mat")


def found(path: str) -> bool:
    """Say whether the folder is, or holds, stanford_cars."""
    return holder(path, _FOLDER) is not None


def check(path: str) -> None:
    """Check that the lists and image folders are there.

    Raises:
        InputError: One is missing, or a list is empty.
    """
    folder = os.path.join(holder(path, _FOLDER) or path, _FOLDER)
    for name in (*_LISTS.values(), _META):
        file = os.path.join(folder, name)
        if not os.path.isfile(file):
            raise InputError(f"{file}: no such file; Stanford Cars needs {', '.join((*_LISTS.values(), _META))}")
        if os.path.getsize(file) == 0:
            raise InputError(f"{file}: the file is empty; copy or download it again")
    for split in _LISTS:
        images = os.path.join(folder, f"cars_{split}")
        if not os.path.isdir(images):
            raise InputError(f"{images}: no such folder; it should hold the images")


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """List the images of the published training and test split.

    Args:
        path: The folder.
        image_size: Side to scale and crop the images to; None keeps them, and then all must have one size.

    Returns:
        The tables ``train`` and ``test``.

    Raises:
        InputError: A list is damaged.
    """
    from torchvision.datasets import StanfordCars

    root = holder(path, _FOLDER) or path
    found = {}
    for split, name in _LISTS.items():
        where = os.path.join(root, _FOLDER, name)
        try:
            data = StanfordCars(root, split, loader=os.path.basename)
            files = [(inside(where, str(file)), int(label)) for file, label in (data[row] for row in range(len(data)))]
        except InputError:
            raise
        except Exception as error:  # scipy meets a damaged MATLAB file with errors of many kinds
            raise InputError(f"{where}: torchvision cannot read this list ({error}); copy it again") from error
        images = os.path.join(root, _FOLDER, f"cars_{split}")
        found[split] = table_of_files(where, images, files, tuple(map(str, data.classes)), image_size)
    return found
