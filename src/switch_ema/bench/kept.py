"""The weights of every method that a comparison keeps for later analyses: one safetensors file for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch_ema.averaging.safefile import read_tensors
from switch_ema.averaging.safewriter import in_blocks, storable, write_safetensors
from switch_ema.bench.methods import slug
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from switch_ema.bench.results import Row
    from switch_ema.bench.train import Run

LAST, BEST, LOWEST_LOSS = "last", "best", "lowest-loss"
_FOLDER = "weights"


class Keeper:
    """Writes the weights that the methods of a training run are measured with.

    Args:
        folder: The run folder.
        which: ``none``; ``last``, after the last epoch; ``best``, also at the best value of the headline metric and at
            the lowest loss on validation; ``every``, also at every epoch that is measured.
    """

    def __init__(self, folder: Path, which: str) -> None:
        self._folder = folder / _FOLDER
        self._which = which
        self.best: dict[str, float] = {}
        """Best value so far, by criterion and method; lower is better."""

    def keep(self, run: Run, label: str, rows: Sequence[Row]) -> None:
        """Keep the weights that the model holds now, if they are wanted.

        Args:
            run: The training run, its model holding the weights of a method.
            label: The method.
            rows: What was measured with these weights.
        """
        if self._which == "none":
            return
        names = [LAST] if run.epoch == run.settings.epochs else []
        if self._which != LAST:
            names += self._improved(label, rows)
        if self._which == "every":
            names.append(epoch_name(run.epoch))
        if not names or not run.fabric.is_global_zero:
            return
        state = {name: tensor.detach().cpu() for name, tensor in run.module.state_dict().items()}
        entries = {name: storable(name, tensor) for name, tensor in state.items()}
        about = {"method": label, "epoch": run.epoch}
        folder = self._folder / run.trajectory.name / slug(label)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = folder / f"{name}.safetensors"
            write_safetensors(path, entries, about, lambda tensor: in_blocks(state[tensor]))

    def _improved(self, label: str, rows: Sequence[Row]) -> Iterator[str]:
        """Yield the criteria by which these weights are the best so far; of equals the earliest stays."""
        found = {row.metric: row for row in reversed(rows) if row.split == "val" and row.value is not None}
        headline = next((row for row in rows if row.split == "val"), None)
        for criterion, row in ((BEST, headline), (LOWEST_LOSS, found.get("loss"))):
            if row is None or row.value is None or row.value != row.value:
                continue
            value = -row.value if row.higher_is_better else row.value
            key = f"{criterion}/{label}"
            if value < self.best.get(key, float("inf")):
                self.best[key] = value
                yield criterion


def epoch_name(epoch: int) -> str:
    """Return the name under which the weights of an epoch are kept."""
    return f"epoch-{epoch:05d}"


@dataclass(frozen=True)
class Kept:
    """Weights of one method that a comparison has kept.

    Attributes:
        method: Label of the method.
        lr: Nominal peak learning rate of its training run.
        seed: Seed of its training run.
        which: ``last``, ``best``, ``lowest-loss`` or ``epoch-00012``.
        path: The file.
    """

    method: str
    lr: float
    seed: int
    which: str
    path: Path

    def state(self) -> dict[str, Tensor]:
        """Return parameters and buffers by name.

        Raises:
            InputError: The file is damaged, or has no checksum.
        """
        try:
            return read_tensors(self.path, "delete its run folder and train again")[0]
        except (ValueError, OSError) as error:
            raise InputError(str(error)) from None


def kept_weights(folder: Path, run: Mapping[str, Any]) -> list[Kept]:
    """List what a comparison has kept, in the order of its trajectories and methods.

    Args:
        folder: The run folder.
        run: Content of its ``run.json``.
    """
    return [
        Kept(label, float(trajectory["lr"]), trajectory["seed"], path.stem, path)
        for trajectory in run["trajectories"]
        for label in trajectory["riders"]
        for path in sorted((folder / _FOLDER / trajectory["name"] / slug(label)).glob("*.safetensors"))
    ]
