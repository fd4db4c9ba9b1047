"""Averages made from stored ones: by least squares over their profiles, or as the mean of a tail.

References:
    Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696, 2024
    (Section 3 and Appendix C).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import Tensor, nn

from switch_ema.averaging.blend import weighted_mean
from switch_ema.averaging.decay import gamma_from_sigma_rel
from switch_ema.averaging.options import Options
from switch_ema.averaging.profiles import Fit, PerStep, Power, per_step, solve
from switch_ema.averaging.safefile import joined
from switch_ema.averaging.safewriter import Entry
from switch_ema.averaging.slots import Slot, differences, plain_names, reshard, write_all
from switch_ema.averaging.snapshots import Kind, Snapshot, find
from switch_ema.averaging.tensors import average_dtype, like

_POOR = 0.1  # a relative error of the profile worth a warning


@final
@dataclass(frozen=True)
class Synthesis:
    """An average made from stored ones.

    Attributes:
        tensors: The average by the model's tensor names, float32 at least: what `model.load_state_dict` takes.
        fit: How it was made, and how near its profile is to the one asked for.
        kind: What the tensors are.
    """

    tensors: Mapping[str, Tensor]
    fit: Fit
    kind: Kind

    def copy_to(self, model: nn.Module) -> None:
        """Copy the average into a model; parts of names that wrappers put in (compile, DDP, FSDP) do not matter.

        Args:
            model: The target, of the structure of the one that was trained.

        Raises:
            ValueError: If names or shapes do not fit; nothing is copied then.
        """
        reshard(model)
        targets: Mapping[str, Slot] = plain_names(Options(use_buffers=self.kind.use_buffers).find(model))
        sources = {name: t for name, t in self.tensors.items() if name in targets or name not in self.kind.tied}
        for name in sources.keys() & targets.keys():
            if sources[name].shape == targets[name].tensor.shape:
                sources[name] = like(sources[name], targets[name].tensor)
        write_all(targets, sources)


@final
class Snapshots:
    """The snapshots of one training run in a folder.

    Files of other names are no concern of it.

    Args:
        folder: The folder that `PostHocEMA` wrote them to.
        run: Whose snapshots to take, where the folder has those of several runs.
        until: The last step whose snapshots are taken; by default all are.

    Raises:
        FileNotFoundError: If there is no such folder, or no snapshot in it.
        ValueError: If a file is damaged, or there are several runs and `run` is not given, or names differ.

    Example:
        >>> Snapshots("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: there is no folder nowhere; give the one that PostHocEMA wrote its snapshots to
    """

    def __init__(self, folder: str | os.PathLike[str], *, run: str | None = None, until: int | None = None) -> None:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"there is no folder {folder}; give the one that PostHocEMA wrote its snapshots to")
        found = find(Path(folder))
        runs = sorted({s.run for s in found})
        if run is None and len(runs) > 1:
            raise ValueError(f"{folder} has snapshots of several runs ({', '.join(runs)}); choose one with run=...")
        self._verified: dict[Path, object] = {}  # what a file said of itself when all of it was checked
        self._stored = [
            s for s in found if (run is None or s.run == run) and (until is None or s.profile.step <= until)
        ]
        if not self._stored:
            others = f" of this run, only of {', '.join(runs)}" if runs else ""
            raise FileNotFoundError(f"{folder} has no snapshots{others}; write some with PostHocEMA.snapshot()")
        last = self._stored[-1]
        for snapshot in self._stored:
            if names := differences(snapshot.entries, last.entries):
                raise ValueError(f"{snapshot.path} is of another model than {last.path.name} ({names}); remove one")

    @property
    def profiles(self) -> tuple[Power, ...]:
        """What is stored, by step and gamma."""
        return tuple(s.profile for s in self._stored)

    @property
    def run(self) -> str:
        """Identifies the run."""
        return self._stored[0].run

    def synthesize(
        self,
        *,
        sigma_rel: float | None = None,
        gamma: float | None = None,
        profile: PerStep | None = None,
        at: int | None = None,
    ) -> Synthesis:
        """Make the average that has another profile, by least squares over all snapshots.

        Give one of `sigma_rel`, `gamma` and `profile`.

        Args:
            sigma_rel: Width of a power function, as a part of training, above 0 and at most 1/sqrt(12) = 0.2887.
            gamma: Exponent of a power function, at least 0.
            profile: Any other profile: a function from the number of a step (1 is the first) to how much it counts, or
                the numbers themselves, one a step.
            at: The step that the average ends at; by default the last that is stored.

        Returns:
            The average, with a report of the fit.

        Raises:
            ValueError: If the target is none or out of range, ends beyond the last snapshot, or a file is damaged.
        """
        fit = solve(self.profiles, self._target(sigma_rel, gamma, profile, at))
        step = self.profiles[-1].step if at is None else at
        if fit.relative_error > _POOR:
            cure = "store snapshots more often, or ask for one nearer to those that were tracked"
            if step not in {p.step for p in self.profiles}:
                cure = f"end it at a step that has a snapshot, such as at={self._nearest(step)}"
            warnings.warn(
                f"the stored averages miss this profile by {100 * fit.relative_error:.0f} %; {cure}", stacklevel=2
            )
        return self._sum(self._stored, fit, step)

    def tail_mean(self, after: int, until: int) -> Synthesis:
        """Return the plain mean of the weights in the steps `(after, until]`, from stored means since the start.

        `(until * A_until - after * A_after) / (until - after)`, where A is the average of gamma 0.

        Args:
            after: The step before the first that counts: 0, or one that has a snapshot.
            until: The last step that counts, one that has a snapshot.

        Returns:
            The mean. Its rounding is that of the stored means times `fit.amplification`.

        Raises:
            ValueError: If gamma 0 was not tracked, or there is no snapshot at these steps, or a file is damaged.
        """
        means = {s.profile.step: s for s in self._stored if s.profile.gamma == 0}
        if not means:
            raise ValueError("a tail mean needs the mean since the start; track it with gammas=(0, ...)")
        if not (isinstance(after, int) and isinstance(until, int)) or not 0 <= after < until:
            raise ValueError(
                f"a tail is from a step to a later one, got {after!r} and {until!r}; write e.g. 1000, 2000"
            )
        for step in (after, until):
            if step and step not in means:
                raise ValueError(f"there is no snapshot at step {step}; the nearest is at {self._nearest(step)}")
        length = until - after
        shares = ({after: -after / length} if after else {}) | {until: until / length}
        taken = [means[step] for step in shares]
        return self._sum(taken, Fit(tuple(s.profile for s in taken), tuple(shares.values()), 0.0), until)

    def _nearest(self, step: int) -> int:
        return min((p.step for p in self.profiles), key=lambda have: abs(have - step))

    def _target(
        self, sigma_rel: float | None, gamma: float | None, profile: PerStep | None, at: int | None
    ) -> Power | Tensor:
        if sum(given is not None for given in (sigma_rel, gamma, profile)) != 1:
            raise ValueError("give one of sigma_rel=..., gamma=... and profile=..., such as sigma_rel=0.1")
        last = self.profiles[-1].step
        step = last if at is None else at
        if isinstance(step, bool) or not isinstance(step, int) or not 1 <= step <= last:
            raise ValueError(f"at is a step of the training that is stored, from 1 to {last}, got {at!r}")
        if profile is not None:
            return per_step(profile, step)
        return Power(gamma if sigma_rel is None else gamma_from_sigma_rel(sigma_rel), step)  # type: ignore[arg-type]

    def _sum(self, snapshots: Sequence[Snapshot], fit: Fit, step: int) -> Synthesis:
        """Sum averages, one tensor at a time and in float64; what is not averaged is of the last until `step`."""
        past = [s for s in snapshots if s.profile.step <= step]
        newest = past[-1] if past else snapshots[0]
        copied = frozenset[str]().union(*(s.kind.copied for s in snapshots))
        tensors: dict[str, Tensor] = {}
        with ExitStack() as stack:
            files = {s: stack.enter_context(s.open()) for s in snapshots}
            for file in files.values():
                if self._verified.get(file.path) != file.about:
                    self._verified[file.path] = file.verify()
            for name, entry in newest.entries.items():
                if name in copied:
                    tensors[name] = files[newest].tensor(name)
                else:
                    shapes = {s.entries[name].shape for s in snapshots}
                    if len(shapes) > 1:
                        raise ValueError(
                            f"{name!r} has shapes {' and '.join(map(str, sorted(shapes)))} in these snapshots; those "
                            "from before and after such a change have no sum"
                        )
                    result = Entry(average_dtype(entry.dtype), entry.shape)
                    blocks = zip(*(file.blocks(name) for file in files.values()), strict=True)
                    means = (weighted_mean(parts, fit.coefficients, 1.0, result.dtype) for parts in blocks)
                    tensors[name] = joined(means, result)
        tensors |= {alias: tensors[name] for alias, name in newest.kind.tied.items()}
        return Synthesis(tensors, fit, newest.kind)
