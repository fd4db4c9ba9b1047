"""The machine that a comparison runs on: how many threads it uses, and what is recorded of it."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch_ema.bench.settings import Settings
from switch_ema.data.points import POINT_SETS
from switch_ema.errors import FieldError
from switch_ema.tasks.entries import TASKS

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@contextmanager
def threads(settings: Settings) -> Iterator[None]:
    """Give torch the CPU threads asked for, else one for a task's embedded data, unless OMP_NUM_THREADS is set.

    The networks for embedded data are so small that several threads mostly wait for each other, on a busy machine many
    times as long as they work.
    """
    import torch

    before = torch.get_num_threads()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    elif is_embedded(settings) and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_embedded(settings: Settings) -> bool:
    """Say whether data are asked for that come with a library or are made here, which are small."""
    return settings.data in {entry.default_data for entry in TASKS.values()} | {"diabetes", *POINT_SETS}


def default_jobs(settings: Settings, asked: int | None) -> int:
    """Return how many comparisons run side by side: as many as asked for, else one for each core if they are small.

    Raises:
        FieldError: Fewer than one is asked for.
    """
    if asked is not None and asked < 1:
        raise FieldError("jobs", f"{asked}: write at least 1")
    return asked or ((os.cpu_count() or 1) if is_embedded(settings) and settings.devices == 1 else 1)


def environment(fabric: Fabric) -> dict[str, Any]:
    """Return versions, device and commit, for the record."""
    import lightning
    import torch

    import switch_ema

    device = torch.cuda.get_device_name() if fabric.device.type == "cuda" else _processor()
    return {
        "switch_ema": switch_ema.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "platform": platform.platform(),
        "device": f"{fabric.device.type}: {device}",
        "threads": torch.get_num_threads(),
        "world_size": fabric.world_size,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the source tree that this package is run from, if it is run from one."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            check=False,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def quiet() -> None:
    """Keep the output to what a user asked for: our own words, no notes of libraries to their developers."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for name in ("lightning", "lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
