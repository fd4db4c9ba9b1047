"""Records of the study of the noisy quadratic: choosing among them, counting and naming."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]
Records = Sequence[Record]
NAMES = {"sgd": "SGD", "ema": "EMA", "switch": "Switch EMA"}
STEP = "step (learning rate times curvature)"


def only(records: Records, **where: object) -> list[Record]:
    """Return the records with these values."""
    return [record for record in records if all(record[key] == value for key, value in where.items())]


def values(records: Records, key: str) -> list[Any]:
    """Return the values that occur, the lowest first."""
    return sorted({record[key] for record in records})


def small(settings: Records) -> list[Record]:
    """Return the settings at steps below 1."""
    return [setting for setting in settings if setting["step"] < 1]


def large(settings: Records) -> list[Record]:
    """Return the settings at steps above 1."""
    return [setting for setting in settings if setting["step"] > 1]


def below(record: Record, one: str, other: str) -> bool:
    """Return whether the size of one number is below that of another, beyond rounding."""
    return bool(abs(record[one]) < abs(record[other]) * (1 - 1e-9))


def order(records: Records, one: str, other: str) -> str:
    """Say in how many settings one number is below another: ``all 8 settings``, ``6 of 8 settings (above in 1)``."""
    less = sum(below(record, one, other) for record in records)
    more = sum(below(record, other, one) for record in records)
    if less == len(records):
        return f"all {less} settings"
    return f"{less or 'none'} of {len(records)} settings (above in {more or 'none'})"


def percent(share: float) -> str:
    """Write a share, such as ``12 %`` or ``0.3 %``."""
    rounded = f"{100 * share:.0f}" if share >= 0.095 else f"{100 * share:.2g}" if share >= 1e-4 else "less than 0.01"
    return f"{rounded} %"
