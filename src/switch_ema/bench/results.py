"""The files of a run: what was asked, one measurement a line, and the point up to which they are settled.

`rows.jsonl` only grows. `progress.json` and `checkpoint.pt` are replaced whole, and each says how long `rows.jsonl` was
when it was written, and its checksum: what lies beyond was measured after it, and is measured again when a broken-off
run continues. `rows.sums` vouches for that part while it is there, a line for each time that rows were written.
"""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from switch_ema.bench.files import ANEW, is_free, read_own, refuse_other, write_sealed
from switch_ema.bench.integrity import NOTHING, Extent, measure_extent
from switch_ema.errors import InputError

_NOT_AS_WRITTEN = "is not as it was written: a part is missing or was changed"


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


def read_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read what was asked and what was measured.

    Args:
        folder: A run folder.

    Returns:
        The content of `run.json`, and the rows.

    Raises:
        InputError: If the folder is no run folder, or a file in it is damaged.
    """
    store = Store(folder)
    run, path, rows = store.record(), store.rows_path, []
    for number, line in enumerate(_vouched_rows(store).splitlines(), start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or set(row) != set(Row.__dataclass_fields__):
                raise ValueError
        except (ValueError, RecursionError):
            raise InputError(
                f"{path}, line {number}, is not a measurement; give the command again to repair it"
            ) from None
        rows.append(row)
    return run, rows


def _vouched_rows(store: Store) -> bytes:
    """Return the rows as far as something vouches for them, or all where nothing does."""
    written = store.written()  # before what is settled: a run that goes on removes it after settling
    settled = store.settled()
    data = store.rows_path.read_bytes() if store.rows_path.exists() else b""
    if not settled.checksum or (settled == NOTHING and written is None):
        return data
    _check_rows(store.rows_path, data, settled, ANEW)
    if written is None or written.size <= settled.size:
        return data[: settled.size]
    _check_rows(store.rows_path, data, written, "give the command again to repair it")
    return data[: written.size]


def _check_rows(path: Path, data: bytes, extent: Extent, cure: str) -> None:
    if measure_extent(io.BytesIO(data), extent.size)[0] != extent:
        raise InputError(f"{path} {_NOT_AS_WRITTEN}; {cure}")


class Store:
    """A run folder that one process writes.

    Args:
        folder: The folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_path = folder / "run.json"
        self.rows_path = folder / "rows.jsonl"
        self.sums_path = folder / "rows.sums"
        self.checkpoint_path = folder / "checkpoint.pt"
        self._sum: Any = None  # over the rows so far, once this process writes

    def check(self, asked: Mapping[str, Any]) -> bool:
        """Return whether the folder holds the finished comparison that is asked for.

        Raises:
            InputError: If it holds another comparison, or something else.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"--out {self.folder} is a file; name a folder")
        if is_free(self.folder):
            return False
        run = read_own(self.run_path, f"--out {self.folder} holds files but no comparison")
        there = run.get("asked")
        if not isinstance(there, dict):
            raise InputError(f"{self.run_path} is damaged; {ANEW}")
        refuse_other(self.folder, "comparison", there, asked)
        return self.is_finished()

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
        write_sealed(self.run_path, run)

    def record(self) -> dict[str, Any]:
        """Return the content of `run.json`.

        Raises:
            InputError: If it is missing or damaged.
        """
        return read_own(self.run_path, f"{self.folder} is not the folder of a comparison (no run.json)")

    def is_finished(self) -> bool:
        """Return whether it holds a comparison that is trained to its end; measurements are not looked at.

        Raises:
            InputError: If it holds none, or what says so is damaged.
        """
        planned = self.record().get("trajectories")
        if not isinstance(planned, list):
            raise InputError(f"{self.run_path} is damaged; {ANEW}")
        return bool(planned) and len(self.done()) == len(planned)

    def done(self) -> list[str]:
        """Return the names of the finished trajectories."""
        return self._progress()[0]

    def settled(self) -> Extent:
        """Return the settled part of `rows.jsonl`."""
        return self._progress()[1]

    def written(self) -> Extent | None:
        """Return the part of `rows.jsonl` that a run in progress has written; none where there is no such run.

        Raises:
            InputError: If what vouches for it is damaged.
        """
        try:
            last = self.sums_path.read_text(encoding="ascii").splitlines()[-1]
            size, checksum = last.split(" ")
            return Extent(int(size), checksum)
        except FileNotFoundError:
            return None
        except (ValueError, IndexError):
            raise InputError(f"{self.sums_path} is damaged; give the command again to repair it") from None

    def rewind(self, extent: Extent) -> None:
        """Cut off the rows beyond a settled part.

        Raises:
            InputError: If that part is not as it was written.
        """
        with self.rows_path.open("ab+") as file:
            file.seek(0)
            there, self._sum = measure_extent(file, extent.size)
            if there != extent._replace(checksum=extent.checksum or there.checksum):
                raise InputError(f"{self.rows_path} {_NOT_AS_WRITTEN}; {ANEW}")
            file.truncate(extent.size)
        self.sums_path.unlink(missing_ok=True)

    def append(self, rows: Iterable[Row]) -> Extent:
        """Write rows to the end and to the disk, after `rewind`.

        Returns:
            The rows so far.
        """
        data = "".join(row.line() for row in rows).encode()
        with self.rows_path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        self._sum.update(data)
        extent = Extent(size, self._sum.hexdigest())
        with self.sums_path.open("a", encoding="ascii") as sums:
            sums.write(f"{extent.size} {extent.checksum}\n")
        return extent

    def finish(self, trajectory: str, extent: Extent) -> None:
        """Settle a finished trajectory with the rows so far."""
        write_sealed(self.folder / "progress.json", {"done": [*self.done(), trajectory], "rows": extent})
        self.checkpoint_path.unlink(missing_ok=True)
        self.sums_path.unlink(missing_ok=True)

    def _progress(self) -> tuple[list[str], Extent]:
        """Return the names of the finished trajectories, and the settled part of `rows.jsonl`."""
        path = self.folder / "progress.json"
        if not path.exists():
            return [], NOTHING
        match read_own(path, ""):
            case {"done": [*done], "rows": [int(size), str(checksum)]} if size >= 0:
                extent = Extent(size, checksum)
            case {"done": [*done], "rows_bytes": int(size)} if size >= 0:  # of format 1
                extent = Extent(size, "")
            case _:
                raise InputError(f"{path} is damaged; {ANEW}")
        return list(map(str, done)), extent
