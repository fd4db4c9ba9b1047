"""A trained comparison with the weights it kept, to be measured further."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from switch_ema.bench.kept import LAST, Kept, kept_weights
from switch_ema.bench.request import make_task
from switch_ema.bench.results import Row, read_run
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import Results, best_rate
from switch_ema.bench.task import Part, Task
from switch_ema.errors import InputError


@final
class Trained:
    """A finished comparison.

    Args:
        folder: Its run folder.
        settings: How it was trained.

    Attributes:
        folder: Its run folder.
        results: Its rows by curve.
        device: Where models are measured.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.settings = settings
        self.folder = folder
        self._run, rows = read_run(folder)
        self.results = Results.from_rows(self._run, rows)
        use_cuda = settings.accelerator in ("auto", "cuda") and torch.cuda.is_available()
        self.device = torch.device("cuda" if use_cuda else "cpu")
        self.task = cache(self._make_task)

    def _make_task(self, seed: int) -> Task:
        """Return the task of a seed."""
        return make_task(self.settings, seed)

    def solutions(self, which: str = LAST, *, methods: Sequence[str] = (), own_rate: bool = True) -> list[Kept]:
        """Return the weights that were kept.

        Args:
            which: ``last``, ``best`` (headline metric on validation), ``lowest-loss`` or ``epoch-00012``.
            methods: Labels of the methods; default: all.
            own_rate: Whether each method stands at its own best learning rate alone.

        Raises:
            InputError: There are none.
        """
        labels = methods or self.results.methods
        rate = {label: best_rate(self.results, label) for label in labels}
        found = [
            kept
            for kept in kept_weights(self.folder, self._run)
            if kept.which == which and kept.method in labels and (not own_rate or kept.lr == rate[kept.method])
        ]
        if not found:
            raise InputError(f"{self.folder} holds no weights {which!r}; delete it and run the study again")
        return found

    def path_of(self, kept: Kept) -> list[Kept]:
        """Return the weights of every epoch of the same method, rate and seed, the earliest first."""
        return [
            other
            for other in kept_weights(self.folder, self._run)
            if other.path.parent == kept.path.parent and other.which.startswith("epoch-")
        ]

    def model(self, kept: Kept) -> nn.Module:
        """Return a model with kept weights, in evaluation mode."""
        with torch.random.fork_rng(devices=[]):
            model = self.task(kept.seed).build_model()
        model.load_state_dict(kept.state())
        return model.to(self.device).eval()

    @torch.no_grad()
    def outputs(self, kept: Kept, part: Part) -> tuple[Tensor, Tensor]:
        """Return what a model says of a part of the data, and the targets, of pairs of inputs and targets.

        Returns:
            Outputs and targets, both on the CPU in the order of the data.
        """
        model = self.model(kept)
        pairs = [(model(inputs), targets) for inputs, targets in self.batches(kept.seed, part)]
        return torch.cat([said for said, _ in pairs]).float().cpu(), torch.cat([true for _, true in pairs]).cpu()

    def batches(self, seed: int, part: Part) -> list[Any]:
        """Return a part of the data as batches that the task's loss takes, not augmented."""
        return list(self._batches(seed, part))

    def _batches(self, seed: int, part: Part) -> Iterator[Any]:
        return self.task(seed).fixed_batches(part, self.device)

    def seconds_per_epoch(self) -> dict[str, float]:
        """Return the seconds that an epoch of training takes with each method, mean over seeds and rates.

        Methods that only average share a training run with plain training, and so its seconds.
        """
        epochs, spent = self.settings.epochs, dict[str, dict[tuple[float, int], float]]()
        for row in read_run(self.folder)[1]:
            if row["epoch"] == epochs:
                spent.setdefault(row["method"], {})[row["lr"], row["seed"]] = row["seconds"] / epochs
        return {label: round(sum(of.values()) / len(of), 4) for label, of in spent.items()}

    def row(self, kept: Kept, metric: str, value: float, higher_is_better: bool | None, split: str = "test") -> Row:
        """Return a measurement of kept weights; of others than the last ones the metric is named, say, ``ece@best``."""
        task, last = self.task(kept.seed), self.settings.epochs
        name = metric if kept.which == LAST else f"{metric}@{kept.which}"
        steps = last * int(self._run["steps_per_epoch"])
        return Row(
            task.name, task.data, task.model, kept.method, kept.lr, kept.seed, last, steps, split, name, value,
            higher_is_better, 0.0,
        )  # fmt: skip
