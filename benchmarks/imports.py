"""How long it takes to import each library's average, after torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import OURS, PEERS
from benchmarks.rows import Row, timed_rows

_CODE = "import time, torch\nt = time.perf_counter()\n{}\nprint(time.perf_counter() - t)"
ROOT = Path(__file__).parents[1]


def measure_imports(rounds: int, threads: int) -> Iterator[Row]:
    """Import each library in fresh processes, in turns, and yield the rows."""
    statements = {peer.loads: peer.name for peer in reversed(PEERS)}  # one way of each library is enough
    times: dict[str, list[float]] = {name: [] for name in reversed(statements.values())}
    for number in range(-1, rounds):  # the first round fills the caches of the disk
        for statement, name in statements.items():
            taken = _seconds(statement, threads)
            if number >= 0:
                times[name].append(taken)
    yield from timed_rows("import", "import", "after torch", times, OURS.name, {})


def _seconds(statement: str, threads: int) -> float:
    command = [sys.executable, "-c", _CODE.format(statement)]
    setting = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=setting, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)
