"""The files of a run: what was asked, one measurement a line, and the point up to which they are settled.

`rows.jsonl` only grows. `progress.json` and `checkpoint.pt` are replaced whole, and each says how long `rows.jsonl` was
when it was written: what lies beyond was measured after it, and is measured again when a broken-off run continues.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from switch_ema.averaging.files import write_atomically
from switch_ema.errors import InputError

FORMAT = 1


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        task: Name of the task.
        data: Name of the data set.
        model: Name of the network.
        method: Label of the method.
        lr: Nominal peak learning rate, before the method's own factor.
        seed: Seed of the run.
        epoch: Completed epochs.
        step: Completed optimizer steps.
        split: `"train"`, `"val"` or `"test"`.
        metric: Name of the metric.
        value: The measurement; `None` if it is not finite.
        higher_is_better: Which way is better; `None` where neither is.
        seconds: Time spent in training so far, in seconds; measuring is not counted.
    """

    task: str
    data: str
    model: str
    method: str
    lr: float
    seed: int
    epoch: int
    step: int
    split: str
    metric: str
    value: float | None
    higher_is_better: bool | None
    seconds: float

    def line(self) -> str:
        """Return the row as a line of JSON."""
        fields = asdict(self)
        if self.value is not None and not math.isfinite(self.value):
            fields["value"] = None
        return json.dumps(fields) + "\n"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def read_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read what was asked and what was measured.

    Args:
        folder: A run folder.

    Returns:
        The content of `run.json`, and the rows.

    Raises:
        InputError: If the folder is no run folder, or a file in it is damaged.
    """
    run = _read_json(folder / "run.json", f"{folder} is not the folder of a comparison (no run.json)")
    rows = []
    path = folder / "rows.jsonl"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else [], start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or set(row) != set(Row.__dataclass_fields__):
                raise ValueError
        except ValueError:
            raise InputError(
                f"{path}, line {number}, is not a measurement; give the command again to repair it"
            ) from None
        rows.append(row)
    return run, rows


def _read_json(path: Path, missing: str) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{missing}; name the folder that 'sema compare --out' wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError
    except ValueError:
        raise InputError(f"{path} is damaged; delete the folder or choose another --out") from None
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {content.get('format')!r}, this version reads {FORMAT}; choose another --out"
        )
    return content


def refuse_other(folder: Path, what: str, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse a folder that holds what was asked for with other settings.

    Args:
        folder: The folder.
        what: What it holds: `"comparison"` or `"study"`.
        there: The settings of what it holds.
        asked: The settings that are asked for.

    Raises:
        InputError: A setting differs.
    """
    for name in sorted(set(there) | set(asked)):
        if there.get(name) != asked.get(name):
            difference = f"{name.replace('_', '-')}: {there.get(name)!r} there, {asked.get(name)!r} asked"
            raise InputError(f"--out {folder} holds another {what} ({difference}); choose another --out")


class Store:
    """A run folder that one process writes.

    Args:
        folder: The folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_path = folder / "run.json"
        self.rows_path = folder / "rows.jsonl"
        self.checkpoint_path = folder / "checkpoint.pt"

    def check(self, asked: Mapping[str, Any]) -> bool:
        """Return whether the folder holds the finished comparison that is asked for.

        Raises:
            InputError: If it holds another comparison, or something else.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"--out {self.folder} is a file; name a folder")
        if not self.folder.exists() or all(path.name.startswith(".") for path in self.folder.iterdir()):
            return False
        run = _read_json(self.run_path, f"--out {self.folder} holds files but no comparison")
        there = run.get("asked")
        if not isinstance(there, dict):
            raise InputError(f"{self.run_path} is damaged; delete the folder or choose another --out")
        refuse_other(self.folder, "comparison", there, asked)
        return len(self.done()) == len(run["trajectories"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process alone.

        Raises:
            InputError: If another process holds it, or it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("w")
        except OSError as error:
            raise InputError(
                f"--out {self.folder} cannot be written ({error.strerror}); choose another --out"
            ) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(
                    f"--out {self.folder} is in use by another comparison; wait or choose another"
                ) from None
            yield

    def begin(self, run: Mapping[str, Any]) -> None:
        """Write `run.json`."""
        write_json(self.run_path, {"format": FORMAT, **run})

    def done(self) -> list[str]:
        """Return the names of the finished trajectories."""
        return list(self._progress()["done"])

    def settled(self) -> int:
        """Return the length of the settled part of `rows.jsonl`, in bytes."""
        return int(self._progress()["rows_bytes"])

    def rewind(self, rows_bytes: int) -> None:
        """Cut off the rows beyond a settled length.

        Raises:
            InputError: If the rows are shorter than that.
        """
        self.rows_path.touch()
        if self.rows_path.stat().st_size < rows_bytes:
            raise InputError(
                f"{self.rows_path} is shorter than it was written; delete the folder or choose another --out"
            )
        os.truncate(self.rows_path, rows_bytes)

    def append(self, rows: Iterable[Row]) -> int:
        """Write rows to the end and to the disk.

        Returns:
            The length of the file, in bytes.
        """
        with self.rows_path.open("ab") as file:
            file.write("".join(row.line() for row in rows).encode())
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def finish(self, trajectory: str, rows_bytes: int) -> None:
        """Settle a finished trajectory."""
        write_json(
            self.folder / "progress.json",
            {"format": FORMAT, "done": [*self.done(), trajectory], "rows_bytes": rows_bytes},
        )
        self.checkpoint_path.unlink(missing_ok=True)

    def _progress(self) -> dict[str, Any]:
        path = self.folder / "progress.json"
        return _read_json(path, "") if path.exists() else {"done": [], "rows_bytes": 0}
