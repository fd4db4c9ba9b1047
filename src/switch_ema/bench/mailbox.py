"""What lies between the runs of a comparison on a cluster and its head; an own process, so nothing large is loaded."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from switch_ema.bench.results import Row

Files = dict[str, bytes]
"""Contents by path, relative to a folder."""


class Mailbox:
    """An actor that holds, for every training run, what it has written by its last checkpoint, and what is news."""

    def __init__(self) -> None:
        self._files: dict[str, Files] = {}
        self._changes: dict[str, tuple[Files, Collection[str]]] = {}
        self._epochs: list[tuple[str, int, list[Row]]] = []

    def keep(self, run: str, files: Files, names: Collection[str]) -> None:
        """Hold what a run has written: the files that are new or changed, and the names of all there are."""
        held = {**self._files.get(run, {}), **files}
        self._files[run] = {name: held[name] for name in names}
        untaken, _ = self._changes.get(run, ({}, ()))
        self._changes[run] = ({**untaken, **files}, names)

    def tell(self, run: str, epoch: int, rows: list[Row]) -> None:
        """Hear of an epoch."""
        self._epochs.append((run, epoch, rows))

    def take(self) -> tuple[list[tuple[str, int, list[Row]]], dict[str, tuple[Files, Collection[str]]]]:
        """Return the epochs and the changes of files that came since the last call."""
        news = self._epochs, self._changes
        self._epochs, self._changes = [], {}
        return news

    def files(self, run: str) -> Files:
        """Return what a run has written by its last checkpoint."""
        return self._files.get(run, {})

    def forget(self, run: str) -> None:
        """Drop the files of a finished run."""
        self._files.pop(run, None)
        self._changes.pop(run, None)
