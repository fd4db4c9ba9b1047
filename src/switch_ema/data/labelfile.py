"""Files of labels that people gave, such as CIFAR-N's, in the order of the images they belong to."""

from __future__ import annotations

import csv
import logging
import os
import zipfile
from typing import TYPE_CHECKING, Any

from switch_ema.errors import InputError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Labels = NDArray[np.int64]

_log = logging.getLogger(__name__)

ENDINGS = (".pt", ".pth", ".npz", ".npy", ".csv", ".txt")
"""The kinds of files that are read."""

CLEAN = "clean_label"
"""The column that must equal the data set's own labels."""


def parse(spec: str) -> tuple[str, str]:
    """Divide ``FILE`` or ``FILE:COLUMN``, and check that the file is there; needs the standard library only.

    Args:
        spec: As ``CIFAR-10_human.pt:worse_label``.

    Returns:
        The file, and the column or an empty text.

    Raises:
        InputError: There is no such file, it is empty, or of an unknown kind.

    Example:
        >>> parse("human.pt")
        Traceback (most recent call last):
        switch_ema.errors.InputError: human.pt: no such file; write FILE or FILE:COLUMN, as in human.pt:worse_label
    """
    file, column = spec, ""
    if not os.path.isfile(file) and ":" in spec:
        file, _, column = spec.rpartition(":")
    if not os.path.isfile(file):
        raise InputError(f"{file}: no such file; write FILE or FILE:COLUMN, as in human.pt:worse_label")
    if not file.lower().endswith(ENDINGS):
        raise InputError(f"{file}: not a known kind of label file (known: {' '.join(ENDINGS)})")
    if os.path.getsize(file) == 0:
        raise InputError(f"{file}: the file is empty; copy or download it again")
    return file, column


def read(file: str) -> dict[str, Labels]:
    """Read all columns of a label file; nothing in it is executed.

    A ``.pt`` file holds a dictionary of numpy arrays, as CIFAR-N's do, ``.npz`` named arrays, ``.csv`` a line of names
    and then whole numbers, ``.npy`` one array and ``.txt`` one whole number a line.

    Args:
        file: The file.

    Returns:
        Integer arrays by name, each of shape (images,); the name is empty where the file gives none.

    Raises:
        InputError: The file is damaged, or holds something else.
    """
    ending = os.path.splitext(file)[1].lower()
    readers = {".pt": _torch, ".pth": _torch, ".npz": _numpy, ".npy": _numpy, ".csv": _csv, ".txt": _text}
    found = {name: values for name, values in readers[ending](file).items() if values is not None}
    if not found:
        raise InputError(f"{file}: no labels in it; it needs arrays of whole numbers, one for each image")
    lengths = {name: len(values) for name, values in found.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{file}: columns of unequal length ({lengths}); copy or download it again")
    return found


def human_labels(spec: str, clean: Labels, num_classes: int) -> Labels:
    """Read the labels that people gave to the rows of a training file.

    Args:
        spec: ``FILE`` or ``FILE:COLUMN``.
        clean: The data set's own labels, all rows in the order of its file.
        num_classes: Number of classes.

    Returns:
        A label for every row, int64 of the shape of `clean`.

    Raises:
        InputError: The column is missing, or the file belongs to other images or to another order of them.
    """
    file, column = parse(spec)
    columns = read(file)
    labels = columns[_chosen(file, column, columns)]
    if len(labels) != len(clean):
        raise InputError(f"{file}: {len(labels)} labels for {len(clean)} training images; is it for another data set?")
    if CLEAN in columns:
        _check_order(file, columns[CLEAN], clean)
    else:
        _log.warning("%s: no column %s, so nothing tells whether its rows are in the data's order", file, CLEAN)
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < num_classes:
            raise InputError(f"{file}: label {label} out of range 0 to {num_classes - 1}; is it for another data set?")
    return labels


def _chosen(file: str, column: str, columns: dict[str, Labels]) -> str:
    noisy = [name for name in columns if name != CLEAN]
    if column and column not in columns:
        raise unknown(f"column of {file}", column, columns)
    if not column and len(noisy) != 1:
        raise InputError(f"{file}: write which labels to take, as {file}:COLUMN (columns: {', '.join(columns)})")
    return column or noisy[0]


def _check_order(file: str, theirs: Labels, clean: Labels) -> None:
    import numpy as np

    wrong = np.flatnonzero(theirs != clean)
    if len(wrong):
        raise InputError(
            f"{file}: its {CLEAN} differs from the data's own labels in {len(wrong)} of {len(clean)} rows, first in "
            f"row {wrong[0]}: the images are in another order, or of another data set; use the data it was made for"
        )


def _integers(values: Any) -> Labels | None:
    """Return a vector of whole numbers, or None where it is something else."""
    import numpy as np

    array = np.asarray(values) if isinstance(values, list | np.ndarray) else np.empty(())
    if array.ndim != 1 or not len(array):
        return None
    if array.dtype.kind not in "iu" and not (array.dtype.kind == "f" and (array == np.round(array)).all()):
        return None
    return array.astype(np.int64)


def _torch(file: str) -> dict[str, Labels | None]:
    """Read what torch.save wrote: a zip with a pickle, or, before torch 1.6, several pickles after each other."""
    from switch_ema.data.pickles import loads, loads_from

    if zipfile.is_zipfile(file):
        try:
            with zipfile.ZipFile(file) as archive:
                names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                if len(names) != 1:
                    raise InputError(f"{file}: a zip, but not one of torch.save's (it needs one data.pkl)")
                content = loads(archive.read(names[0]), file)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise InputError(f"{file}: damaged ({error}); copy or download it again") from error
    else:
        with open(file, "rb") as stream:
            content = loads_from(stream, file)
            if isinstance(content, int):  # the magic number; the format's version and the machine follow
                content = [loads_from(stream, file) for _ in range(3)][-1]
    if not isinstance(content, dict):
        return {"": _integers(content)}
    return {str(name): _integers(values) for name, values in content.items()}


def _numpy(file: str) -> dict[str, Labels | None]:
    import numpy as np

    try:
        with open(file, "rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": _integers(loaded)}
            return {name: _integers(loaded[name]) for name in loaded.files}
    except Exception as error:  # numpy meets a damaged file with errors of many kinds
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise InputError(f"{file}: not read ({reason}); save arrays of whole numbers with numpy.savez") from error


def _csv(file: str) -> dict[str, Labels | None]:
    with open(file, encoding="utf-8-sig", errors="replace", newline="") as stream:
        try:
            rows = [row for row in csv.reader(stream) if row]
        except csv.Error as error:
            raise InputError(f"{file}: not a comma-separated text ({error}); copy or download it again") from error
    names = [name.strip() for name in rows[0]] if rows else []
    return {name: _whole(file, [row[k : k + 1] for row in rows[1:]], 2) for k, name in enumerate(names)}


def _text(file: str) -> dict[str, Labels | None]:
    with open(file, encoding="utf-8-sig", errors="replace") as stream:
        return {"": _whole(file, [[line] for line in stream if line.strip()], 1)}


def _whole(file: str, cells: list[list[str]], first_line: int) -> Labels | None:
    values = []
    for line, cell in enumerate(cells, first_line):
        try:
            values.append(int(cell[0]))
        except (IndexError, ValueError):
            got = cell[0].strip()[:40] if cell else ""
            raise InputError(f"{file} line {line}: {got!r} is no label; write whole numbers from 0") from None
    return _integers(values)
