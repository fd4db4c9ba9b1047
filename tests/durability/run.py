"""The long part of the proof: `python -m tests.durability.run`, or `make durability`.

Prints a Markdown table of the faults tried and the losses, and exits with 1 if there was one.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.durability import commands, ddp, mutations, sharing
from tests.durability.tally import Tally
from tests.durability.work import warm_up

_HEAD = "| fault | tried | ended | losses |\n|---|---|---|---|"
_SEED = 7

Part = Callable[[Path, float], Iterator[Tally]]


def kills(folder: Path, scale: float) -> Iterator[Tally]:
    """SIGKILL at random moments of a comparison and of a study."""
    rng = random.Random(_SEED)
    whole = commands.undisturbed(commands.COMPARISON, folder / "whole")
    yield commands.kill_at_random(whole, folder, round(100 * scale), rng)
    study = commands.undisturbed(commands.STUDY, folder / "whole-study")
    yield commands.kill_at_random(study, folder, round(20 * scale), rng)


def writes(folder: Path, scale: float) -> Iterator[Tally]:
    """A kill, a full disk, a disk that turns read-only, at one write after the other."""
    whole = commands.undisturbed(commands.SMALLEST, folder / "whole")
    for kind in ("kill", "full", "read-only"):
        yield commands.fail_at(whole, folder, kind, range(1, 5000, max(1, round(11 / scale))))
    yield commands.real_disk_full(whole, folder)
    yield commands.limited_files(whole, folder, round(10 * scale))


def damage(folder: Path, scale: float) -> Iterator[Tally]:
    """Damaged files of every kind, read as they always are; some also by the command that goes on."""
    rng = random.Random(_SEED)
    count = round(150 * scale)
    for place, targets in mutations.folders(folder):
        for target in targets:
            yield mutations.damage(place, target, count, rng)
    yield mutations.continued_after_damage(folder, round(40 * scale), rng)


def others(folder: Path, scale: float) -> Iterator[Tally]:
    """Clocks that jump, folders that two processes want, workers that are lost."""
    whole = commands.undisturbed(commands.SMALLEST, folder / "whole")
    yield commands.jumping_clocks(whole, folder, round(10 * scale))
    yield sharing.two_on_one_folder(whole, folder, round(10 * scale))
    yield ddp.workers_lost(folder, round(30 * scale), random.Random(_SEED))


def fuzzing(folder: Path, scale: float) -> Iterator[Tally]:
    """Coverage-guided fuzzing of every reader, where atheris is installed."""
    from tests.durability.fuzz import fuzz
    from tests.durability.readers import READERS

    for number, reader in enumerate(READERS):
        tally = Tally(f"fuzzing of the reader of {reader.name}")
        executions, wrong = fuzz(number, max(1, round(20 * scale)))
        tally.count("read or refused", executions)
        if wrong:
            tally.lose(f"{reader.name}: {wrong}")
        yield tally


PARTS: dict[str, Part] = {"damage": damage, "kills": kills, "writes": writes, "others": others, "fuzzing": fuzzing}


def main() -> int:
    """Run the parts that are asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.run", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the trials; default: 1")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - PARTS.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    start, losses, tried = time.monotonic(), list[str](), 0
    sys.stdout.write(f"{_HEAD}\n")
    warm_up()
    for part in asked.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            for tally in PARTS[part](Path(folder), asked.scale):
                sys.stdout.write(f"{tally.row()}\n")
                sys.stdout.flush()
                losses += tally.losses
                tried += tally.tried
    minutes = (time.monotonic() - start) / 60
    sys.stdout.write(f"\n{tried:,} trials in {minutes:.0f} minutes, {len(losses)} losses\n")
    sys.stdout.writelines(f"{loss}\n" for loss in losses)
    return int(bool(losses))


if __name__ == "__main__":
    sys.exit(main())
