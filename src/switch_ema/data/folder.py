"""Image files in one folder per class, as torchvision's ImageFolder has them.

Either below train/ and test/ (or val/), or directly, when a test split is held out of the images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from switch_ema.data.table import Table, table_of_files
from switch_ema.errors import InputError

_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def found(path: str) -> bool:
    """Say whether the folder holds split folders, or class folders with images."""
    return any(name in ("train", "val", "test") or _has_image(os.path.join(path, name)) for name in _folders(path))


def check(path: str) -> None:
    """Check the class folders of every split.

    Raises:
        InputError: A split is missing, has fewer than two classes or other classes than train, or a class is empty.
    """
    layout = _layout(path)
    classes = _folders(layout["train"])
    for directory in layout.values():
        names = _folders(directory)
        if len(names) < 2:
            raise InputError(
                f"{directory}: {len(names)} class folder(s); put the images into one folder per class, at least two"
            )
        for name in names:
            if not _has_image(os.path.join(directory, name)):
                raise InputError(
                    f"{os.path.join(directory, name)}: no images in this class folder; add some or remove it "
                    f"(known: {' '.join(_ENDINGS)})"
                )
        if names != classes:
            odd = ", ".join(sorted(set(names) ^ set(classes)))
            raise InputError(
                f"{directory}: class folders differ from those of {layout['train']} in {odd}; make them equal"
            )


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """List the images of every split.

    Args:
        path: The folder.
        image_size: Side to scale and crop the images to; None keeps them, and then all must have one size.

    Returns:
        The table ``train``; also ``test``, and ``val`` when train/, val/ and test/ are all there.
    """
    return {split: _table(directory, image_size) for split, directory in _layout(path).items()}


def _layout(path: str) -> dict[str, str]:
    """Map each split to its folder; with train/ and val/ alone, as ImageNet has it, val/ is the test split."""
    folders = _folders(path)
    there: dict[str, str] = {split: os.path.join(path, split) for split in ("train", "val", "test") if split in folders}
    if not there:
        return {"train": path}
    if "train" not in there:
        raise InputError(f"{path}: no folder train/ beside {' and '.join(there)}/; add it")
    if len(there) == 1:
        raise InputError(
            f"{path}: train/ but neither test/ nor val/; add one, or give {there['train']} to have one held out"
        )
    if "test" not in there:
        there["test"] = there.pop("val")
    return there


def _table(directory: str, image_size: int | None) -> Table:
    classes = _folders(directory)
    files = [
        (os.path.join(name, file), label)
        for label, name in enumerate(classes)
        for file in sorted(image_names(os.path.join(directory, name)))
    ]
    return table_of_files(directory, directory, files, tuple(classes), image_size)


def image_names(directory: str) -> Iterator[str]:
    """List the names of the image files in a folder, in no order."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.lower().endswith(_ENDINGS) and not entry.name.startswith("."):
                yield entry.name


def _folders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _has_image(directory: str) -> bool:
    return next(image_names(directory), None) is not None
