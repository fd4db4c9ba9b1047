"""A comparison from start to end: check, plan, train what is not yet trained, write the report."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from switch_ema.bench.machine import environment, threads
from switch_ema.bench.methods import Method
from switch_ema.bench.parts import finished_parts, join, part_of
from switch_ema.bench.plan import Trajectory, plan, with_controls
from switch_ema.bench.processes import FSDP2, check_processes, check_shared, num_nodes, on_first
from switch_ema.bench.request import as_asked, make_task
from switch_ema.bench.results import Row, Store
from switch_ema.bench.settings import Settings
from switch_ema.errors import FieldError, InputError
from switch_ema.tasks.catalog import check

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from switch_ema.bench.task import Task

_log = logging.getLogger(__name__)


class Progress(Protocol):
    """Who is told how a comparison goes on."""

    def begin(self, plan: Sequence[Trajectory], done: int, epochs: int) -> None:
        """The plan stands; `done` of its trajectories were finished before."""

    def epoch(self, trajectory: Trajectory, epoch: int, rows: Sequence[Row]) -> None:
        """An epoch has been trained and measured."""


@dataclass(frozen=True)
class Outcome:
    """What came of a comparison.

    Attributes:
        report: The report page.
        writes: Whether this process is the one that writes and speaks (the first of several).
        trained: Trajectories trained by this call; 0 if there was nothing to do.
    """

    report: Path
    writes: bool
    trained: int


def prepare(settings: Settings, out: Path) -> bool:
    """Refuse everything that can be refused without loading torch.

    Args:
        settings: What is asked.
        out: The run folder.

    Returns:
        Whether the comparison is finished already.

    Raises:
        InputError: If a name, value, file or folder is wrong.
    """
    for method in settings.parsed_methods():
        if method.switches and settings.optimizer == "schedulefree":
            raise FieldError(
                "optimizer",
                f"schedulefree: it keeps weights of its own, which the switches of {method.label!r} would not reach; "
                "write adamw, or leave the method out",
            )
    check_processes(settings)
    check(settings.task, settings.data, settings.model, settings.task_options)
    return Store(out).check(as_asked(settings))


def compare(settings: Settings, out: Path, command: str, progress: Progress, cluster: str | None = None) -> Outcome:
    """Run a comparison, or what is left of it.

    Args:
        settings: What is asked, checked by `prepare`.
        out: The run folder.
        command: The command line, for the record.
        progress: Is told after every epoch.
        cluster: Where its training runs go, side by side: see `switch_ema.bench.cluster.compare_on`.

    Returns:
        What came of it.

    Raises:
        InputError: If the data or the folder turn out to be wrong.
    """
    if cluster is not None:
        from switch_ema.bench.cluster import compare_on

        return compare_on(cluster, settings, out, command, progress)
    with threads(settings):
        return _compare(settings, out, command, progress)


def _compare(settings: Settings, out: Path, command: str, progress: Progress) -> Outcome:
    from switch_ema.bench.report import write_report
    from switch_ema.bench.train import Run, run_trajectory

    fabric = make_fabric(settings)
    about = look(settings, fabric)
    trajectories, record = planned(settings, about, command)
    store = Store(out)
    with ExitStack() as held:
        finished = on_first(fabric, partial(_begin, store, record, held))
        check_shared(fabric, store)
        progress.begin(trajectories, len(finished), settings.epochs)
        for trajectory in trajectories:
            part = part_of(store, trajectory.name)
            begun = fabric.broadcast(part.folder.exists())
            if trajectory.name not in finished:
                place = part if begun else store
                task = make_task(settings, trajectory.seed)
                run = Run(fabric, task, trajectory, settings, about["steps_per_epoch"], place.folder)
                run_trajectory(run, place, progress.epoch)
            if begun and fabric.is_global_zero:
                join(store, trajectory.name)
        report = write_report(out) if fabric.is_global_zero else out / "report.html"
    return Outcome(report, fabric.is_global_zero, len(trajectories) - len(finished))


def _begin(store: Store, record: Mapping[str, Any], held: ExitStack) -> set[str]:
    """Take the run folder for this process alone, and return the names of the trajectories that are finished."""
    held.enter_context(store.locked())
    if not store.run_path.exists():
        store.begin(record)
    return {*store.done(), *finished_parts(store)}


def make_fabric(settings: Settings) -> Fabric:
    """Make what knows of devices, precision and processes, and start the processes."""
    from lightning.fabric import Fabric

    from switch_ema.bench.sharding import fsdp2

    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=num_nodes(),
        strategy=fsdp2(settings.devices) if settings.strategy == FSDP2 else settings.strategy,
        precision=settings.precision,
    )
    fabric.launch()
    return fabric


def look(settings: Settings, fabric: Fabric) -> dict[str, Any]:
    """Return what the record of a comparison says of the problem and the machine.

    Args:
        settings: What is asked.
        fabric: What it is trained with.

    Raises:
        InputError: If the data turn out to be wrong, or a batch does not fit them or the devices.
    """
    task = make_task(settings, 0)
    steps_per_epoch = _steps_per_epoch(settings, task.num_train, fabric.world_size)
    if settings.batch_size == fabric.world_size:
        _refuse_batchnorm(task)
    return {
        "environment": environment(fabric),
        "model": task.model,
        "steps_per_epoch": steps_per_epoch,
        "metrics": [asdict(metric) for metric in task.metrics],
        "final_metrics": [asdict(metric) for metric in task.final_metrics],
    }


def planned(settings: Settings, about: Mapping[str, Any], command: str) -> tuple[list[Trajectory], dict[str, Any]]:
    """Return what is to be trained, and the record of it.

    Args:
        settings: What is asked.
        about: What `look` found.
        command: The command line.

    Raises:
        InputError: If an option of a method does not fit the length of training.
    """
    methods = settings.parsed_methods()
    if settings.control:
        methods = with_controls(methods, settings.epochs, about["steps_per_epoch"])
    trajectories = plan(methods, settings.lr, range(settings.seeds))
    record = {
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "asked": as_asked(settings),
        **about,
        "methods": [describe(method, settings, about["steps_per_epoch"]) for method in methods],
        "trajectories": [_describe_trajectory(trajectory) for trajectory in trajectories],
    }
    return trajectories, record


def _steps_per_epoch(settings: Settings, num_train: int, world_size: int) -> int:
    if settings.batch_size % world_size:
        raise InputError(
            f"--batch-size {settings.batch_size} cannot be shared by {world_size} devices; write a multiple of it"
        )
    steps = num_train // (settings.batch_size * settings.accumulate)
    if steps == 0:
        raise InputError(
            f"--batch-size {settings.batch_size} times --accumulate {settings.accumulate} is more than the "
            f"{num_train} training examples; write at most --batch-size {max(1, num_train // settings.accumulate)}"
        )
    return steps


def _refuse_batchnorm(task: Task) -> None:
    """Refuse one example per device where statistics over a batch are needed."""
    from switch_ema.averaging.buffers import has_batchnorm

    if has_batchnorm(task.build_model()):
        raise FieldError(
            "batch_size", f"gives one example per device, but {task.model} has BatchNorm; write at least 2 for each"
        )


def describe(method: Method, settings: Settings, steps_per_epoch: int) -> dict[str, Any]:
    """Return what the report needs to know of a method, and say aloud what its averager warns of.

    Args:
        method: The method.
        settings: For the length of training.
        steps_per_epoch: Optimizer steps in an epoch.

    Raises:
        InputError: If an option does not fit the length of training.
    """
    texts = method.texts(settings.epochs)
    retained = method.retained_fraction(settings.epochs, steps_per_epoch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method.probe(settings.epochs, steps_per_epoch)
    for warning in caught:
        _log.warning("%s: %s", method.label, warning.message)
    return {
        "label": method.label,
        "kind": method.kind,
        "summary": method.summary,
        "options": texts,
        "switches": method.switches,
        "passive": not method.switches,
        "lr_scale": method.lr_scale,
        "retained_fraction": retained,
        "switch_every": (texts.get("switch_every") or f"{texts.get('k')} steps") if method.switches else None,
        "control_for": list(method.control_for),
    }


def _describe_trajectory(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "name": trajectory.name,
        "seed": trajectory.seed,
        "lr": trajectory.lr,
        "lr_scale": trajectory.lr_scale,
        "sam": asdict(trajectory.sam) if trajectory.sam else None,
        "active": trajectory.active.label if trajectory.active else None,
        "riders": [method.label for method in trajectory.riders],
    }
