"""Peak memory of building an average, updating it and swapping it in, in units of the average's own size.

Each library gets a process of its own. On a CPU the figure is the kernel's count of resident memory: the peak (VmHWM)
is set back before each phase by way of `/proc/self/clear_refs`, and what the process held before the average was built,
imports and a first small average included, is taken off. Large blocks are made to go back to the system when freed
(`MALLOC_MMAP_THRESHOLD_`), or a temporary of one phase would hide the next. On a GPU it is the allocator's peak.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from benchmarks.measure import Action, Spread
from benchmarks.peers import PEERS, Average, Peer
from benchmarks.rows import Row, plain_row
from benchmarks.shapes import build, num_parameters

DECAY = 0.999
PHASES = ("build", "update", "swap")
ROOT = Path(__file__).parents[1]


def measure_memory(name: str, dtype: str, device: torch.device, threads: int) -> Iterator[Row]:
    """Yield the peak of each phase, for every library, above what the model alone takes.

    Args:
        name: A model of `shapes.MODELS`.
        dtype: A type of `shapes.DTYPES`.
        device: Where the model is.
        threads: Threads for each process.
    """
    model = build(name, dtype, device)
    fitting = [peer for peer in PEERS if peer.suits(model)]
    del model
    setting = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "0",
    }
    for peer in fitting:
        command = [sys.executable, "-m", "benchmarks.memory", peer.name, name, dtype, str(device)]
        done = subprocess.run(command, env=setting, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1]
            yield Row("memory", f"{name}, {dtype}", "peak", peer.name, note=f"cannot: {last.partition(': ')[2]}")
            continue
        peaks: dict[str, float] = json.loads(done.stdout)
        for phase in (*PHASES, "peak"):
            value = peaks.get(phase, max(peaks.values()))
            note = peer.swap if phase == "swap" else ""
            yield plain_row("memory", f"{name}, {dtype}", phase, peer.name, "x", Spread(value, value, value), note=note)


class Meter:
    """The peak of what a process holds, on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def held(self) -> int:
        """Return the bytes held now."""
        return torch.cuda.memory_allocated(self._device) if self._device.type == "cuda" else _status("VmRSS")

    def peak(self, action: Action) -> int:
        """Return the most bytes held while an action runs."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            action()
            return torch.cuda.max_memory_allocated(self._device)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        action()
        return _status("VmHWM")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"the kernel does not tell {field}; the memory section needs Linux, leave it out with --only")


def peaks(peer_name: str, name: str, dtype: str, device: torch.device) -> dict[str, float]:
    """Build, update and swap in this process, and return the peaks in units of a float32 average of the parameters."""
    peer = next(peer for peer in PEERS if peer.name == peer_name)
    meter = Meter(device)
    _phases(peer, build("400 small", dtype, device), meter)  # a rehearsal: imports and start-up costs are not counted
    model = build(name, dtype, device)
    gc.collect()
    before = meter.held()
    unit = 4 * num_parameters(model)
    return {phase: (peak - before) / unit for phase, peak in _phases(peer, model, meter).items()}


def _phases(peer: Peer, model: nn.Module, meter: Meter) -> dict[str, int]:
    built: list[Average] = []

    def update() -> None:
        for _ in range(3):
            built[0].update()

    def swap() -> None:
        with built[0].swapped():
            pass

    found = {"build": meter.peak(lambda: built.append(peer.make(model, DECAY)))}
    found["update"] = meter.peak(update)
    found["swap"] = meter.peak(swap)
    return found


if __name__ == "__main__":
    print(json.dumps(peaks(sys.argv[1], sys.argv[2], sys.argv[3], torch.device(sys.argv[4]))))
