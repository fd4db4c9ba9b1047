"""Training runs that do not lie in the run folder yet: each in a folder of its own, which joins it in the plan's order.

A part is a run folder for one trajectory: its rows, its checkpoint, and what its methods keep. Runs on other machines
end in any order; `rows.jsonl` is written in one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from switch_ema.bench.files import write_text
from switch_ema.bench.integrity import Extent, extent_of
from switch_ema.bench.results import Row, Store
from switch_ema.errors import InputError

_FOLDER = "parts"
_OF_TRAJECTORIES = ("snapshots", "weights")  # folders with one folder for each trajectory


def part_of(store: Store, trajectory: str) -> Store:
    """Return the part of a run folder for one trajectory; its folder is there if the part was begun.

    Args:
        store: The run folder.
        trajectory: Name of the trajectory.
    """
    return Store(store.folder / _FOLDER / trajectory)


def finished_parts(store: Store) -> list[str]:
    """Return the names of the trajectories that are trained to their end and wait for others before them."""
    parts = (Store(folder) for folder in sorted((store.folder / _FOLDER).glob("*")))
    return [part.folder.name for part in parts if part.done() == [part.folder.name]]


def split(store: Store, trajectory: str) -> None:
    """Make a part of what one process has trained of a trajectory in the run folder itself, if there is something.

    Args:
        store: The run folder; what lies beyond its settled rows is dropped.
        trajectory: Name of the trajectory.

    Raises:
        InputError: The checkpoint is damaged.
    """
    import torch

    from switch_ema.bench.checkpoint import read_checkpoint, write_checkpoint

    part = part_of(store, trajectory)
    if part.folder.exists() or not store.checkpoint_path.exists():
        return
    try:
        state = read_checkpoint(store.checkpoint_path, torch.device("cpu"))
        there, settled = Extent(*state["rows"]), store.settled()
    except Exception as error:
        raise InputError(
            f"{store.checkpoint_path} is damaged ({type(error).__name__}); delete it to start the trajectory anew"
        ) from error
    if state["trajectory"] != trajectory:
        return
    store.rewind(there)
    rows = store.rows_path.read_bytes()[settled.size :]
    part.folder.mkdir(parents=True)
    write_text(part.rows_path, rows.decode())
    for name in _OF_TRAJECTORIES:
        if (store.folder / name / trajectory).exists():
            (part.folder / name).mkdir()
            os.replace(store.folder / name / trajectory, part.folder / name / trajectory)
    write_checkpoint(part.checkpoint_path, {**state, "rows": list(extent_of(rows.decode()))})
    store.checkpoint_path.unlink()


def join(store: Store, trajectory: str) -> None:
    """Move a finished part into the run folder, behind what is settled there. Broken off, it can be called again.

    Args:
        store: The run folder.
        trajectory: Name of the trajectory.

    Raises:
        InputError: The rows of the part are damaged.
    """
    part = part_of(store, trajectory)
    if trajectory not in store.done():
        rows = _rows(part)
        for path in kept_files(part):
            target = store.folder / path.relative_to(part.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
        store.rewind(store.settled())
        store.finish(trajectory, store.append(rows))
    shutil.rmtree(part.folder)
    if not any(part.folder.parent.iterdir()):
        part.folder.parent.rmdir()


def kept_files(part: Store) -> Iterator[Path]:
    """Yield the files that the methods and the task keep of a training run, in a fixed order."""
    own = {part.rows_path, part.sums_path, part.checkpoint_path, part.folder / "progress.json"}
    for path in sorted(part.folder.rglob("*")):
        if path.is_file() and path not in own and not path.name.startswith("."):
            yield path


def _rows(part: Store) -> list[Row]:
    try:
        part.rewind(part.settled())
        return [Row(**json.loads(line)) for line in part.rows_path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError) as error:
        raise InputError(f"{part.rows_path} is damaged; delete the folder {part.folder} to train it anew") from error
