"""Commands in processes of their own, that can be killed, and what came of them.

Processes are forked from one that has imported everything, so that most of their time is work that can be lost.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from switch_ema import cli
from switch_ema.bench.gallery import read_exhibits
from switch_ema.bench.report import build_report
from switch_ema.bench.results import read_run
from tests.durability.faults import Fault, install
from tests.forking import forks

_LONGEST = 120.0  # seconds that a command may take on a busy machine before it counts as hung


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code (negative: killed by that signal) and what it said."""

    code: int
    said: str

    @property
    def in_one_line(self) -> bool:
        """Whether it failed with one line that says why."""
        lines = [line for line in self.said.splitlines() if line.startswith("sema: ")]
        return self.code in (1, 2) and len(lines) == 1 and "Traceback" not in self.said


class Command:
    """A `sema` command in a process of its own.

    Args:
        arguments: Its words.
        log: Where what it says goes.
        fault: What goes wrong in it.
    """

    def __init__(self, arguments: tuple[object, ...], log: Path, fault: Fault = Fault()) -> None:  # noqa: B008
        self._log = log
        words = [str(argument) for argument in arguments]
        self._process: ForkServerProcess = forks().Process(target=_sema, args=(words, str(log), fault))
        self._process.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()

    def wait(self, seconds: float = _LONGEST) -> Ended:
        """Wait until it ends; one that hangs is killed, which its exit code tells."""
        self._process.join(seconds)
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        said = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        self._process.close()
        return Ended(-9 if code is None else code, said)


def sema(arguments: tuple[object, ...], log: Path, fault: Fault = Fault()) -> Ended:  # noqa: B008
    """Run a `sema` command to its end."""
    return Command(arguments, log, fault).wait()


def sema_killed(arguments: tuple[object, ...], log: Path, seconds: float) -> Ended:
    """Run a `sema` command, killed after so many seconds unless it ends before."""
    command = Command(arguments, log)
    deadline = time.monotonic() + seconds
    while command.running and time.monotonic() < deadline:
        time.sleep(0.002)
    command.kill()
    return command.wait()


def warm_up() -> None:
    """Start the process that the others are forked from, which imports everything."""
    process = forks().Process(target=_nothing)
    process.start()
    process.join()


def outcome(folder: Path) -> dict[str, Any]:
    """Return all that a finished comparison says but for times: rows, kept weights, exhibits, and the report's numbers.

    Args:
        folder: A run folder.
    """
    run, rows = read_run(folder)
    same = {"started": "", "command": "", "environment": {}}
    timeless = [{**row, "seconds": 0.0} for row in rows]
    exhibits = read_exhibits(folder)
    kept = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}
    assert (folder / "report.html").is_file()
    page = build_report({**run, **same}, timeless, exhibits)
    return {"run": {**run, **same}, "rows": timeless, "kept": kept, "exhibits": exhibits, "report": page}


def left_behind(folder: Path) -> list[str]:
    """Return the files of a finished comparison that should not be there any more."""
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    return [name for name in names if name in ("checkpoint.pt", "rows.sums")]


def _nothing() -> None:
    pass


def _sema(words: list[str], log: str, fault: Fault) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    install(fault)
    sys.argv = ["sema", *words]
    cli.main()
