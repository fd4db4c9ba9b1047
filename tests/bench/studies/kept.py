"""Comparisons that nobody trained: readings with what a study measured, and weights that say what they are told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from switch_ema.bench.kept import Kept
from switch_ema.bench.request import make_task
from switch_ema.bench.results import Row
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import Cell, Results
from switch_ema.bench.studies.study import Reading
from switch_ema.bench.studies.trained import Trained
from switch_ema.errors import InputError
from tests.bench.studies.readings import methods, per_seed, reading

LR = 0.1
Found = Mapping[str, Mapping[str, Sequence[float | None]]]
"""Values by seed, by method, by metric."""


def measured(found: Found, *, sheets: Mapping[str, Any] | None = None, **given: Any) -> Reading:
    """Make the reading of an arm at one rate, with measurements on test; its headline is the same for all methods."""
    labels = list(next(iter(found.values())))
    seeds = len(next(iter(found[next(iter(found))].values())))
    flat = methods(*((label, LR, per_seed(seeds, lambda seed: (0.5, 0.6 + seed / 100))) for label in labels))
    arm = reading(flat, sheets=sheets, **given)
    cells = {
        Cell(label, LR, "test", metric): {seed: {2: value} for seed, value in enumerate(by_seed)}
        for metric, of in found.items()
        for label, by_seed in of.items()
    }
    return replace(arm, results=replace(arm.trained, cells={**arm.trained.cells, **cells}))


@dataclass
class Told:
    """Stands for a trained comparison whose networks say what they are told to."""

    settings: Settings
    said: Mapping[tuple[str, str, int], Mapping[str, tuple[Tensor, Tensor]]]
    models: Mapping[tuple[str, str, int], nn.Module]
    device = torch.device("cpu")

    @property
    def results(self) -> Results:
        keys = list(self.said or self.models)
        seeds = tuple(sorted({seed for *_, seed in keys}))
        return Results({}, tuple(dict.fromkeys(method for _, method, _ in keys)), (LR,), seeds, 2, "accuracy", True)

    def solutions(self, which: str) -> list[Kept]:
        found = [Kept(method, LR, seed, at, Path(at)) for at, method, seed in self.said or self.models if at == which]
        if not found:
            raise InputError("none")
        return found

    def outputs(self, kept: Kept, part: str) -> tuple[Tensor, Tensor]:
        return self.said[kept.which, kept.method, kept.seed][part]

    def model(self, kept: Kept) -> nn.Module:
        return self.models[kept.which, kept.method, kept.seed]

    def task(self, seed: int) -> Any:
        return make_task(self.settings, seed)

    def batches(self, seed: int, part: Any) -> list[Any]:
        return list(self.task(seed).fixed_batches(part, self.device))

    def row(self, kept: Kept, metric: str, value: float, higher: bool | None) -> Row:
        name = metric if kept.which == "last" else f"{metric}@{kept.which}"
        return Row("", "", "", kept.method, kept.lr, kept.seed, 2, 2, "test", name, value, higher, 0.0)


def told(
    settings: Settings,
    said: Mapping[tuple[str, str, int], Mapping[str, tuple[Tensor, Tensor]]] | None = None,
    models: Mapping[tuple[str, str, int], nn.Module] | None = None,
) -> Trained:
    """Make a comparison from what its networks say, or from the networks, by point, method and seed."""
    return cast(Trained, Told(settings, said or {}, models or {}))
