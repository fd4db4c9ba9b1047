"""A data set with a numeric target in memory, divided into training, validation and test examples."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from switch_ema.data.images import channel_statistics, equal_shapes
from switch_ema.data.numberparts import find_number_parts
from switch_ema.data.numbers import choose_target
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from switch_ema.data.numberparts import NumberPart
    from switch_ema.data.numbers import NumberSource

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Numbers:
    """Inputs and targets of one split.

    Attributes:
        inputs: Images, uint8 of shape (n, height, width, channels), or features, float64 of shape (n, features).
        targets: What to predict, float64 of shape (n,), in the target's unit.
    """

    inputs: NDArray[Any]
    targets: NDArray[np.float64]


@dataclass(frozen=True)
class NumberSet:
    """Three splits, and the statistics of the training split.

    Attributes:
        train: Training examples.
        val: Validation examples; none of them is a training example.
        test: Test examples.
        unit: Unit of the target, such as ``degrees``; empty where it is not known.
        period: After how much the target comes round again; None for what is no angle.
        input_mean: Mean of each channel on the scale 0 to 255, or of each feature.
        input_std: Standard deviation of each channel or feature; 1 for one that never changes.
        target_mean: Mean of the targets.
        target_std: Standard deviation of the targets; 1 if they are all equal.
        skipped: Number of corrupt images left out of the splits.
    """

    train: Numbers
    val: Numbers
    test: Numbers
    unit: str
    period: float | None
    input_mean: tuple[float, ...]
    input_std: tuple[float, ...]
    target_mean: float
    target_std: float
    skipped: int


@lru_cache(maxsize=2)
def load_numbers(
    source: NumberSource,
    *,
    train_size: int | None = None,
    image_size: int | None = None,
    target: str | None = None,
    full_circle: bool = False,
    skip_corrupt: bool = False,
) -> NumberSet:
    """Read a data set and divide it; several seeds in one process read it once.

    A test split of 20 % is held out where the data have none, then a validation split of 10 % of the rest, at most
    5,000. The draws are fixed (`switch_ema.data.splits.SPLIT_SEED`) and do not depend on `train_size`; a larger
    training split contains a smaller one. The arrays are shared: do not write.

    Args:
        source: What `switch_ema.data.numbers.locate_numbers` found.
        train_size: Number of training examples, corrupt ones included; None takes all.
        image_size: Side in pixels to scale and crop images to; None keeps them, if all are equal squares. Tables have
            no use for it.
        target: The column to predict, of comma-separated files; None where there is no doubt.
        full_circle: Turn the images of ``digits-rotated`` by [0, 360) degrees instead of [-60, 60).
        skip_corrupt: Leave out corrupt images of a .csv file, count them, and say so in one warning of the log, instead
            of refusing them.

    Returns:
        The three splits.

    Raises:
        InputError: Something in the files is wrong.

    Example:
        >>> from switch_ema.data.numbers import locate_numbers
        >>> len(load_numbers(locate_numbers("diabetes")).train.targets)
        319
    """
    if source.target == "" or target is not None:
        source = choose_target(source, target)
    found = find_number_parts(
        source, train_size=train_size, image_size=image_size, full_circle=full_circle, skip_corrupt=skip_corrupt
    )
    parts = _read(found)
    for split, part in parts.items():
        if not len(part.targets):
            corrupt = len(found[split].rows)
            raise InputError(f"{source.name}: no readable image in split {split} ({corrupt} corrupt); replace them")
    skipped = sum(len(found[split].rows) - len(part.targets) for split, part in parts.items())
    if skipped:
        _log.warning("%s: left out %d images that cannot be read", source.name, skipped)
    if not source.is_table:
        images = equal_shapes({split: part.inputs for split, part in parts.items()}, source.name)
        parts = {split: replace(part, inputs=images[split]) for split, part in parts.items()}
    mean, std = (_feature_statistics if source.is_table else channel_statistics)(parts["train"].inputs)
    targets = parts["train"].targets
    return NumberSet(
        **parts,
        unit=source.unit,
        period=source.period,
        input_mean=mean,
        input_std=std,
        target_mean=float(targets.mean()),
        target_std=float(targets.std()) or 1.0,
        skipped=skipped,
    )


def _read(found: dict[str, NumberPart]) -> dict[str, Numbers]:
    """Read every table once, for all splits that come from it."""
    read = {}
    for table in {id(part.table): part.table for part in found.values()}.values():
        mine = {split: part.rows for split, part in found.items() if part.table is table}
        inputs, kept = table.read(np.concatenate(list(mine.values())))
        masks = np.split(kept, np.cumsum([len(rows) for rows in mine.values()])[:-1])
        pieces = np.split(inputs, np.cumsum([mask.sum() for mask in masks])[:-1])
        for (split, rows), mask, piece in zip(mine.items(), masks, pieces, strict=True):
            read[split] = Numbers(piece, table.targets[rows[mask]])
    return {split: read[split] for split in found}


def _feature_statistics(features: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each feature."""
    spreads = features.std(axis=0)
    return tuple(features.mean(axis=0).tolist()), tuple(np.where(spreads > 0, spreads, 1.0).tolist())
