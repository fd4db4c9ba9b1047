"""The handwritten digits that come with scikit-learn: real 8x8 scans, no download."""

from __future__ import annotations

import numpy as np

from switch_ema.data.arrays import Pixels
from switch_ema.data.table import Table


def tables(path: str, image_size: int | None) -> dict[str, Table]:
    """Read the digits; they come without a test split, and with grey values 0 to 16.

    Args:
        path: Not used: the data are embedded.
        image_size: Scale the images to this many pixels a side; None keeps 8.

    Returns:
        One table, under ``train``.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int64)
    return {"train": Table("digits", labels, (), Pixels(images, image_size))}
