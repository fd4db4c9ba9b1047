"""Post-hoc EMA: track a few power-function averages, store them now and then, choose how wide to average afterwards.

References:
    Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696, 2024
    (Section 3 and Appendix C).
"""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from switch_ema.averaging.attach import Handle, attach
from switch_ema.averaging.averager import Averager
from switch_ema.averaging.buffers import copied_names
from switch_ema.averaging.group import AveragerGroup
from switch_ema.averaging.methods import PowerEMA
from switch_ema.averaging.options import Options
from switch_ema.averaging.profiles import PerStep, Power
from switch_ema.averaging.safefile import safetensors
from switch_ema.averaging.shards import raise_everywhere
from switch_ema.averaging.slots import plain_names
from switch_ema.averaging.snapshots import Kind, Snapshot, find
from switch_ema.averaging.state import AveragerState
from switch_ema.averaging.synthesis import Snapshots, Synthesis
from switch_ema.averaging.tensors import is_sharded
from switch_ema.averaging.trigger import Clock, Every

_FORMAT = 1
_DTYPES = (None, torch.float64, torch.float32, torch.float16, torch.bfloat16)


@final
class PostHocEMA:
    """Several power-function averages of one model, stored now and then, from which others can be made afterwards.

    Training is not touched. Each gamma takes the memory of one average, each snapshot the same on disk.

    Args:
        model: The model that is trained.
        gammas: Exponents of the averages that are tracked, different ones, at least 0; 6.94 and 16.97 have widths of
            10 % and 5 % of training. With 0 among them, means over any tail can be had (`tail_mean`).
        snapshot_every: When all of them are stored: a number of steps, `"1 epoch"`, `"500 steps after 1000"`, or an
            `Every`; more by hand with `snapshot()`, such as at the end of training.
        folder: Where they are stored; made if it is not there. It may hold no other run's snapshots.
        update_every: Steps between updates; one update stands for so many steps, whatever the number.
        use_buffers: Average float buffers too and copy the others; if false, buffers are left alone.
        dtype: Type in which averages are stored: by default the one they have, float32 at least. float16 and bfloat16
            halve the space; their rounding grows in `synthesize` by `fit.amplification`.

    Raises:
        ImportError: If safetensors is not installed.
        ValueError: If an argument is out of range, or the model has no initialised parameters.

    Example:
        >>> tracker = PostHocEMA(nn.Linear(2, 1), snapshot_every="1 epoch", folder=getfixture("tmp_path"))

        Then `tracker.attach(optimizer)`, train, and `tracker.synthesize(sigma_rel=0.07).copy_to(model)`.

    References:
        Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696, 2024.
    """

    def __init__(
        self,
        model: nn.Module,
        gammas: Sequence[float] = (16.97, 6.94),
        *,
        snapshot_every: int | str | Every,
        folder: str | os.PathLike[str],
        update_every: int | str | Every = 1,
        use_buffers: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        safetensors()
        update, self._snapshot_every = Every.of(update_every), Every.of(snapshot_every)
        if update.start or update.end:
            raise ValueError(f"these averages are of all of training, not '{update}'; write update_every={update.n}")
        if self._snapshot_every.splits_epochs:
            raise ValueError(
                f"snapshots are taken every N steps or N whole epochs, not '{self._snapshot_every}'; write it in steps"
            )
        if not gammas or len(set(gammas)) < len(gammas):
            raise ValueError(f"gammas are different numbers, at least one, got {gammas!r}; write e.g. (16.97, 6.94)")
        if dtype not in _DTYPES:
            raise ValueError(
                f"dtype is {dtype!r}; write torch.float32, torch.float16 or torch.bfloat16, or leave it out"
            )
        self._model = model
        self._averagers = {
            float(gamma): PowerEMA(model, gamma, update_every=update, use_buffers=use_buffers) for gamma in gammas
        }
        self._group = AveragerGroup(*self._averagers.values())
        self._handle: Handle | None = None
        self._use_buffers = use_buffers
        self._dtype = dtype
        self._folder = Path(folder)
        if self._folder.exists() and not self._folder.is_dir():
            raise ValueError(f"{folder} is a file; give the folder for the snapshots")
        self._run = secrets.token_hex(8)
        self._clock = Clock()
        self._stored = 0  # the step of the last snapshot
        self._claimed = False

    @property
    def gammas(self) -> tuple[float, ...]:
        """Exponents of the averages that are tracked."""
        return tuple(self._averagers)

    @property
    def run(self) -> str:
        """Identifies this run in its snapshots; it is part of the state."""
        return self._run

    @property
    def n_averaged(self) -> int:
        """Updates so far."""
        return self._any.n_averaged

    def update(self) -> None:
        """Count a completed optimizer step, update and store if it is time; call it after `optimizer.step()`.

        Raises:
            ValueError: If a snapshot is due and the folder has another run's, or the type is too narrow for a value.
        """
        self._group.update()
        self._tick(self._clock.next_step())

    def end_epoch(self) -> None:
        """Count a completed epoch, and store if it is time; call it once at the end of every epoch.

        Raises:
            RuntimeError: If the model's tensors are not those it had.
            ValueError: As for `update`.
        """
        self._group.end_epoch()
        self._tick(self._clock.next_epoch())

    def attach(self, *optimizers: Optimizer) -> Handle:
        """Call `update()` after each step of the optimizer; a step that a GradScaler skips is no step.

        Args:
            optimizers: The optimizer that trains the model. Of several, the one that steps last comes last.

        Returns:
            A handle whose `remove()` detaches.

        Raises:
            RuntimeError: If an optimizer is attached already.
            ValueError: If no optimizer is given, or none holds one of the model's parameters.
        """
        self._handle = attach(self._handle, optimizers, self._model.parameters(), after=self.update)
        return self._handle

    def copy_to(self, model: nn.Module, gamma: float) -> None:
        """Copy an average that is tracked, as it is now, into a model of the same structure.

        Args:
            model: The target.
            gamma: Which average.

        Raises:
            ValueError: If there is no such average, or names or shapes do not fit; nothing is copied then.
        """
        if gamma not in self._averagers:
            have = ", ".join(f"{g:g}" for g in self._averagers)
            raise ValueError(f"gamma {gamma!r} is not tracked, only {have}; make others with synthesize(gamma=...)")
        self._averagers[gamma].copy_to(model)

    def snapshot(self) -> tuple[Path, ...]:
        """Store all averages, as of the last update; in place of a snapshot of the same step.

        Returns:
            The files, one for each gamma.

        Raises:
            RuntimeError: If nothing is averaged yet.
            ValueError: As for `update`.
        """
        taken = self._taken
        if not taken:
            raise RuntimeError("nothing is averaged yet; snapshot() needs an update() before it")
        self._claim(self._clock.steps)
        kind = self._kind()
        for gamma in self._averagers:
            self._store(Power(gamma, taken), kind)
        self._stored = taken
        return tuple(Snapshot.place(self._folder, Power(gamma, taken)) for gamma in self._averagers)

    def synthesize(
        self,
        *,
        sigma_rel: float | None = None,
        gamma: float | None = None,
        profile: PerStep | None = None,
        at: int | None = None,
    ) -> Synthesis:
        """Make the average that has another profile from this run's snapshots; see `Snapshots.synthesize`."""
        return self._snapshots().synthesize(sigma_rel=sigma_rel, gamma=gamma, profile=profile, at=at)

    def tail_mean(self, after: int, until: int) -> Synthesis:
        """Return the plain mean of the weights in the steps `(after, until]`; see `Snapshots.tail_mean`."""
        return self._snapshots().tail_mean(after, until)

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on: averages and all counters. Tensors are not copied."""
        clock = self._clock
        return {
            "format": _FORMAT,
            "run": self._run,
            "gammas": list(self._averagers),
            "counters": {
                "steps": clock.steps,
                "epochs": clock.epochs,
                "step_in_epoch": clock.step_in_epoch,
                "stored": self._stored,
            },
            "averagers": [averager.state_dict() for averager in self._averagers.values()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, bit for bit; the model's own weights are loaded separately.

        Snapshots of the same run and of later steps are set aside (renamed) when training goes on.

        Args:
            state: What `state_dict` returned, for a model of the same names and shapes.

        Raises:
            ValueError: If the state is of another kind, or a name or shape does not fit; nothing is changed then.
        """
        run, counters, parts = self._read_state(state)
        for averager, part in zip(self._averagers.values(), parts, strict=True):
            averager.load_state_dict(part)
        self._run, self._stored = run, counters["stored"]
        self._clock = Clock(counters["steps"], counters["epochs"], counters["step_in_epoch"])
        self._claimed = False

    def __repr__(self) -> str:
        gammas = ", ".join(f"{gamma:g}" for gamma in self._averagers)
        return f"PostHocEMA(gammas {gammas}, snapshot every {self._snapshot_every}, n_averaged={self.n_averaged})"

    @property
    def _any(self) -> Averager:
        return next(iter(self._averagers.values()))

    @property
    def _taken(self) -> int:
        """The step of the last update, at which the averages end."""
        return int(self._any.state_dict()["counters"]["taken"])

    def _tick(self, after: Clock) -> None:
        before, self._clock = self._clock, after
        self._claim(before.steps)
        if self._snapshot_every.fires(before, after) and self._taken > self._stored:
            self.snapshot()

    def _claim(self, steps: int) -> None:
        """Make sure, once, that the folder has no other snapshots than those of this run until now."""
        if self._claimed:
            return
        failure: Exception | None = None
        if _is_first_rank():
            try:
                self._clear(steps)
            except Exception as error:
                failure = error
        if any(map(is_sharded, self._any.state_dict()["averages"].values())):
            raise_everywhere(failure)
        elif failure is not None:
            raise failure
        self._claimed = True

    def _clear(self, steps: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        found = find(self._folder)
        if others := sorted({s.run for s in found} - {self._run}):
            raise ValueError(
                f"{self._folder} has snapshots of another run ({', '.join(others)}); give another folder, or load that "
                "run's state with load_state_dict() to go on with it"
            )
        if later := [s for s in found if s.profile.step > steps]:
            for snapshot in later:
                os.replace(snapshot.path, snapshot.path.with_name(f"{snapshot.path.name}.stale"))
            warnings.warn(
                f"training goes on from step {steps}; {len(later)} snapshots of later steps in {self._folder} are set "
                "aside as *.stale",
                stacklevel=5,
            )

    def _store(self, profile: Power, kind: Kind) -> None:
        averages = plain_names(self._averagers[profile.gamma].state_dict()["averages"])
        if _is_first_rank() or any(map(is_sharded, averages.values())):
            Snapshot.write(self._folder, self._run, profile, kind, averages, self._dtype)

    def _kind(self) -> Kind:
        slots = Options(use_buffers=self._use_buffers).find(self._model)
        stored_as = {id(slot.tensor): name for name, slot in plain_names(slots).items()}
        named = plain_names(self._model.state_dict(keep_vars=True))
        tied = {alias: stored_as[id(t)] for alias, t in named.items() if stored_as.get(id(t), alias) != alias}
        not_averaged = copied_names(self._model, slots)
        copied = plain_names({name: name in not_averaged for name in slots})
        return Kind(frozenset(name for name, is_copied in copied.items() if is_copied), tied, self._use_buffers)

    def _snapshots(self) -> Snapshots:
        run = self._run if _is_first_rank() else None  # the first rank's id is the one that was written
        return Snapshots(self._folder, run=run, until=self._clock.steps)

    def _read_state(self, state: Any) -> tuple[str, dict[str, int], list[dict[str, Any]]]:
        """Return run, counters and averages of a saved state, after all checks."""
        expected = {"format", "run", "gammas", "counters", "averagers"}
        if not isinstance(state, dict) or set(state) != expected or state["format"] != _FORMAT:
            raise ValueError("this is not the state of a PostHocEMA; pass what its state_dict() returned")
        if state["gammas"] != list(self._averagers):
            raise ValueError(f"the state is of gammas {state['gammas']}, this one tracks {list(self._averagers)}")
        counters, parts = state["counters"], state["averagers"]
        names = {"steps", "epochs", "step_in_epoch", "stored"}
        if (
            not isinstance(counters, dict)
            or set(counters) != names
            or not all(type(count) is int and count >= 0 for count in counters.values())
            or not isinstance(parts, list)
            or len(parts) != len(self._averagers)
            or not isinstance(state["run"], str)
        ):
            raise ValueError("the state of the PostHocEMA is damaged; load the right file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # loading warns
            for averager, part in zip(self._averagers.values(), parts, strict=True):
                mine = averager.state_dict()
                AveragerState.from_dict(part).check(mine["made_of"], mine["averages"], ())
        return state["run"], counters, parts


def _is_first_rank() -> bool:
    """Return whether this process is the one that writes; of several that train together it is rank 0."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
