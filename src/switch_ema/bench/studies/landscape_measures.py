"""Measures the minima that a comparison has found: depth and width of each, and the loss around and between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

from switch_ema.analysis.directions import principal_directions, random_direction
from switch_ema.analysis.eigenvalues import top_eigenvalues
from switch_ema.analysis.fisher import true_fisher_trace
from switch_ema.analysis.flatness import average_flatness, width
from switch_ema.analysis.hessian import hessian
from switch_ema.analysis.landscape import barrier, interpolation, line, plane
from switch_ema.analysis.objective import Direction, Objective
from switch_ema.analysis.sharpness import worst_case_sharpness
from switch_ema.analysis.spectrum import trace
from switch_ema.analysis.weights import distances
from switch_ema.bench.drawn import measured_batches
from switch_ema.bench.kept import Kept
from switch_ema.bench.question import LABELLED
from switch_ema.bench.results import Row
from switch_ema.bench.studies import landscape_quantities as quantities
from switch_ema.bench.studies.study import Measured
from switch_ema.bench.studies.trained import Trained
from switch_ema.bench.task import Part
from switch_ema.errors import InputError

_BATCHES = 2  # of 256 examples
_STEPS, _DIRECTIONS, _LABELS = 5, 10, 2
_MATVECS, _TOLERANCE, _TRACE_MATVECS = 60, 0.1, 18  # the error of an eigenvalue goes with the tolerance squared
_SIDE, _FINE, _BETWEEN = 17, 33, 25
_SPAN = 1.0  # in lengths of the filters
_MARGIN = 0.15


class _Minimum(NamedTuple):
    """Weights that were kept, and the loss around them: with the statistics kept, and with those of each batch."""

    kept: Kept
    as_used: Objective
    around: Objective


class Surroundings:
    """The minima of a comparison.

    Args:
        trained: The comparison, which has kept its last weights.
    """

    def __init__(self, trained: Trained) -> None:
        self._trained = trained
        self._batches = cache(self._draw)

    def measure(self) -> Measured:
        """Measure the minima of all seeds, and draw the surroundings of the first seed's."""
        rows: list[Row] = []
        sheets: dict[str, Any] = {}
        for seed in self._trained.results.seeds:
            minima, diverged = self._minima(seed)
            rows += diverged
            for minimum in minima.values():
                rows += self._alone(minimum)
            between = [*self._between(minima)]
            rows += [row for _, own in between for row in own]
            if not sheets and len(minima) > 1:
                sheets = {"described": self._batches(seed, "train")[1], "between": [sheet for sheet, _ in between]}
                sheets |= self._around(minima)
        return Measured(rows, sheets)

    def follow(self) -> Measured:
        """Draw the trajectories of the first seed, which has kept the weights of every epoch."""
        minima, _ = self._minima(self._trained.results.seeds[0])
        return Measured(sheets=self._paths(minima) if len(minima) > 1 else {})

    def _minima(self, seed: int) -> tuple[dict[str, _Minimum], list[Row]]:
        """Return the minima of a seed in the order of the methods, and rows for those that diverged."""
        order = self._trained.results.methods
        minima: dict[str, _Minimum] = {}
        diverged: list[Row] = []
        for kept in sorted(self._trained.solutions(), key=lambda each: order.index(each.method)):
            if kept.seed == seed:
                try:
                    minima[kept.method] = self._minimum(kept)
                except InputError:  # the loss is not finite
                    diverged.append(self._row(kept, quantities.TRAIN_LOSS.metric, math.nan))
        return minima, diverged

    def _draw(self, seed: int, part: Part) -> tuple[list[Any], str]:
        trained = self._trained
        return measured_batches(trained.task(seed), part, trained.device, _BATCHES, trained.settings.batch_size)

    def _objective(self, kept: Kept, part: Part, batchnorm: Any) -> Objective:
        batches = self._batches(kept.seed, part)[0]
        return Objective(self._trained.model(kept), self._trained.task(kept.seed).loss, batches, batchnorm=batchnorm)

    def _minimum(self, kept: Kept) -> _Minimum:
        return _Minimum(kept, self._objective(kept, "train", "eval"), self._objective(kept, "train", "train"))

    def _row(self, kept: Kept, metric: str, value: float, higher: bool | None = False, split: str = "train") -> Row:
        return self._trained.row(kept, metric, value, higher, split)

    def _alone(self, minimum: _Minimum) -> Iterator[Row]:
        """Measure depth and width of one minimum."""
        kept, objective = minimum.kept, minimum.as_used
        yield self._row(kept, quantities.TRAIN_LOSS.metric, objective.value())
        test = self._objective(kept, "test", "eval").value()
        yield self._row(kept, quantities.TEST_LOSS.metric, test, split="test")
        for adaptive, rhos in ((False, quantities.RHOS), (True, quantities.ADAPTIVE_RHOS)):
            for each in worst_case_sharpness(objective, rhos, adaptive=adaptive, num_steps=_STEPS):
                yield self._row(kept, quantities.worst(each.rho, adaptive), each.increase)
        noisy = average_flatness(objective, quantities.RADII, perturbation="filter", num_directions=_DIRECTIONS)
        for rise in noisy:
            yield self._row(kept, quantities.mean_rise(rise.radius), rise.increase)
        yield self._row(kept, quantities.WIDTH.metric, width(noisy, quantities.RISE).radius, True)
        yield from self._curved(kept, objective)

    def _curved(self, kept: Kept, objective: Objective) -> Iterator[Row]:
        curvature = hessian(objective)
        try:
            largest = top_eigenvalues(curvature, num_matvecs=_MATVECS, tol=_TOLERANCE).values[0]
        except InputError:  # not found with so few products
            largest = math.nan
        yield self._row(kept, "hessian-eigenvalue", largest)
        yield self._row(kept, "hessian-trace", trace(curvature, num_matvecs=_TRACE_MATVECS).value)
        if self._trained.settings.task == LABELLED:
            batches = self._batches(kept.seed, "train")[0]
            fisher = true_fisher_trace(objective.model, batches, num_samples=_LABELS)
            yield self._row(kept, "fisher-trace", fisher.value)

    def _between(self, minima: Mapping[str, _Minimum]) -> Iterator[tuple[dict[str, Any], list[Row]]]:
        """Follow the loss on the straight line between two minima, with the statistics of each batch."""
        for one, other in quantities.PAIRS:
            if one not in minima or other not in minima:
                continue
            start, end = minima[one], minima[other]
            ends = start.around.parameters, end.around.parameters
            train = interpolation(start.around, *ends, _BETWEEN)
            test = interpolation(self._objective(start.kept, "test", "train"), *ends, _BETWEEN)
            apart = distances(ends[1], ends[0]).relative
            yield (
                {"names": [one, other], "positions": _short(train.positions), "train": _short(train.losses),
                 "test": _short(test.losses)},
                [self._row(end.kept, quantities.barrier_to(one), barrier(train.losses)),
                 self._row(end.kept, quantities.distance_to(one), apart, None)],
            )  # fmt: skip

    def _around(self, minima: Mapping[str, _Minimum]) -> dict[str, Any]:
        """Measure the loss around each minimum along the same random directions, as long as the first one's filters."""
        centre = next(iter(minima.values())).around.parameters
        directions = [random_direction(centre, seed=seed) for seed in (0, 1)]
        places, fine = _steps(-_SPAN, _SPAN, _SIDE), _steps(-_SPAN, _SPAN, _FINE)
        return {
            "surfaces": {"places": _short(places), "losses": {
                label: _grid(plane(each.around, directions, places, places).losses) for label, each in minima.items()
            }},
            "lines": {"places": _short(fine), "losses": {
                label: _short(line(each.around, directions[0], fine).losses) for label, each in minima.items()
            }},
        }  # fmt: skip

    def _paths(self, minima: Mapping[str, _Minimum]) -> dict[str, Any]:
        """Lay a plane through the trajectories of all methods together, about the first one's solution."""
        first = next(iter(minima.values()))
        centre = first.around.parameters
        walks = {label: [*self._walk(minimum.kept, centre)] for label, minimum in minima.items()}
        found = principal_directions([place for walk in walks.values() for place in walk], centre)
        projections = iter(found.projections)
        places = {label: [next(projections) for _ in walk] for label, walk in walks.items()}
        coordinates = [each.coordinates for walk in places.values() for each in walk]
        xs, ys = _covering([[each[axis] for each in coordinates] for axis in (0, 1)])
        test = self._objective(first.kept, "test", "train")
        return {
            "explained": _short(found.explained_variance),
            "xs": _short(xs),
            "ys": _short(ys),
            "train": _grid(plane(first.around, found.directions, xs, ys).losses),
            "test": _grid(plane(test, found.directions, xs, ys).losses),
            "walks": {
                label: [_short([each.coordinates[axis] for each in walk]) for axis in (0, 1)]
                for label, walk in places.items()
            },
            "off": {label: _short([walk[-1].residual])[0] for label, walk in places.items()},
        }

    def _walk(self, kept: Kept, like: Direction) -> Iterator[dict[str, Tensor]]:
        for snapshot in self._trained.path_of(kept):
            state = snapshot.state()
            yield {name: state[name].to(tensor.device) for name, tensor in like.items()}


def _steps(low: float, high: float, count: int) -> list[float]:
    return [low + (high - low) * k / (count - 1) for k in range(count)]


def _covering(coordinates: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return places along both axes that cover all points, on a plane at least half as wide as long."""
    ends = [(min(values), max(values)) for values in coordinates]
    longest = max(high - low for low, high in ends)
    middles = [((low + high) / 2, max((high - low) / 2, longest / 4) + _MARGIN * longest) for low, high in ends]
    return [_steps(middle - reach, middle + reach, _SIDE) for middle, reach in middles]


def _short(values: Sequence[float]) -> list[float | None]:
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]


def _grid(rows: Sequence[Sequence[float]]) -> list[list[float | None]]:
    return [_short(row) for row in rows]
