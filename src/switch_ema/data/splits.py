"""Fixed, stratified splits, and wrong labels on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data.labelfile import human_labels
from switch_ema.errors import InputError, unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

NOISE_KINDS = ("symmetric", "pair-flip", "human")
"""Kinds of wrong labels (see `noisy_labels`)."""

SPLIT_SEED = 20240214
"""Seed of every split: the same images are held out in every run, whatever the run's own seed."""


def divide(
    labels: Rows,
    hold_out: Sequence[str],
    *,
    train_size: int | None = None,
    val_share: float | None = None,
    where: str = "the data",
) -> dict[str, Rows]:
    """Divide the rows of a training table into splits that do not overlap.

    First a test split of 20 % is taken (for data that come without one), then a validation split of 10 % of the
    rest, at most 5,000, or of `val_share`, and last `train_size` of what remains. All draws are stratified and fixed:
    they depend on the labels alone. The validation split is therefore the same for every `train_size`.

    Args:
        labels: Class of each row.
        hold_out: Which splits to take from these rows: ``test``, ``val``, both in this order, or none.
        train_size: Number of training rows to keep; None keeps all.
        val_share: Share of the rows without the test split that validation takes, in (0, 1), however many these are.
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
        left = len(rest) - held_out_size(split, len(rest), val_share)
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


def noisy_labels(
    labels: Rows,
    kind: str,
    rate: float,
    num_classes: int,
    seed: int,
    *,
    file: str = "",
    rows: Rows | None = None,
    source_labels: Rows | None = None,
) -> Rows:
    """Make training labels wrong in one of three ways; validation and test labels are meant to stay clean.

    ``symmetric``: exactly ``round(rate * len(labels))`` labels become one of the other classes, each alike.
    ``pair-flip``: as many labels k become ``(k + 1) mod num_classes``.
    ``human``: the labels that people gave, from a file such as CIFAR-N's ``CIFAR-10_human.pt:worse_label``, which must
    be in the order of the training file; `rate` and `seed` do not count.

    Args:
        labels: The true classes of the training images.
        kind: One of `NOISE_KINDS`.
        rate: Share of labels to change, in [0, 1].
        num_classes: Number of classes.
        seed: The run's seed.
        file: For ``human``: ``FILE`` or ``FILE:COLUMN`` (see `switch_ema.data.labelfile.read`).
        rows: For ``human``: which rows of the training file the labels belong to; None for all in order.
        source_labels: For ``human``: the true classes of all rows of the training file; None for `labels`.

    Returns:
        A new array.

    Raises:
        InputError: The kind is unknown, the rate out of range, or the file does not belong to the data.

    Example:
        >>> noisy_labels(np.array([0, 1, 2]), "pair-flip", 1.0, 3, seed=0).tolist()
        [1, 2, 0]
    """
    if kind not in NOISE_KINDS:
        raise unknown("kind of label noise", kind, NOISE_KINDS)
    if kind == "human":
        if not file:
            raise InputError("label noise 'human': name the label file, such as CIFAR-10_human.pt:worse_label")
        human = human_labels(file, labels if source_labels is None else source_labels, num_classes)
        return human if rows is None else human[rows]
    if not 0 <= rate <= 1:
        raise InputError(f"label noise {rate!r}: write a share from 0 to 1, such as 0.4")
    return flip_labels(labels, rate, num_classes, seed, pair=kind == "pair-flip")


def flip_labels(labels: Rows, rate: float, num_classes: int, seed: int, *, pair: bool = False) -> Rows:
    """Make exactly ``round(rate * len(labels))`` labels wrong.

    Which ones, and the wrong class of each (uniform among the others), is drawn from `seed`. Meant for training
    labels only: validation and test labels stay clean.

    Args:
        labels: The true classes.
        rate: Share of labels to change, in [0, 1].
        num_classes: Number of classes.
        seed: The run's seed.
        pair: Take the next class, ``(k + 1) mod num_classes``, for a wrong one; the same labels are wrong as without.

    Returns:
        A new array.
    """
    generator = np.random.default_rng(seed)
    wrong = generator.choice(len(labels), size=round(rate * len(labels)), replace=False)
    shift = 1 if pair else generator.integers(1, num_classes, size=len(wrong))
    noisy = labels.copy()
    noisy[wrong] = (noisy[wrong] + shift) % num_classes
    return noisy


def held_out_size(split: str, count: int, val_share: float | None = None) -> int:
    """Return how many of `count` rows a split takes: 20 % for ``test``, else 10 % but at most 5,000; at least 1.

    With `val_share` it is that share for ``val``.
    """
    if split == "test":
        return max(1, round(0.2 * count))
    return max(1, min(5000, round(0.1 * count)) if val_share is None else round(val_share * count))


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
