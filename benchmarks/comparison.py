"""What a comparison of ten methods costs beside one plain run of the same epochs, evaluation included.

Both are `sema compare`, called in this process with the same settings: plain training alone, and plain training with
five EMAs, SWA, LAWA, PowerEMA and Switch EMA. Who trains each method by itself needs ten plain runs. A plain run is
timed before and after each comparison, and the comparison is divided by the mean of the two.

On a CPU the data are a tenth of CIFAR-10 at 16 x 16 pixels, split 4,500 : 500 : 1,000 in batches of 16, so that
measuring has nearly the share of an epoch that it has on the whole set; on a GPU they are the whole set, and the
network is ResNet-18.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.cifar import TEST, TRAIN, cifar_folder
from benchmarks.measure import Spread, spread
from benchmarks.peers import OURS
from benchmarks.rows import Row, plain_row
from switch_ema.bench.compare import compare, prepare
from switch_ema.bench.plan import Trajectory
from switch_ema.bench.request import request
from switch_ema.bench.results import Row as Measurement
from switch_ema.bench.stats import budget_points

METHODS = (
    "baseline,ema:decay=0.9,ema:decay=0.98,ema:decay=0.99,ema:decay=0.995,ema:decay=0.999,swa,lawa,power_ema,"
    "sema:decay=0.99"
)
PLAIN, COMPARISON, PEERS = "(one plain run)", f"{OURS.name}, 10 methods", "(ten plain runs)"
TARGET = 2.4


@dataclass(frozen=True)
class Scale:
    """How large the training is.

    Attributes:
        share: Share of CIFAR-10, as 1 of so many.
        image_size: Side of the images in pixels.
        model: The network.
        batch_size: Images in a batch.
        epochs: Epochs.
    """

    share: int = 10
    image_size: int = 16
    model: str = "small-resnet"
    batch_size: int = 16
    epochs: int = 20

    def __str__(self) -> str:
        part = "CIFAR-10" if self.share == 1 else f"1/{self.share} of CIFAR-10"
        size = f"{self.image_size} x {self.image_size}"
        return f"{self.model}, {part} at {size}, batch {self.batch_size}, {self.epochs} epochs"


SCALES = {"cpu": Scale(), "cuda": Scale(1, 32, "resnet18", 128, 15)}


@dataclass
class Clock:
    """Notes when the epochs of a comparison end."""

    ends: dict[str, list[float]] = field(default_factory=dict)
    trained: dict[str, list[float]] = field(default_factory=dict)

    def begin(self, plan: Sequence[Trajectory], done: int, epochs: int) -> None:
        """Start the clock."""
        self._last = time.perf_counter()

    def epoch(self, trajectory: Trajectory, epoch: int, rows: Sequence[Measurement]) -> None:
        """Note the end of an epoch: its whole length, and the seconds of training so far."""
        now = time.perf_counter()
        self.ends.setdefault(trajectory.name, []).append(now - self._last)
        self.trained.setdefault(trajectory.name, []).append(rows[0].seconds)
        self._last = now


@dataclass(frozen=True)
class Course:
    """How long the epochs of one training run took.

    Attributes:
        training: Seconds of training, by epoch.
        measuring: Seconds of measuring, by epoch.
    """

    training: Sequence[float]
    measuring: Sequence[float]

    def at(self, epochs: int, eval_every: int) -> float:
        """Return what a run of other length, measured as often as is asked, would take.

        Epochs in which BatchNorm's statistics are re-estimated take longer to measure, and so do those of the last
        quarter, where SWA has an average. Each kind is counted and has its own mean, so the run that was timed needs
        epochs of every kind, which 8 or more have.
        """
        mine = len(self.training)
        kinds: dict[tuple[bool, bool], list[float]] = {}
        for epoch, seconds in enumerate(self.measuring, start=1):
            kinds.setdefault(_kind(epoch, mine), []).append(seconds)
        means = {kind: fmean(seconds) for kind, seconds in kinds.items()}
        due = [n for n in range(1, epochs + 1) if n % eval_every == 0 or n in budget_points(epochs).values()]
        return epochs * fmean(self.training) + sum(means[_kind(epoch, epochs)] for epoch in due)


def _kind(epoch: int, epochs: int) -> tuple[bool, bool]:
    return epoch in budget_points(epochs).values(), epoch > epochs * 3 // 4


@dataclass(frozen=True)
class Cost:
    """What one call of `compare` took.

    Attributes:
        seconds: By the clock, all included: reading, training, measuring, the report.
        courses: Its training runs.
    """

    seconds: float
    courses: Sequence[Course]

    @property
    def training(self) -> float:
        """Seconds of training."""
        return sum(sum(course.training) for course in self.courses)

    @property
    def measuring(self) -> float:
        """Seconds of measuring."""
        return sum(sum(course.measuring) for course in self.courses)


def measure_comparison(
    device: torch.device, rounds: int, *, eval_every: Sequence[int] = (1,), scale: Scale | None = None
) -> Iterator[Row]:
    """Time comparisons between plain runs, and yield the rows.

    Args:
        device: Where to train.
        rounds: Comparisons for each `eval_every`; plain runs stand before, between and after them.
        eval_every: How often both measure, in epochs.
        scale: How large the training is; by default that of the device in `SCALES`.
    """
    scale = scale or SCALES[device.type]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what = cifar_folder(folder / "data", TRAIN // scale.share, TEST // scale.share)
        noted = f"{scale}; {what}" if what != "CIFAR-10" else str(scale)
        for every in eval_every:
            plains, comparisons = [_timed(folder, "baseline", device, scale, every)], []
            for _ in range(rounds):
                comparisons.append(_timed(folder, METHODS, device, scale, every))
                plains.append(_timed(folder, "baseline", device, scale, every))
            yield from _rows(f"Measured with eval_every={every}, {noted}", plains, comparisons)
            if every == 1:
                yield from _computed(plains, comparisons, scale.epochs)


def _timed(folder: Path, methods: str, device: torch.device, scale: Scale, eval_every: int) -> Cost:
    asked = {
        "data": str(folder / "data"), "model": scale.model, "methods": methods, "seeds": 1, "epochs": scale.epochs,
        "batch_size": scale.batch_size, "eval_every": eval_every, "accelerator": device.type,
    }  # fmt: skip
    settings = request("classification", asked, {"image_size": str(scale.image_size)})
    with tempfile.TemporaryDirectory(dir=folder) as out, redirect_stderr(StringIO()):
        prepare(settings, Path(out))
        clock, start = Clock(), time.perf_counter()
        compare(settings, Path(out), "benchmarks.comparison", clock)
        seconds = time.perf_counter() - start
    return Cost(seconds, [_course(clock.ends[name], clock.trained[name]) for name in clock.ends])


def _course(ends: Sequence[float], trained: Sequence[float]) -> Course:
    training = [now - before for before, now in zip([0.0, *trained], trained, strict=False)]
    return Course(training, [whole - part for whole, part in zip(ends, training, strict=True)])


def _ratios(plains: Sequence[Cost], comparisons: Sequence[Cost]) -> Spread:
    around = [fmean((before.seconds, after.seconds)) for before, after in pairwise(plains)]
    return spread([cost.seconds / plain for cost, plain in zip(comparisons, around, strict=True)])


def _rows(table: str, plains: Sequence[Cost], comparisons: Sequence[Cost]) -> Iterator[Row]:
    one = fmean(cost.seconds for cost in plains)
    for contender, costs in ((PLAIN, plains), (COMPARISON, comparisons)):
        for case, values in (
            ("all", [cost.seconds for cost in costs]),
            ("training", [cost.training for cost in costs]),
            ("measuring", [cost.measuring for cost in costs]),
        ):
            yield plain_row("comparison", table, case, contender, "s", spread(values))
    yield plain_row("comparison", table, "all", PEERS, "s", Spread(10 * one, 10 * one, 10 * one))
    times = _ratios(plains, comparisons)
    yield plain_row("comparison", table, "times a plain run", COMPARISON, "x", times)
    yield Row("comparison", table, "quartiles", COMPARISON, note=f"{times.low:.2f} to {times.high:.2f}")


def _computed(plains: Sequence[Cost], comparisons: Sequence[Cost], mine: int) -> Iterator[Row]:
    """Yield how the ratio depends on how often both measure, from the parts that were timed."""
    table = f"Times a plain run, computed from these parts for other eval_every and lengths; at most {TARGET} is asked"
    for epochs in dict.fromkeys((mine, 30, 200)):
        for every in (1, 2, 3, 5, 10):
            costs: Mapping[str, float] = {
                name: fmean(sum(course.at(epochs, every) for course in cost.courses) for cost in group)
                for name, group in (("plain", plains), ("comparison", comparisons))
            }
            ratio = costs["comparison"] / costs["plain"]
            value = Spread(ratio, ratio, ratio)
            yield plain_row("comparison", table, f"eval_every={every}", f"{epochs} epochs", "x", value)
