"""Comparisons and a study that take a second or two and use every file that a run folder has."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switch_ema.bench.results import read_run
from switch_ema.bench.studies.record import read_arms
from tests.durability.faults import Fault
from tests.durability.tally import Tally
from tests.durability.work import Ended, left_behind, outcome, sema, sema_killed

COMPARISON = (
    "compare", "points", "--seeds", 1, "--epochs", 3, "--methods", "baseline,ema:decay=0.9,sema:decay=0.9",
    "--keep-weights", "best", "--out",
)  # fmt: skip
SMALLEST = (
    "compare", "points", "--seeds", 1, "--epochs", 2, "--methods", "ema:decay=0.9,sema:decay=0.9",
    "--keep-weights", "last", "--out",
)  # fmt: skip
STUDY = ("study", "calibration", "--recipe", "points", "--jobs", 1, "--seeds", 1, "--epochs", 2, "--out")

_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@dataclass(frozen=True)
class Undisturbed:
    """A command that ran to its end without a fault.

    Attributes:
        arguments: Its words, but for the folder.
        result: What it says but for times.
        seconds: How long it took.
    """

    arguments: tuple[object, ...]
    result: Any
    seconds: float


def undisturbed(arguments: tuple[object, ...], folder: Path) -> Undisturbed:
    """Run a command without a fault."""
    start = time.monotonic()
    ended = sema((*arguments, folder), folder.with_suffix(".log"))
    assert ended.code == 0, ended.said
    return Undisturbed(arguments, result_of(folder), time.monotonic() - start)


def result_of(folder: Path) -> Any:
    """Return all that a finished comparison or study says but for times."""
    if not (folder / "study.json").exists():
        return outcome(folder)
    arms = {
        arm.name: (outcome(folder / "arms" / arm.name) if arm.run else None, arm.sheets, list(arm.measured))
        for arm in read_arms(folder)
    }
    return arms, (folder / "findings.md").read_text(encoding="utf-8").split("\n\n", 1)[0]


def finish(whole: Undisturbed, folder: Path, tally: Tally, what: str, trials: int = 1) -> None:
    """Give the command once more without a fault, and count the faults before if it ends like the undisturbed one."""
    ended = sema((*whole.arguments, folder), folder.with_suffix(".log"))
    if ended.code != 0:
        tally.lose(f"{what}: exit code {ended.code}: {ended.said[-300:]!r}")
    elif result_of(folder) != whole.result:
        tally.lose(f"{what}: another result ({folder})")
    elif left := left_behind(folder):
        tally.lose(f"{what}: left behind {left}")
    else:
        tally.count("equal result", trials)


def kill_at_random(whole: Undisturbed, folder: Path, kills: int, rng: random.Random, most: int = 5) -> Tally:
    """Kill a command at random moments, up to so many times for each folder, and let it end."""
    kind = "study" if whole.arguments[0] == "study" else "comparison"
    tally = Tally(f"SIGKILL at random moments of a {kind}")
    killed = rounds = 0
    while killed < kills:
        rounds += 1
        out = folder / f"{kind}-{rounds}"
        here = 0
        for _ in range(min(most, kills - killed)):
            ended = sema_killed((*whole.arguments, out), out.with_suffix(".log"), rng.uniform(0, whole.seconds))
            if ended.code != -9:
                break
            here += 1
        killed += here
        finish(whole, out, tally, f"{here} kills", here)
    return tally


def fail_at(whole: Undisturbed, folder: Path, kind: str, points: range) -> Tally:
    """Kill a command, or take its disk away, at one write point after the other, and let it end without a fault."""
    names = {"kill": "SIGKILL in the middle of a write", "full": "disk full from a write on"}
    tally = Tally({**names, "read-only": "disk read-only from a write on"}[kind])
    for point in points:
        out = folder / f"{kind}-{point}"
        fault = Fault(kind, point, str(out))
        ended = sema((*whole.arguments, out), out.with_suffix(".log"), fault)
        if ended.code == 0:
            break  # it has fewer write points
        if wrong := _ended_badly(ended, kind):
            tally.lose(f"{kind} at write point {point}: {wrong}")
        else:
            finish(whole, out, tally, f"{kind} at write point {point}")
    return tally


def _ended_badly(ended: Ended, kind: str) -> str:
    if kind == "kill":
        return "" if ended.code == -9 else f"exit code {ended.code}: {ended.said[-300:]!r}"
    return "" if ended.in_one_line else f"exit code {ended.code}, not one line: {ended.said[-600:]!r}"


def limited_files(whole: Undisturbed, folder: Path, times: int) -> Tally:
    """Let the kernel refuse files beyond a size, as a quota does."""
    tally = Tally("limit of the kernel on the size of files")
    for number in range(times):
        out = folder / f"limit-{number}"
        size = 64 * 2**number  # from less than run.json to less than the report
        ended = sema((*whole.arguments, out), out.with_suffix(".log"), Fault("limit", size, str(out)))
        if ended.code != 0 and not ended.in_one_line:
            tally.lose(f"files of {size} bytes: exit code {ended.code}: {ended.said[-600:]!r}")
        else:
            finish(whole, out, tally, f"files of {size} bytes")
    return tally


def real_disk_full(whole: Undisturbed, folder: Path) -> Tally:
    """Fill a small file system in memory, then make room; only where this process may mount one."""
    tally = Tally("a small file system full")
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False, **_QUIET).returncode:
        return tally
    try:
        for free in (0, 4096, 8192, 16384, 65536, 1 << 20, 3 << 20):
            filler = disk / "filler"
            filler.write_bytes(bytes((8 << 20) - free - 4096 if free else (8 << 20) - 4096))
            out = disk / f"run-{free}"
            ended = sema((*whole.arguments, out), folder / "disk.log")
            filler.unlink()
            if ended.code == 0 or not ended.in_one_line:
                tally.lose(f"{free} bytes free: exit code {ended.code}: {ended.said[-600:]!r}")
            else:
                finish(whole, out, tally, f"{free} bytes free")
            shutil.rmtree(out)
            out.with_suffix(".log").unlink(missing_ok=True)
    finally:
        subprocess.run(["umount", str(disk)], check=False, **_QUIET)
    return tally


def jumping_clocks(whole: Undisturbed, folder: Path, times: int) -> Tally:
    """Let the wall clock show another time between 1970 and 2096 at every look."""
    tally = Tally("wall clock jumps at every look")
    for number in range(times):
        out = folder / f"clock-{number}"
        ended = sema((*whole.arguments, out), out.with_suffix(".log"), Fault("clock", number, str(out)))
        seconds = [row["seconds"] for row in read_run(out)[1]] if ended.code == 0 else []
        if not seconds or min(seconds) < 0 or max(seconds) > 1000 or result_of(out) != whole.result:
            tally.lose(f"clock {number}: exit code {ended.code}: {ended.said[-300:]!r}")
        else:
            tally.count("equal result")
    return tally
