"""What a tracker is told: the runs of a comparison, one for each method, learning rate and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from switch_ema.bench.methods import slug
from switch_ema.bench.results import Row

Value = bool | int | float | str


@dataclass(frozen=True)
class LoggedRun:
    """One method at one learning rate and seed.

    Attributes:
        group: Name of the comparison that it belongs to.
        method: Label of the method.
        lr: Nominal learning rate.
        seed: Seed.
        record: Content of ``run.json``.
    """

    group: str
    method: str
    lr: float
    seed: int
    record: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What tells it from the others of its comparison."""
        return f"{self.method} lr={self.lr:g} seed={self.seed}"

    @property
    def path(self) -> str:
        """Its key, fit for a folder."""
        return f"{slug(self.method)}/lr{self.lr:g}-seed{self.seed}"

    @property
    def identity(self) -> str:
        """What tells it from all other runs: the same whenever the same comparison is continued."""
        return hashlib.sha256(f"{self.record['started']} {self.group} {self.key}".encode()).hexdigest()[:16]

    @cached_property
    def started(self) -> float:
        """When the comparison began, in seconds since 1970."""
        return datetime.fromisoformat(self.record["started"]).timestamp()

    @cached_property
    def settings(self) -> dict[str, Value]:
        """What was asked for, in plain values."""
        values = {name: _plain(value) for name, value in self.record["asked"].items() if name != "methods"}
        return {**values, "method": self.method, "lr": self.lr, "seed": self.seed}


class Logger(Protocol):
    """A tracker.

    Attributes:
        whole: Whether it takes a run when it is finished, not epoch by epoch.
    """

    whole: bool

    def log(self, run: LoggedRun, rows: Iterable[Row], finished: bool) -> None:
        """Write measurements and get them to the disk; those of one epoch stand together, in rising order."""

    def close(self) -> None:
        """End what is open."""


def by_epoch(rows: Iterable[Row]) -> Iterator[tuple[Row, dict[str, float]]]:
    """Yield for each epoch its first row, and its metrics by names such as ``test/accuracy``; lost values are left out.

    Args:
        rows: Measurements of one run, in rising order.
    """
    epochs: dict[int, list[Row]] = {}
    for row in rows:
        epochs.setdefault(row.epoch, []).append(row)
    for found in epochs.values():
        yield found[0], {f"{row.split}/{row.metric}": row.value for row in found if row.value is not None}


def _plain(value: Any) -> Value:
    return value if isinstance(value, (bool, int, float, str)) else str(value)
