"""Readings of arms that nobody trained, from given curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from switch_ema.bench.stats import Results
from switch_ema.bench.studies.study import Reading
from tests.bench.sample import Curves, build

SWITCHES = {"switches": True, "retained_fraction": 0.5}


def reading(
    curves: Curves,
    *,
    name: str = "as-asked",
    title: str = "net on data",
    higher: bool = True,
    loss: Curves | None = None,
    sheets: Mapping[str, Any] | None = None,
    epochs: int | None = None,
) -> Reading:
    """Make the reading of an arm; methods whose label begins with sema switch and keep half of the progress."""
    methods = {label: SWITCHES for label, _, _ in curves if label.startswith("sema")}
    run, rows = build(curves, higher=higher, epochs=epochs, **methods)
    run["steps_per_epoch"] = 10
    if loss:
        rows += [row | {"metric": "loss"} for row in build(loss, higher=False)[1]]
    return Reading(name, title, run, Results.from_rows(run, rows), (), sheets or {})


def per_seed(
    seeds: int, test: Callable[[int], Sequence[float | None]]
) -> dict[int, tuple[Sequence[float | None], Sequence[float | None]]]:
    """Make the same curve on validation and test for every seed."""
    return {seed: (test(seed), test(seed)) for seed in range(seeds)}


def methods(
    *each: tuple[str, float, Mapping[int, tuple[Sequence[float | None], Sequence[float | None]]]],
) -> Curves:
    """Join the curves of several methods: label, rate, curves by seed."""
    return {(label, lr, seed): pair for label, lr, by_seed in each for seed, pair in by_seed.items()}
