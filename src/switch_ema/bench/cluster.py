"""A comparison on a Ray cluster: every training run is a task, and this process, the head, alone writes the run folder.

What a run has written by its last checkpoint goes to a mailbox, an actor on the cluster's first node: there a run that
was lost with its machine finds it when Ray starts it again, and from there the head keeps it as a part on its own disk.
So no folder need be shared, and a comparison goes on with or without a cluster, wherever it was begun.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch_ema.bench.compare import Outcome, Progress, planned
from switch_ema.bench.connection import connected
from switch_ema.bench.machine import threads
from switch_ema.bench.mailbox import Mailbox
from switch_ema.bench.parts import finished_parts, join, part_of, split
from switch_ema.bench.plan import Trajectory, plan
from switch_ema.bench.remote import contents, look_there, replace_contents, train_there
from switch_ema.bench.results import Store
from switch_ema.bench.settings import Settings
from switch_ema.errors import FieldError, InputError

if TYPE_CHECKING:
    from ray import ObjectRef

_LOSSES = 3  # how often a training run may be lost with its worker
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0  # for runs that are told to stop
_KINDS = {"CPU": "num_cpus", "GPU": "num_gpus"}  # of resources: a cluster's name for one, and a task's


def compare_on(address: str, settings: Settings, out: Path, command: str, progress: Progress) -> Outcome:
    """Run a comparison, or what is left of it, on a Ray cluster.

    The rows are those of a comparison in one process, in the same order, but for the seconds.

    Args:
        address: `ray` for the cluster in the environment variable RAY_ADDRESS, or else for one on this machine alone;
            `ray://HOST:PORT` for one elsewhere. Its nodes need this package and the data, at the same paths.
        settings: What is asked, checked by `prepare` and `check_cluster`.
        out: The run folder, on this machine.
        command: The command line, for the record.
        progress: Is told after every epoch.

    Returns:
        What came of it.

    Raises:
        InputError: The cluster cannot be reached, or has no GPU where one is asked for, or the data are wrong; nothing
            was written then.
        ConnectionError: A training run was lost too often, or the cluster itself; what was written stays.
    """
    with ThreadPoolExecutor(1) as loading:
        for module in ("torch", "switch_ema.bench.report"):  # while Ray starts
            loading.submit(import_module, module)
        # Ray writes what befalls workers to standard output, which belongs to the results
        with redirect_stdout(sys.stderr), connected(address), threads(settings):
            return _Head(settings, out, command, progress).run()


@contextmanager
def _causes() -> Iterator[None]:
    """Raise, of an error on the cluster, the cause if that says enough by itself."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (InputError, OSError)):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise ConnectionError(
            f"a training run was lost with its worker more than {_LOSSES} times, or the cluster is gone "
            f"({type(error).__name__})"
        ) from error


class _Head:
    """The process that plans, listens, and writes."""

    def __init__(self, settings: Settings, out: Path, command: str, progress: Progress) -> None:
        import ray
        import torch
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._settings = settings
        self._store = Store(out)
        self._command = command
        self._progress = progress
        self._threads = torch.get_num_threads()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox: Any = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self._needs = {**_resources(settings, self._threads), "max_retries": _LOSSES}

    def run(self) -> Outcome:
        """Train what is left, and write the report."""
        import ray

        from switch_ema.bench.report import write_report

        with self._store.locked(), _causes():
            # so many that all workers load what they need at once; the first one's answer will do
            looks = [self._look() for _ in range(self._num_side_by_side())]
            about = ray.get(looks[0])
            trajectories, record = planned(self._settings, about, self._command)
            if not self._store.run_path.exists():
                self._store.begin(record)
            finished = {*self._store.done(), *finished_parts(self._store)}
            left = [trajectory for trajectory in trajectories if trajectory.name not in finished]
            self._progress.begin(trajectories, len(finished), self._settings.epochs)
            self._join_in_order(trajectories)
            self._train(left, trajectories, about["steps_per_epoch"])
            return Outcome(write_report(self._store.folder), True, len(left))

    def _task(self, function: Any) -> Any:
        import ray

        return ray.remote(function).options(**self._needs)

    def _look(self) -> ObjectRef[Any]:
        reference: ObjectRef[Any] = self._task(look_there).remote(self._settings, self._threads, os.getcwd())
        return reference

    def _num_side_by_side(self) -> int:
        """Return how many training runs can be under way at a time, at least one."""
        import ray

        there = ray.cluster_resources()
        fit = min(there.get(kind, 0) // self._needs[need] for kind, need in _KINDS.items() if self._needs[need])
        asked = plan(self._settings.parsed_methods(), self._settings.lr, range(self._settings.seeds))
        return max(1, min(int(fit), len(asked)))

    def _train(self, left: Sequence[Trajectory], order: Sequence[Trajectory], steps_per_epoch: int) -> None:
        import ray

        task = self._task(train_there)
        running: dict[ObjectRef[Any], Trajectory] = {}
        for trajectory in left:
            split(self._store, trajectory.name)
            part = part_of(self._store, trajectory.name)
            found, stamps = contents(part.folder, {})
            if found:
                ray.get(self._mailbox.keep.remote(trajectory.name, found, [*stamps]))
            asked = (self._settings, trajectory, steps_per_epoch, self._threads, os.getcwd(), str(part.folder))
            running[task.remote(*asked, self._mailbox)] = trajectory
        by_name = {trajectory.name: trajectory for trajectory in left}
        try:
            while running:
                ready, _ = ray.wait(list(running), timeout=_POLL_SECONDS)
                self._listen(by_name)
                for reference in ready:
                    name = running.pop(reference).name
                    files = ray.get(reference)
                    replace_contents(part_of(self._store, name).folder, files, files)
                    ray.get(self._mailbox.forget.remote(name))
                    self._join_in_order(order)
        finally:
            for reference in running:
                ray.cancel(reference)
            if running:  # let them clean up
                ray.wait(list(running), num_returns=len(running), timeout=_PATIENCE_SECONDS)

    def _listen(self, by_name: dict[str, Trajectory]) -> None:
        """Pass on what the runs tell, and keep on disk what they have written."""
        import ray

        epochs, parts = ray.get(self._mailbox.take.remote())
        for name, (files, names) in parts.items():
            replace_contents(part_of(self._store, name).folder, files, names)
        for name, epoch, rows in epochs:
            self._progress.epoch(by_name[name], epoch, rows)

    def _join_in_order(self, order: Sequence[Trajectory]) -> None:
        """Take finished parts into the run folder, up to the first trajectory that is still trained."""
        done, finished = self._store.done(), finished_parts(self._store)
        for trajectory in order:
            if trajectory.name in finished:
                join(self._store, trajectory.name)
            elif trajectory.name not in done:
                return


def _resources(settings: Settings, num_threads: int) -> dict[str, float]:
    """Return what a training run takes of the cluster: a GPU where there are some, else its CPU threads.

    Raises:
        FieldError: A GPU is asked for, and no node has one.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_gpus = any(node.get("GPU", 0) for node in nodes)
    if settings.accelerator == "cuda" and not has_gpus:
        raise FieldError("accelerator", "cuda: no node of the cluster has a GPU; add one, or write cpu")
    if has_gpus and settings.accelerator in ("auto", "cuda"):
        return {"num_gpus": 1, "num_cpus": 1}
    return {"num_gpus": 0, "num_cpus": min(num_threads, int(max(node.get("CPU", 1) for node in nodes)))}
