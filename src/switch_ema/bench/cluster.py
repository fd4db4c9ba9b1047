"""A comparison on a Ray cluster: every training run is a task, and this process, the head, alone writes the run folder.

What a run has written by its last checkpoint goes to a mailbox, an actor on the cluster's first node: there a run that
was lost with its machine finds it when Ray starts it again, and from there the head keeps it as a part on its own disk.
So no folder need be shared, and a comparison goes on with or without a cluster, wherever it was begun.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from switch_ema.bench.compare import Outcome, Progress, planned
from switch_ema.bench.machine import threads
from switch_ema.bench.mailbox import Mailbox
from switch_ema.bench.parts import finished_parts, join, part_of, split
from switch_ema.bench.plan import Trajectory
from switch_ema.bench.remote import contents, look_there, replace_contents, train_there
from switch_ema.bench.results import Store
from switch_ema.bench.settings import Settings
from switch_ema.errors import FieldError, InputError
from switch_ema.libraries import require

if TYPE_CHECKING:
    from ray import ObjectRef

LOCAL = "ray"
_CLIENT = "ray://"
_LOSSES = 3  # how often a training run may be lost with its worker
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0  # for an address that does not answer


def check_cluster(address: str, settings: Settings) -> None:
    """Refuse what can be refused of a cluster without connecting to it.

    Args:
        address: `ray`, or `ray://HOST:PORT`.
        settings: What is asked of the comparison.

    Raises:
        FieldError: The address is none, or a training run is to use several devices or processes.
        MissingLibraryError: Ray is not installed.
    """
    if address != LOCAL:
        _host_and_port(address)
    if settings.devices > 1 or settings.strategy != "auto":
        raise FieldError(
            "cluster",
            f"{address}: a training run on a cluster has one device; leave --devices and --strategy out, or leave "
            "--cluster out and start the comparison with torchrun",
        )
    require("--cluster", "ray>=2.40", extra="ray")
    if address.startswith(_CLIENT):
        require(f"--cluster {_CLIENT}", "grpc", extra="ray")


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
def connected(address: str) -> Iterator[None]:
    """Be connected to a cluster for the length of a block: to the one we are connected to already, if there is one.

    Args:
        address: `ray`, or `ray://HOST:PORT`.

    Raises:
        InputError: It cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    there = os.environ.get("RAY_ADDRESS", "local") if address == LOCAL else address
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if there == "local":
        options["include_dashboard"] = False
    elif there != "auto":
        _knock(there)
    try:
        ray.init(address=there, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreachable(there, str(error).strip().partition("\n")[0]) from error
    try:
        yield
    finally:
        ray.shutdown()


def _host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of an address."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        if parts.scheme in ("", "ray") and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise FieldError("cluster", f"{address}: no address of a cluster; write ray, or ray://HOST:PORT (often 10001)")


def _knock(address: str) -> None:
    """Find out in seconds that nobody answers; Ray itself would try for minutes."""
    place = _host_and_port(address)
    try:
        socket.create_connection(place, timeout=_PATIENCE_SECONDS).close()
        if address.startswith(_CLIENT):
            grpc: Any = import_module("grpc")
            with grpc.insecure_channel(f"{place[0]}:{place[1]}") as channel:
                grpc.channel_ready_future(channel).result(timeout=_PATIENCE_SECONDS)
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error
    except Exception as error:  # grpc's own
        raise _unreachable(address, "no Ray client server answers there") from error


def _unreachable(address: str, why: str) -> FieldError:
    where = "" if address == "local" else f" {address}"
    return FieldError("cluster", f"cannot reach the Ray cluster{where} ({why}); start it, or write another address")


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
            about = ray.get(self._task(look_there).remote(self._settings, self._threads, os.getcwd()))
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

    def _train(self, left: Sequence[Trajectory], plan: Sequence[Trajectory], steps_per_epoch: int) -> None:
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
                    self._join_in_order(plan)
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

    def _join_in_order(self, plan: Sequence[Trajectory]) -> None:
        """Take finished parts into the run folder, up to the first trajectory that is still trained."""
        done, finished = self._store.done(), finished_parts(self._store)
        for trajectory in plan:
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
