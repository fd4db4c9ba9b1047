"""Tables: vectors of numbers and one number to predict from them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data.numbertable import NumberTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from switch_ema.data.sheet import Sheet

    Floats = NDArray[np.float64]


def diabetes() -> dict[str, NumberTable]:
    """Read scikit-learn's diabetes data: ten measurements, and the progress of the disease a year later.

    Returns:
        One table, under ``train``.
    """
    from sklearn.datasets import load_diabetes

    features, targets = load_diabetes(return_X_y=True, scaled=False)
    return {"train": _table(features, targets)}


def tables(sheet: Sheet, target: str) -> dict[str, NumberTable]:
    """Take the numeric columns of a file as features.

    Args:
        sheet: The file.
        target: Name of the column to predict.

    Returns:
        The table ``train``; also ``val`` and ``test`` where the file has rows for them.
    """
    features = np.array([sheet.numbers(name) for name in sheet.feature_columns(target)]).T
    targets = np.array(sheet.numbers(target))
    return {split: _table(features[rows], targets[rows]) for split, rows in sheet.splits().items()}


def _table(features: Floats, targets: Floats) -> NumberTable:
    return NumberTable(np.asarray(targets, np.float64), partial(_read, np.asarray(features, np.float64)))


def _read(features: Floats, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
    return features[rows], np.ones(len(rows), np.bool_)
