"""The training loop: one trajectory, with every method that rides on it measured after each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from switch_ema.averaging.averager import Averager
from switch_ema.averaging.buffers import has_batchnorm
from switch_ema.averaging.group import AveragerGroup
from switch_ema.bench.checkpoint import read_checkpoint
from switch_ema.bench.exhibit import Exhibit
from switch_ema.bench.gallery import keep_exhibits
from switch_ema.bench.integrity import Extent
from switch_ema.bench.kept import Keeper
from switch_ema.bench.measure import measure
from switch_ema.bench.optim import build_optimizer
from switch_ema.bench.plan import Trajectory
from switch_ema.bench.posthoc import PostHocRider, Rider
from switch_ema.bench.processes import in_step, on_first
from switch_ema.bench.results import Row, Store
from switch_ema.bench.sam import SAM, frozen_statistics
from switch_ema.bench.schedule import Schedule
from switch_ema.bench.seeds import derived_seed
from switch_ema.bench.settings import Settings
from switch_ema.bench.sharding import remove_parts, whole_state, write_state
from switch_ema.bench.task import Shard, Task
from switch_ema.errors import InputError

_CHECKPOINT_SECONDS = 10.0


class Run:
    """One trajectory in training.

    Args:
        fabric: Devices, precision and processes.
        task: The problem, made for the trajectory's seed.
        trajectory: What to train and whom to measure.
        settings: How to train.
        steps_per_epoch: Optimizer steps in an epoch.
        folder: The run folder, where methods may keep files of their own.
    """

    def __init__(
        self,
        fabric: Fabric,
        task: Task,
        trajectory: Trajectory,
        settings: Settings,
        steps_per_epoch: int,
        folder: Path = Path(),
    ) -> None:
        self.fabric = fabric
        self.task = task
        self.trajectory = trajectory
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch
        self.epoch = 0
        self.seconds = 0.0
        self.keeper = Keeper(folder, settings.keep_weights)
        self.exhibits: dict[str, Sequence[Exhibit]] = {}
        torch.manual_seed(derived_seed(trajectory.seed, "weights"))
        self.module = task.build_model()
        self.model = fabric.setup_module(self.module)
        part = task.averaged_part(self.module)
        self.raw_optimizer = build_optimizer(part, settings)  # of the shards, where the model is sharded now
        self.optimizer = cast(Any, fabric.setup_optimizers(self.raw_optimizer))
        self.averagers = self._build_averagers(part, folder / "snapshots" / trajectory.name)
        self.sam = SAM(self.raw_optimizer, trajectory.sam.rho, trajectory.sam.adaptive) if trajectory.sam else None
        self.schedule = Schedule.of(settings, self.lr, steps_per_epoch)
        self.batchnorm = has_batchnorm(self.module)

    @property
    def lr(self) -> float:
        """The peak learning rate."""
        return self.trajectory.lr * self.trajectory.lr_scale

    def _build_averagers(self, part: nn.Module, folder: Path) -> dict[str, Rider | None]:
        averagers = {
            method.label: method.build(part, self.settings.epochs, self.steps_per_epoch, folder)
            for method in self.trajectory.riders
        }
        together = [averager for averager in averagers.values() if isinstance(averager, Averager)]
        self.trackers = [averager for averager in averagers.values() if isinstance(averager, PostHocRider)]
        self._followers: list[AveragerGroup | PostHocRider] = [*self.trackers]
        if together:
            self._followers.append(AveragerGroup(*together))  # small tensors are joined once for all
        for follower in self._followers:
            follower.attach(self.raw_optimizer)
        return averagers

    def train_epoch(self) -> float:
        """Train one epoch and return its mean loss."""
        start = time.monotonic()
        torch.manual_seed(derived_seed(self.trajectory.seed, f"dropout{self.fabric.global_rank}", self.epoch))
        self.model.train()
        loss_sum = torch.zeros((), device=self.fabric.device)
        batches = self.batches("batches")
        first = self.epoch * self.steps_per_epoch
        for step in range(first, first + self.steps_per_epoch):
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * self.schedule.factor(step)
            loss_sum += self._step(islice(batches, self.settings.accumulate))
            self.task.after_step(self.module, (step + 1) / (self.settings.epochs * self.steps_per_epoch))
        for follower in self._followers:
            follower.end_epoch()
        self.epoch += 1
        total_loss = self.fabric.all_reduce(loss_sum, reduce_op="mean")
        self.seconds += time.monotonic() - start
        return float(cast(Tensor, total_loss)) / self.steps_per_epoch

    def _step(self, batches: Iterator[Any]) -> Tensor:
        """Take one optimizer step and return the mean loss of its batches."""
        if self.sam:
            kept = list(batches)  # they are gone through twice
            loss = self._backward(kept)
            self.sam.ascend()
            self.optimizer.zero_grad()
            with frozen_statistics(self.module):
                self._backward(kept)
            self.sam.restore()
        else:
            loss = self._backward(batches)
        if self.settings.clip_norm is not None:
            # a run that diverges is measured as such, and whether the norm is finite is not waited for
            limit = self.settings.clip_norm
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def _backward(self, batches: Iterable[Any]) -> Tensor:
        total = torch.zeros((), device=self.fabric.device)
        for micro, batch in enumerate(batches, start=1):
            with self.fabric.no_backward_sync(self.model, enabled=micro < self.settings.accumulate):
                loss = self.task.loss(self.model, batch) / self.settings.accumulate
                self.fabric.backward(loss)
            total += loss.detach()
        return total

    def batches(self, purpose: str) -> Iterator[Any]:
        """Return the batches of the present epoch for one purpose."""
        seed = derived_seed(self.trajectory.seed, purpose, self.epoch)
        shard = Shard(self.fabric.global_rank, self.fabric.world_size)
        return self.task.train_batches(self.settings.batch_size, seed, self.fabric.device, shard)

    def state(self) -> dict[str, Any]:
        """Return everything needed to go on after the current epoch."""
        return {
            "trajectory": self.trajectory.name,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.keeper.best,
            "precision": self.fabric.strategy.precision.state_dict(),
            "averagers": {label: a.state_dict() for label, a in self.averagers.items() if a is not None},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.keeper.best = state["best"]
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        for label, averager in self.averagers.items():
            if averager is not None:
                averager.load_state_dict(state["averagers"][label])


def run_trajectory(run: Run, store: Store, progress: Callable[[Trajectory, int, list[Row]], None]) -> None:
    """Train a trajectory to its end, from its checkpoint if there is one, writing rows and checkpoints.

    Args:
        run: The trajectory.
        store: Where rows and checkpoints go; only the first process writes.
        progress: Called after every epoch with the new rows, when they and the checkpoint are on the disk.
    """
    written = _resume(run, store)
    if run.epoch == 0:
        for tracker in run.trackers:
            tracker.begin_anew()
    last_checkpoint = on_first(run.fabric, time.monotonic)  # the same on all, so that all write at the same time
    while run.epoch < run.settings.epochs:
        rows = measure(run, run.train_epoch())
        written = on_first(run.fabric, partial(store.append, rows))
        waited = on_first(run.fabric, time.monotonic) - last_checkpoint
        if waited >= _CHECKPOINT_SECONDS and run.epoch < run.settings.epochs:
            write_state(run.fabric, store.checkpoint_path, {**run.state(), "rows": list(written)})
            last_checkpoint = on_first(run.fabric, time.monotonic)
        progress(run.trajectory, run.epoch, rows)
    on_first(run.fabric, partial(_finish, run, store, written))


def _finish(run: Run, store: Store, written: Extent) -> None:
    keep_exhibits(store.folder, run.trajectory.name, run.trajectory.lr, run.exhibits)
    store.finish(run.trajectory.name, written)
    remove_parts(store.checkpoint_path)


def _resume(run: Run, store: Store) -> Extent:
    """Load the trajectory's checkpoint if there is one, drop rows beyond it, and return the rows that are left."""
    there = on_first(run.fabric, store.checkpoint_path.exists)  # the first one may still be ending the last run
    settled = in_step(run.fabric, partial(_load, run, store) if there else store.settled)[0]
    on_first(run.fabric, partial(store.rewind, settled))
    return settled


def _load(run: Run, store: Store) -> Extent:
    """Load a checkpoint if it is the trajectory's, and return the rows that were settled or written before it."""
    path = store.checkpoint_path
    try:
        state = read_checkpoint(path, run.fabric.device)
        if state["trajectory"] != run.trajectory.name:
            return store.settled()
        run.load(whole_state(run.fabric, path, state, run.module))
        return Extent(*state["rows"])
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} does not fit this run or is damaged ({type(error).__name__}); delete it to start the trajectory "
            "anew"
        ) from error
