"""A data set of texts with classes in memory, divided into training, validation and test texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data.splits import divide
from switch_ema.data.text.reviews import Labelled, read
from switch_ema.data.text.topics import TOPICS, passages
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from switch_ema.data.text.labelled import Source


@dataclass(frozen=True)
class Texts:
    """The texts of one split.

    Attributes:
        texts: The texts.
        labels: Number of the class of each, int64 of shape (n,).
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.int64]) -> Texts:
        """Return some of them, by their numbers."""
        return Texts(tuple(self.texts[row] for row in rows), self.labels[rows])


@dataclass(frozen=True)
class TextSet:
    """Three splits; of few texts held out, a rare class may have none.

    Attributes:
        train: Training texts.
        val: Validation texts; none of them is a training text.
        test: Test texts.
        class_names: Name of each class, in order: a topic, or the label as the files have it.
    """

    train: Texts
    val: Texts
    test: Texts
    class_names: tuple[str, ...]


@lru_cache(maxsize=2)
def load(source: Source, *, train_size: int | None = None) -> TextSet:
    """Read a data set and divide it; several seeds in one process read it once.

    A test split of 20 % is held out where the data have none, then a validation split of 10 % of the rest, at most
    5,000. The draws are stratified and fixed (see `switch_ema.data.splits.divide`). Classes are numbered in the order
    of their labels. The arrays are shared: do not write.

    Args:
        source: What `switch_ema.data.text.labelled.locate` found.
        train_size: Number of training texts, a stratified subset; None takes all.

    Returns:
        The three splits.

    Raises:
        InputError: Something in the files is wrong, they do not have the same labels, or there are too few texts.

    Example:
        >>> from switch_ema.data.text.labelled import locate
        >>> len(load(locate("pydoc-topics"), train_size=100).train.texts)
        100
    """
    if source.format == "topics":
        parts = {split: _topics(found) for split, found in passages().items()}
        class_names: tuple[str, ...] = TOPICS
    else:
        read_ = {split: read(source.format, files) for split, files in source.files}
        values = _common_labels(read_)
        parts = {split: Texts(part.texts, np.searchsorted(values, part.labels)) for split, part in read_.items()}
        class_names = tuple(str(value) for value in values)
    hold_out = [split for split in ("test", "val") if split not in parts]
    rows = divide(parts["train"].labels, hold_out, train_size=train_size, where=source.name)
    train = parts["train"]
    parts.update({split: train[chosen] for split, chosen in rows.items()})
    return TextSet(parts["train"], parts["val"], parts["test"], class_names)


def _topics(found: list[tuple[str, int]]) -> Texts:
    return Texts(tuple(text for text, _ in found), np.array([number for _, number in found], np.int64))


def _common_labels(parts: Mapping[str, Labelled]) -> list[int]:
    """Return the sorted labels, after checking that all splits have the same ones."""
    train = parts["train"]
    for part in parts.values():
        for one, other in ((part, train), (train, part)):
            for label in sorted(one.first.keys() - other.first.keys()):
                raise InputError(
                    f"{one.first[label]}: label {label} does not occur in {other.where}; all files need the same labels"
                )
    if len(train.first) < 2:
        label, place = next(iter(train.first.items()))
        raise InputError(f"{place}: label {label} is the only one in the training texts; there must be two or more")
    return sorted(train.first)
