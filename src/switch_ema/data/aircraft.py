"""FGVC-Aircraft, read through torchvision from fgvc-aircraft-2013b/; the classes are the 100 variants."""

from __future__ import annotations

import os

from switch_ema.data.lists import holder, lines
from switch_ema.data.table import Table, table_of_files
from switch_ema.errors import InputError

_FOLDER = "fgvc-aircraft-2013b"
_SPLITS = ("train", "val", "test")


def found(path: str) -> bool:
    """Say whether the folder is, or holds, fgvc-aircraft-2013b."""
    return holder(path, _FOLDER) is not None


def check(path: str) -> None:
    """Check the lists of images.

    Raises:
        InputError: A list is missing or damaged, or names an unknown variant.
    """
    data = os.path.join(holder(path, _FOLDER) or path, _FOLDER, "data")
    variants = {name for (name,) in lines(os.path.join(data, "variants.txt"), 1)}
    for split in _SPLITS:
        file = os.path.join(data, f"images_variant_{split}.txt")
        for image, variant in lines(file, 2, " "):
            if variant not in variants:
                raise InputError(f"{file}: image {image} is {variant!r}, which variants.txt lacks; copy both again")
    if not os.path.isdir(os.path.join(data, "images")):
        raise InputError(f"{os.path.join(data, 'images')}: no such folder; it should hold the images")


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """List the images of the three published splits.

    Args:
        path: The folder.
        image_size: Side to scale and crop the images to; None keeps them, and then all must have one size.

    Returns:
        The tables ``train``, ``val`` and ``test``.

    Raises:
        InputError: torchvision finds them damaged.
    """
    from torchvision.datasets import FGVCAircraft

    root = holder(path, _FOLDER) or path
    images = os.path.join(root, _FOLDER, "data", "images")
    found = {}
    for split in _SPLITS:
        where = os.path.join(root, _FOLDER, "data", f"images_variant_{split}.txt")
        try:
            data = FGVCAircraft(root, split, loader=os.path.basename)
            files = [data[row] for row in range(len(data))]
        except (ValueError, KeyError, RuntimeError, OSError) as error:
            raise InputError(f"{where}: torchvision cannot read this list ({error}); copy it again") from error
        found[split] = table_of_files(where, images, files, tuple(data.classes), image_size)
    return found
