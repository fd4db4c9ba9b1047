"""What the task with points in the plane accepts, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from switch_ema.data.points import FEWEST, LARGEST, check_point_set
from switch_ema.errors import FieldError
from switch_ema.libraries import require
from switch_ema.tasks.options import Option, nonnegative, read_options, share, whole

MODELS = {"points-mlp": "two hidden layers of --width units, no normalisation"}
"""The networks, each with one line that describes it."""

OPTIONS: Mapping[str, Option] = {
    "train_size": Option("number of training points, drawn by the seed; 50 by default", whole),
    "val_size": Option("number of validation points, the same for every seed; 500 by default", whole),
    "test_size": Option("number of test points, the same for every seed; 500 by default", whole),
    "noise": Option("standard deviation of each coordinate about the curve; 0.2 by default", nonnegative),
    "factor": Option("radius of the inner circle, 0 to below 1; 0.5 by default", share),
    "label_noise": Option("share of the training labels to make wrong, 0 to 1", share),
    "width": Option("units of each hidden layer; 64 by default", whole),
}
"""The options of `switch_ema.tasks.points.PointClasses`."""

_SIZES = ("train_size", "val_size", "test_size")


@dataclass(frozen=True)
class Chosen:
    """Values of `OPTIONS`, with their defaults."""

    train_size: int = 50
    val_size: int = 500
    test_size: int = 500
    noise: float = 0.2
    factor: float = 0.5
    label_noise: float = 0.0
    width: int = 64


def check(data: str, model: str, options: Mapping[str, Any]) -> None:
    """Refuse what is wrong with a request for points in the plane, before anything heavy is imported.

    Args:
        data: One of `switch_ema.data.points.POINT_SETS`.
        model: Name of the network; not checked here.
        options: Values or texts by name (see `OPTIONS`).

    Raises:
        InputError: The data are unknown, an option is unknown or out of range, or they do not go together.

    Example:
        >>> check("moons", "points-mlp", {"factor": 0.3})
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: factor 0.3: moons has no inner circle; leave it out
    """
    require("points", "sklearn")
    values = read_options(OPTIONS, options)
    check_point_set(data)
    for name in _SIZES:
        if name in values and not FEWEST <= values[name] <= LARGEST:
            raise FieldError(name, f"{values[name]}: write {FEWEST} to {LARGEST}")
    factor = values.get("factor")
    if factor is not None and data != "circles":
        raise FieldError("factor", f"{factor:g}: {data} has no inner circle; leave it out")
    if factor == 1:
        raise FieldError("factor", "1: both circles would be the same; write 0 to below 1, such as 0.5")
