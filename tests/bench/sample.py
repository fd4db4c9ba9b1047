"""Makers of rows and of the run.json that belongs to them: a realistic seeded run, and runs from given curves.

Also progress that a test watches.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from switch_ema.bench.plan import Trajectory
from switch_ema.bench.results import Row
from switch_ema.bench.stats import budget_points

FAST, SLOW = "sema:decay=0.98", "sema:decay=0.999,switch_every=2 epochs"
STEPS_PER_EPOCH = 11

Run = tuple[dict[str, Any], list[dict[str, Any]]]
Curve = Sequence[float | None]
# (method, lr, seed) -> (validation curve, test curve)
Curves = Mapping[tuple[str, float, int], tuple[Curve, Curve]]
Hook = Callable[[Trajectory, int], None]


class Watched:
    """Progress that remembers what it is told, with a hook after each epoch."""

    def __init__(self, hook: Hook | None = None) -> None:
        self.hook = hook
        self.told: list[tuple[str, int]] = []

    def begin(self, plan: Sequence[Trajectory], done: int, epochs: int) -> None:
        self.done = done

    def epoch(self, trajectory: Trajectory, epoch: int, rows: Sequence[Row]) -> None:
        assert {row.epoch for row in rows} == {epoch}
        self.told.append((trajectory.name, epoch))
        if self.hook:
            self.hook(trajectory, epoch)


class Method(NamedTuple):
    """How a method behaves: where it ends, how slowly it gets there, how much it learns of the wrong labels."""

    label: str
    final: float
    pace: float
    memorized: float
    lr_scale: float = 1.0
    retained: float | None = None
    switch_every: str | None = None
    switches_per_epoch: float = 0
    control_for: tuple[str, ...] = ()


METHODS = (
    Method("baseline", 0.942, 3.0, 0.16),
    Method("ema:decay=0.98", 0.94, 3.4, 0.14),
    Method("ema:decay=0.999", 0.938, 6.0, 0.06),
    Method(FAST, 0.944, 4.5, 0.05, retained=0.17, switch_every="1 epoch", switches_per_epoch=1),
    Method(SLOW, 0.60, 14.0, 0.0, retained=0.011, switch_every="2 epochs", switches_per_epoch=0.5),
    Method("swa", 0.935, 5.0, 0.08),
    Method("lookahead:k=5,alpha=0.5", 0.935, 3.3, 0.12, retained=0.6, switch_every="5 steps", switches_per_epoch=2.2),
    Method("baseline:lr_scale=0.17", 0.929, 4.4, 0.045, lr_scale=0.17, control_for=(FAST,)),
    Method("ema:decay=0.98,lr_scale=0.17", 0.928, 4.6, 0.045, lr_scale=0.17, control_for=(FAST,)),
)


def make_run(
    *, lrs: Sequence[float] = (0.05,), seeds: int = 3, epochs: int = 12, diverged: Collection[tuple[str, int]] = ()
) -> Run:
    """Make a run of nine methods; `diverged` names (method, seed) pairs whose values end as null."""
    rows = [
        {
            "task": "classification",
            "data": "digits",
            "model": "small-resnet",
            "method": method.label,
            "lr": lr,
            "seed": seed,
            "epoch": epoch,
            "step": epoch * STEPS_PER_EPOCH,
            "split": split,
            "metric": metric,
            "value": None if (method.label, seed) in diverged and 2 * epoch > epochs else round(value, 6),
            "higher_is_better": {"n_switches": None}.get(metric, "accuracy" in metric),
            "seconds": round(epoch * 0.81 + seed * 0.03, 3),
        }
        for lr in lrs
        for seed in range(seeds)
        for method in METHODS
        for epoch, split, metric, value in _measurements(method, lr, seed, epochs)
    ]
    return _run(lrs, seeds, epochs), rows


def build(curves: Curves, *, higher: bool = True, epochs: int | None = None, **methods: dict[str, Any]) -> Run:
    """Make run and rows from curves; `methods` says what is special about a method."""
    labels = list(dict.fromkeys(method for method, _, _ in curves))
    plain = {"summary": "", "switches": False, "lr_scale": 1.0, "retained_fraction": None, "switch_every": None}
    run = {
        "asked": {"epochs": epochs or max(len(test) for _, test in curves.values())},
        "metrics": [{"name": "score", "higher_is_better": higher}],
        "methods": [{"label": label, "control_for": [], **plain, **methods.get(label, {})} for label in labels],
    }
    rows = [
        {"method": method, "lr": lr, "seed": seed, "split": split, "metric": "score", "epoch": epoch, "value": value}
        for (method, lr, seed), pair in curves.items()
        for split, curve in zip(("val", "test"), pair, strict=True)
        for epoch, value in enumerate(curve, start=1)
    ]
    return run, rows


def same(*curve: float | None) -> tuple[Curve, Curve]:
    return curve, curve


def save_run(folder: Path, run: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write the files of a run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def save_study(folder: Path) -> Path:
    """Write the files of a study of one arm, made up."""
    run, rows = make_run(lrs=(0.01, 0.05), diverged=[("swa", 0)])
    save_run(folder / "arms" / "curves", run, rows)
    record = {"format": 1, "study": "convergence", "command": "sema study convergence", "started": run["started"]}
    arms = [{"name": "curves", "title": "small-resnet on digits"}]
    (folder / "study.json").write_text(json.dumps({**record, "asked": run["asked"], "arms": arms}))
    return folder


def _measurements(method: Method, lr: float, seed: int, epochs: int) -> Iterator[tuple[int, str, str, float]]:
    rng = random.Random(f"{method.label} {lr} {seed}")
    luck = random.Random(seed).gauss(0, 0.008) + rng.gauss(0, 0.005)
    heat = math.log10(lr * method.lr_scale / 0.02)  # too hot memorizes wrong labels, too cold is slow
    pace = method.pace / min(1.0, 1.4 + heat)
    memorized = method.memorized * max(0.0, 0.3 + heat)
    for epoch in range(1, epochs + 1):
        share = epoch / epochs
        value = method.final * (1 - math.exp(-share * 26 / pace)) - memorized * share**2 + luck
        value = min(0.99, max(0.1, value + rng.gauss(0, 0.012) * (1 - 0.8 * share)))
        for split, offset in (("val", 0.004), ("test", 0.0)):
            yield epoch, split, "accuracy", value + offset
            yield epoch, split, "loss", 0.3 - math.log(value)
            if epoch in budget_points(epochs).values():
                again = value + 0.008 * (1 - share) + rng.gauss(0, 0.002)
                yield epoch, split, "accuracy_bn_reestimated", again
                yield epoch, split, "loss_bn_reestimated", 0.3 - math.log(again)
        yield epoch, "train", "loss", 1.9 - value * (0.6 + share)
        if method.switch_every:
            yield epoch, "train", "n_switches", int(epoch * method.switches_per_epoch)


def _run(lrs: Sequence[float], seeds: int, epochs: int) -> dict[str, Any]:
    return {
        "format": 1,
        "command": "sema compare classification --data digits --label-noise 0.4 --control",
        "started": "2025-01-02T03:04:05+00:00",
        "asked": {
            "task": "classification",
            "data": "digits",
            "model": "small-resnet",
            "label_noise": 0.4,
            "methods": [method.label for method in METHODS],
            "lr": list(lrs),
            "seeds": seeds,
            "epochs": epochs,
            "batch_size": 128,
            "optimizer": "sgd",
            "schedule": "cosine",
        },
        "environment": {"switch_ema": "0.1.0", "python": "3.11.2", "torch": "2.14.1", "device": "cpu", "commit": None},
        "steps_per_epoch": STEPS_PER_EPOCH,
        "metrics": [{"name": "accuracy", "higher_is_better": True}, {"name": "loss", "higher_is_better": False}],
        "methods": [
            {
                "label": method.label,
                "kind": method.label.split(":")[0],
                "summary": f"A short sentence on what {method.label.split(':')[0]} does.",
                "switches": method.switch_every is not None,
                "passive": method.switch_every is None,
                "lr_scale": method.lr_scale,
                "retained_fraction": method.retained,
                "switch_every": method.switch_every,
                "control_for": list(method.control_for),
            }
            for method in METHODS
        ],
        "trajectories": [],
    }
