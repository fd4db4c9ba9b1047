"""Two processes that want one output folder."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.durability.commands import Undisturbed, result_of
from tests.durability.tally import Tally
from tests.durability.work import Command, sema

_PATIENCE = 60.0


def two_on_one_folder(whole: Undisturbed, folder: Path, times: int) -> Tally:
    """Give a command while the same one runs: the second is refused, the first is not touched.

    The first stands still meanwhile, so that the second cannot come too late.
    """
    tally = Tally("two processes on one folder")
    for number in range(times):
        out = folder / f"shared-{number}"
        first = Command((*whole.arguments, out), out.with_suffix(".first.log"))
        deadline = time.monotonic() + _PATIENCE
        while not _begun(out) and first.running and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(first.pid, signal.SIGSTOP)
        second = sema((*whole.arguments, out), out.with_suffix(".second.log"))
        os.kill(first.pid, signal.SIGCONT)
        ended = first.wait()
        if second.code != 2 or not second.in_one_line or "is in use by another" not in second.said:
            tally.lose(f"the second: exit code {second.code}: {second.said[-300:]!r}")
        elif ended.code != 0 or result_of(out) != whole.result:
            tally.lose(f"the first: exit code {ended.code}: {ended.said[-300:]!r}")
        else:
            tally.count("second refused, first equal")
    return tally


def _begun(out: Path) -> bool:
    """Say whether the first process holds the folder and has written what was asked."""
    return any((out / name).exists() for name in ("run.json", "study.json"))
