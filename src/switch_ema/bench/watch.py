"""Pages of comparisons that go on: written anew when there is more to show, until all are finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from switch_ema.bench.report import write_report
from switch_ema.bench.results import Store, read_run
from switch_ema.errors import InputError

EVERY = 2.0
"""Seconds from one look at the folders to the next, at least."""
_SHARE = 0.2  # of the time goes into writing pages, at most

Stamp = tuple[tuple[int, int], ...]


def watch(folders: Sequence[Path], tell: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """Keep the pages of comparisons up to date until all are finished, or until Ctrl-C.

    Pages load themselves anew in the browser while they are watched, from the disk alone.

    Args:
        folders: Run folders.
        tell: Is told what is written.
        sleep: Waits.

    Raises:
        InputError: A folder is none of a comparison, or its files are damaged.
    """
    going: dict[Path, Stamp] = {}
    for folder in folders:
        read_run(folder)
        going[folder] = ()
        tell(f"watching {folder}: open {folder / 'report.html'}; Ctrl-C ends it")
    try:
        while going:
            started = time.monotonic()
            for folder in list(going):
                there = _stamp(folder)
                try:
                    if Store(folder).is_finished():
                        tell(f"finished: {write_report(folder)}")
                        del going[folder]
                    elif there != going[folder] and read_run(folder)[1]:
                        write_report(folder, live=True)
                        going[folder] = there
                except InputError:
                    if _stamp(folder) == there:  # else it was read while it was written
                        raise
            if going:
                sleep(max(EVERY, (time.monotonic() - started) / _SHARE))
    except KeyboardInterrupt:
        for folder, stamp in going.items():
            if stamp:
                tell(f"stopped watching: {write_report(folder)}")


def _stamp(folder: Path) -> Stamp:
    files = [folder / name for name in ("rows.jsonl", "progress.json")]
    stats = [path.stat() for path in files if path.exists()]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


def watched(folder: Path) -> list[Path]:
    """Return the comparisons that a folder holds: itself, or those that a study has begun.

    Raises:
        InputError: There is none.
    """
    found = sorted(path.parent for path in folder.glob("arms/*/run.json"))
    if (folder / "run.json").is_file():
        return [folder]
    if not found:
        raise InputError(f"{folder} holds no comparison that has begun; name the folder that 'sema compare' writes to")
    return found
