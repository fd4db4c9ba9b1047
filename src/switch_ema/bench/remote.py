"""What of a comparison happens on the nodes of a cluster: a look at the problem, training, and the mailbox for both."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from switch_ema.averaging.files import write_atomically
from switch_ema.bench.compare import look, make_fabric
from switch_ema.bench.machine import quiet
from switch_ema.bench.plan import Trajectory
from switch_ema.bench.request import make_task
from switch_ema.bench.results import Row, Store
from switch_ema.bench.settings import Settings
from switch_ema.errors import InputError

Files = dict[str, bytes]
"""Contents by path, relative to a folder."""

Stamps = Mapping[str, tuple[int, int]]
"""Time and size of files."""

_LAST = ("checkpoint.pt", "progress.json")  # what they speak of must lie there before them


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


def look_there(settings: Settings, num_threads: int, cwd: str) -> dict[str, Any]:
    """Return what `switch_ema.bench.compare.look` finds on a node."""
    with _prepared(num_threads, cwd):
        return look(settings, make_fabric(settings))


def train_there(
    settings: Settings,
    trajectory: Trajectory,
    steps_per_epoch: int,
    num_threads: int,
    cwd: str,
    shown: str,
    mailbox: Any,
) -> Files:
    """Train a trajectory to its end on a node, from what the mailbox holds of it.

    Args:
        settings: How to train.
        trajectory: What to train.
        steps_per_epoch: Optimizer steps in an epoch.
        num_threads: CPU threads.
        cwd: The folder that relative paths start from, if this node has it.
        shown: What to call the folder of the run in messages: where the head keeps it.
        mailbox: Handle of a `Mailbox`.

    Returns:
        The files of the finished part.
    """
    import ray

    from switch_ema.bench.train import Run, run_trajectory

    with _prepared(num_threads, cwd), TemporaryDirectory(prefix="sema-") as temporary:
        folder = Path(temporary)
        found = ray.get(mailbox.files.remote(trajectory.name))
        replace_contents(folder, found, list(found))
        part = Store(folder)
        _, sent = contents(folder, {})

        def tell(_: Trajectory, epoch: int, rows: list[Row]) -> None:
            nonlocal sent
            files, stamps = contents(folder, sent)
            if part.checkpoint_path.name in files:
                sent = stamps
                ray.get(mailbox.keep.remote(trajectory.name, files, [*stamps]))
            ray.get(mailbox.tell.remote(trajectory.name, epoch, rows))

        try:
            fabric = make_fabric(settings)
            run = Run(fabric, make_task(settings, trajectory.seed), trajectory, settings, steps_per_epoch, folder)
            run_trajectory(run, part, tell)
        except InputError as error:
            raise InputError(str(error).replace(temporary, shown)) from error
        files, _ = contents(folder, {})
        return files


@contextmanager
def _prepared(num_threads: int, cwd: str) -> Iterator[None]:
    """Be as a comparison in one process is: as many threads, quiet, and in its folder."""
    import torch

    quiet()
    torch.set_num_threads(num_threads)
    if Path(cwd).is_dir():
        os.chdir(cwd)
    yield


def contents(folder: Path, known: Stamps) -> tuple[Files, Stamps]:
    """Read the files of a folder that are new or changed.

    Args:
        folder: The folder; it need not exist.
        known: Times and sizes of the files that need not be read again, as this function returned them.

    Returns:
        The contents of these files; times and sizes of all.
    """
    stamps = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            stamps[str(path.relative_to(folder))] = (path.stat().st_mtime_ns, path.stat().st_size)
    return {name: (folder / name).read_bytes() for name in stamps if known.get(name) != stamps[name]}, stamps


def replace_contents(folder: Path, files: Files, names: Collection[str]) -> None:
    """Make a folder hold the files of `names`, with new contents for some; broken off, it holds a state to go on from.

    Args:
        folder: The folder; it is made if need be.
        files: The new contents.
        names: The names of all files that shall be there.
    """
    for name in sorted(files, key=lambda name: (name in _LAST, name)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, partial(_write, files[name]))
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in names:
            path.unlink()


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)
