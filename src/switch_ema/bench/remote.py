"""What of a comparison happens on the nodes of a cluster: a look at the problem, and training."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from switch_ema.averaging.files import write_atomically
from switch_ema.bench.compare import look, make_fabric
from switch_ema.bench.machine import quiet
from switch_ema.bench.mailbox import Files
from switch_ema.bench.plan import Trajectory
from switch_ema.bench.request import make_task
from switch_ema.bench.results import Row, Store
from switch_ema.bench.settings import Settings
from switch_ema.errors import InputError

Stamps = Mapping[str, tuple[int, int]]
"""Time and size of files."""

_LAST = ("checkpoint.pt", "progress.json")  # what they speak of must lie there before them


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
    from switch_ema.bench.train import Run, run_trajectory

    with _prepared(num_threads, cwd), TemporaryDirectory(prefix="sema-") as temporary:
        folder = Path(temporary)
        found = _answer(mailbox.files.remote(trajectory.name))
        replace_contents(folder, found, list(found))
        part = Store(folder)
        _, sent = contents(folder, {})

        def tell(_: Trajectory, epoch: int, rows: list[Row]) -> None:
            nonlocal sent
            files, stamps = contents(folder, sent)
            if part.checkpoint_path.name in files:
                sent = stamps
                _answer(mailbox.keep.remote(trajectory.name, files, [*stamps]))
            _answer(mailbox.tell.remote(trajectory.name, epoch, rows))

        try:
            fabric = make_fabric(settings)
            run = Run(fabric, make_task(settings, trajectory.seed), trajectory, settings, steps_per_epoch, folder)
            run_trajectory(run, part, tell)
        except InputError as error:
            raise InputError(str(error).replace(temporary, shown)) from error
        files, _ = contents(folder, {})
        return files


def _answer(reference: Any) -> Any:
    """Return what a call of the mailbox returned; Ray lends the CPU of a run whose own thread waits to one run more."""
    import ray

    with ThreadPoolExecutor(1) as beside:
        return beside.submit(ray.get, reference).result()


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
