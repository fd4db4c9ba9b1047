"""Choosing the width of the average after training: every width is made from the snapshots of a finished run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch_ema.bench.files import write_text
from switch_ema.bench.integrity import seal
from switch_ema.bench.machine import threads
from switch_ema.bench.methods import Method
from switch_ema.bench.plan import Trajectory, plan
from switch_ema.bench.request import make_task, recorded
from switch_ema.bench.results import Store, read_run
from switch_ema.bench.settings import Settings
from switch_ema.bench.task import SPLITS, Split
from switch_ema.bench.widths import KIND, read_sweep, sweep_path
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def sweep(folder: Path, widths: Sequence[float], progress: Callable[[str], None]) -> None:
    """Measure the averages of several widths of a finished comparison, and write them to ``sweep.jsonl``.

    What the file holds already is not measured again.

    Args:
        folder: A run folder whose methods include ``posthoc``.
        widths: Standard deviations of the averages as parts of training (sigma_rel).
        progress: Told of every average that is measured.

    Raises:
        InputError: The folder is no finished comparison with snapshots.
    """
    settings = _checked(folder)
    with Store(folder).locked(), threads(settings):
        _sweep(folder, settings, dict.fromkeys(widths), progress)


def _sweep(folder: Path, settings: Settings, widths: Iterable[float], progress: Callable[[str], None]) -> None:
    from lightning.fabric import Fabric

    measured = read_sweep(folder)
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)
    known = {(row["method"], row["lr"], row["seed"], row["sigma_rel"]) for row in measured}
    for trajectory, method, path in list(_jobs(settings, folder)):
        left = [w for w in widths if (method.label, trajectory.lr, trajectory.seed, w) not in known]
        for width, rows in _measured(fabric, settings, trajectory, path, left):
            named = {"method": method.label, "lr": trajectory.lr, "seed": trajectory.seed, "sigma_rel": width}
            measured += [{**named, **row} for row in rows]
            lines = "".join(json.dumps(seal(row)) + "\n" for row in measured)
            write_text(sweep_path(folder), lines)
            progress(f"{trajectory.name}, {method.label}: sigma_rel {width:g}")


def _checked(folder: Path) -> Settings:
    run, _ = read_run(folder)
    if len(Store(folder).done()) < len(run["trajectories"]):
        raise InputError(f"{folder} is not finished; give its command again, then sweep: {run['command']}")
    settings = recorded(run["asked"])
    if not any(method.kind == KIND for method in settings.parsed_methods()):
        raise InputError(f"{folder} keeps no snapshots; compare with --methods baseline,{KIND}, then sweep")
    return settings


def _jobs(settings: Settings, folder: Path) -> Iterator[tuple[Trajectory, Method, Path]]:
    """Yield what has snapshots; the controls of a comparison have none."""
    for trajectory in plan(settings.parsed_methods(), settings.lr, range(settings.seeds)):
        for method in trajectory.riders:
            if method.kind == KIND:
                path = folder / "snapshots" / trajectory.name / method.slug
                if not path.is_dir():
                    raise InputError(
                        f"{path} is not there; its snapshots were removed, so compare again into another --out"
                    )
                yield trajectory, method, path


def _measured(
    fabric: Fabric, settings: Settings, trajectory: Trajectory, path: Path, widths: Sequence[float]
) -> Iterator[tuple[float, list[dict[str, Any]]]]:
    """Make the averages of one training run, and measure each on both splits."""
    from switch_ema.averaging.synthesis import Snapshots

    if not widths:
        return
    task = make_task(settings, trajectory.seed)
    stored = Snapshots(path)
    for width in widths:
        model = task.build_model()
        average = stored.synthesize(sigma_rel=width)
        average.copy_to(task.averaged_part(model))
        model = fabric.to_device(model).eval()
        with fabric.autocast():
            values: dict[Split, dict[str, float]] = {s: task.evaluate(model, s, fabric.device) for s in SPLITS}
            final = task.evaluate_final(model, fabric.device) if task.final_metrics else {}
        yield (
            width,
            [
                {
                    "split": split,
                    "fit_error": average.fit.relative_error,
                    "values": {
                        name: _finite(value) for name, value in {**values[split], **final.get(split, {})}.items()
                    },
                }
                for split in SPLITS
            ],
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
