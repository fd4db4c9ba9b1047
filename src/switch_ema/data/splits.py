"""Fixed, stratified splits, and wrong labels on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

SPLIT_SEED = 20240214
"""Seed of every split: the same images are held out in every run, whatever the run's own seed."""


def divide(
    labels: Rows, hold_out: Sequence[str], *, train_size: int | None = None, where: str = "the data"
) -> dict[str, Rows]:
    """Divide the rows of a training table into splits that do not overlap.

    First a test split of 20 % is taken (for data that come without one), then a validation split of 10 % of the
    rest, at most 5,000, and last `train_size` of what remains. All draws are stratified and fixed: they depend on the
    labels alone. The validation split is therefore the same for every `train_size`.

    Args:
        labels: Class of each row.
        hold_out: Which splits to take from these rows: ``test``, ``val``, both in this order, or none.
        train_size: Number of training rows to keep; None keeps all.
        where: Name of the data, for messages.

    Returns:
        Sorted row numbers under ``train`` and the names in `hold_out`.

    Raises:
        InputError: There are too few rows for that.
    """
    parts: dict[str, Rows] = {}
    rest = np.arange(len(labels))
    classes = len(np.unique(labels))
    for split in hold_out:
        left = len(rest) - _held_out_size(split, len(rest))
        if left < classes:
            raise InputError(f"{where}: {len(labels)} training images of {classes} classes; too few to hold some out")
        kept = _pick(labels, rest, left)
        parts[split], rest = np.setdiff1d(rest, kept), kept
    if train_size is not None:
        if not classes <= train_size <= len(rest):
            raise InputError(f"{where}: train size {train_size}: write {classes} (one per class) to {len(rest)}")
        rest = _pick(labels, rest, train_size)
    parts["train"] = rest
    return parts


def flip_labels(labels: Rows, rate: float, num_classes: int, seed: int) -> Rows:
    """Make exactly ``round(rate * len(labels))`` labels wrong: symmetric label noise.

    Which ones, and the wrong class of each (uniform among the others), is drawn from `seed`. Meant for training
    labels only: validation and test labels stay clean.

    Args:
        labels: The true classes.
        rate: Share of labels to change, in [0, 1].
        num_classes: Number of classes.
        seed: The run's seed.

    Returns:
        A new array.
    """
    generator = np.random.default_rng(seed)
    wrong = generator.choice(len(labels), size=round(rate * len(labels)), replace=False)
    shift = generator.integers(1, num_classes, size=len(wrong))
    noisy = labels.copy()
    noisy[wrong] = (noisy[wrong] + shift) % num_classes
    return noisy


def _held_out_size(split: str, count: int) -> int:
    size = round(0.2 * count) if split == "test" else min(5000, round(0.1 * count))
    return max(1, size)


def _pick(labels: Rows, rows: Rows, size: int) -> Rows:
    """Choose `size` of the rows, every class by its share but at least once."""
    classes, counts = np.unique(labels[rows], return_counts=True)
    exact = counts * (size / len(rows))
    quotas = np.maximum(1, np.floor(exact).astype(np.int64))
    while (missing := size - quotas.sum()) != 0:  # largest remainder; a class raised to one may have to be paid for
        step = 1 if missing > 0 else -1
        open_classes = quotas < counts if step > 0 else quotas > 1
        gain = np.where(open_classes, step * (exact - quotas), -np.inf)
        quotas[np.argmax(gain)] += step
    generator = np.random.default_rng(SPLIT_SEED)
    chosen = [generator.permutation(rows[labels[rows] == k])[:quota] for k, quota in zip(classes, quotas, strict=True)]
    return np.sort(np.concatenate(chosen))
