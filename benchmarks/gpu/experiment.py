"""Experiments on a GPU, in steps that stop by themselves and continue each other.

    python -m benchmarks.gpu.experiment cifar10-resnet18-main    # a step; again, until it exits with 0
    python -m benchmarks.gpu.experiment collect                  # into docs/results/

A step exits with 0 when its experiment is finished, and with 3 when more is left. README.md beside this file says more.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.experiments import EXPERIMENTS, folder, settings

BUDGET = 540.0
LEFT = 3
KEPT = ("run.json", "rows.jsonl", "progress.json", "report.html")
"""What a step gives back; the checkpoint of a training run in progress is too large and stays in the run folder."""


class OutOfTimeError(Exception):
    """The step's time is over."""


class Budget:
    """Tells of finished training runs, and stops the bench when the time is over.

    It stops at the end of an epoch, but never at the last one of a run, which the bench settles after it. What is lost
    is what was trained since the last checkpoint, about 10 seconds; a step that is shorter than that and than a whole
    run comes to nothing.

    Args:
        seconds: The time.
        started: When it began, by `time.monotonic`.
    """

    def __init__(self, seconds: float, started: float) -> None:
        self._end = started + seconds
        self._over_in = ""
        self._longest = 0.0

    def begin(self, plan: Sequence[object], done: int, epochs: int) -> None:
        """Say what is planned."""
        self.total, self.done, self._epochs = len(plan), done, epochs
        self._last = time.monotonic()
        _say(f"training runs: {len(plan)}, finished before: {done}, epochs of each: {epochs}")

    def epoch(self, trajectory: object, epoch: int, rows: Sequence[object]) -> None:
        """Note the end of an epoch.

        Raises:
            OutOfTimeError: The next epoch might not end in time.
        """
        now, name = time.monotonic(), str(getattr(trajectory, "name", trajectory))
        self._longest, self._last = max(self._longest, now - self._last), now
        over = now + self._longest > self._end
        if over and (epoch < self._epochs or self._over_in not in ("", name)):
            _say(f"time is over in epoch {epoch} of {name}")
            raise OutOfTimeError
        if epoch == self._epochs:
            self.done += 1
            self._over_in = name if over else ""
            _say(f"[{self.done}/{self.total}] {name}, {self._end - now:.0f} s left")


def run_experiment(name: str, root: Path, budget: float, started: float, *, smoke: bool = False) -> bool:
    """Train an experiment, or what fits into the time of it.

    Args:
        name: One of `EXPERIMENTS`.
        root: Where the run folders are.
        budget: Seconds.
        started: When they began, by `time.monotonic`.
        smoke: Whether only to try it.

    Returns:
        Whether the experiment is finished.

    Raises:
        InputError: The data are missing, or the folder holds something else.
    """
    import torch

    from benchmarks.cifar import use_data
    from switch_ema.bench.compare import compare, prepare
    from switch_ema.bench.report import write_report

    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    torch.set_float32_matmul_precision("high")  # TF32 in the last layer too
    torch.backends.cudnn.benchmark = True
    use_data()
    asked, out = settings(name, smoke=smoke), folder(root, name)
    if prepare(asked, out):
        _say(f"nothing to do: {out} is finished")
        return True
    progress = Budget(budget, started)
    try:
        compare(asked, out, f"python -m benchmarks.gpu.experiment {name}{' --smoke' * smoke}", progress)
    except OutOfTimeError:
        write_report(out)
        _say(f"{progress.done} of {progress.total} training runs are finished; the same command continues")
        return False
    return True


def give_back(root: Path, name: str, to: Path) -> None:
    """Copy the small files of an experiment's run folder."""
    source, target = folder(root, name), folder(to, name)
    target.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        if (source / file).exists():
            shutil.copyfile(source / file, target / file)
    if (source / "exhibits").exists():
        shutil.copytree(source / "exhibits", target / "exhibits", dirs_exist_ok=True)


def main(arguments: list[str] | None = None) -> int:
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.experiment")
    parser.add_argument("step", choices=(*EXPERIMENTS, "collect"))
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu"), help="where the run folders are (%(default)s)")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds until it stops (%(default)s)")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="copy results here too (default: $OUT)")
    parser.add_argument("--to", type=Path, default=Path("docs/results"), help="where collect writes (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="try it: something small, on the CPU")
    options = parser.parse_args(arguments)
    from switch_ema.errors import InputError

    try:
        if options.step == "collect":
            return _collect(options.runs, options.to)
        finished = run_experiment(options.step, options.runs, options.budget, started, smoke=options.smoke)
    except InputError as error:
        print(f"experiment: {error}", file=sys.stderr)
        return 2
    if options.out:
        give_back(options.runs, options.step, Path(options.out))
    return 0 if finished else LEFT


def _collect(root: Path, to: Path) -> int:
    from benchmarks.gpu.collect import collect

    for path in collect(root, to):
        _say(f"written: {path}")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
