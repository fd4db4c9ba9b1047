"""Asks classifiers about a plane: that of their two inputs, or some through three images each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.analysis.boundary import RegionMeasures, Regions, agreement, decision_grid, measure_regions
from switch_ema.analysis.calibration import calibration
from switch_ema.analysis.image_plane import image_plane, plane_through
from switch_ema.bench.kept import Kept
from switch_ema.bench.results import Row
from switch_ema.bench.stats import BASELINE, best_rate
from switch_ema.bench.studies.study import Measured
from switch_ema.bench.studies.trained import Trained
from switch_ema.errors import InputError

_SIDE, _SHOWN = 121, 2  # points along a side, and one in so many of them that is drawn
_MARGIN = 0.1
_PLANES, _IMAGE_SIDE = 5, 41


class Decisions:
    """What the networks of a comparison decide, on the same places for all.

    Args:
        trained: A comparison of classifiers that has kept its last weights.
    """

    def __init__(self, trained: Trained) -> None:
        self._trained = trained
        self._seed = trained.results.seeds[0]

    def measure(self) -> Measured:
        """Measure all methods at plain training's best rate, and plain training at every rate."""
        results = self._trained.results
        rate = best_rate(results, BASELINE)
        rows: list[Row] = []
        said: dict[str, dict[int, list[Regions]]] = {label: {} for label in results.methods}
        for each in self._trained.solutions(own_rate=False):
            if each.lr != rate and each.method != BASELINE:
                continue
            try:
                regions = [*self._regions(self._trained.model(each))]
            except InputError:  # the outputs are not finite: training has diverged
                continue
            if each.lr == rate:
                said[each.method][each.seed] = regions
            rows += self._rows(each, [measure_regions(region) for region in regions])
        agreeing = {label: _agreements([*seeds.values()]) for label, seeds in said.items() if seeds}
        first = {label: seeds[self._seed][0] for label, seeds in said.items() if self._seed in seeds}
        return Measured(rows, {"agreement": agreeing, "maps": self._maps(first)})

    @cached_property
    def _test(self) -> tuple[Tensor, Tensor]:
        """All held-out inputs, and their classes, which are the same for every seed."""
        pairs = self._trained.batches(self._seed, "test")
        return torch.cat([inputs for inputs, _ in pairs]), torch.cat([labels for _, labels in pairs])

    @property
    def _has_points(self) -> bool:
        return self._test[0].shape[1:] == (2,)

    def _regions(self, model: nn.Module) -> Iterator[Regions]:
        inputs, _ = self._test
        if not self._has_points:
            yield from (image_plane(model, inputs[three], resolution=_IMAGE_SIDE).regions for three in self._threes)
            return
        low, high = inputs.double().amin(0), inputs.double().amax(0)
        margin = _MARGIN * (high - low).max()
        ends = zip((low - margin).tolist(), (high + margin).tolist(), strict=True)
        yield decision_grid(model, *(torch.linspace(*end, _SIDE, dtype=torch.float64) for end in ends))

    @cached_property
    def _threes(self) -> list[Tensor]:
        """Three held-out images of three classes for every plane, by their numbers, drawn once."""
        labels = self._test[1]
        generator = torch.Generator().manual_seed(0)
        threes: list[Tensor] = []
        while len(threes) < _PLANES:
            drawn = torch.randint(len(labels), (3,), generator=generator).to(labels.device)
            if len(labels[drawn].unique()) == 3:
                threes.append(drawn)
        return threes

    def _rows(self, kept: Kept, measured: Sequence[RegionMeasures]) -> Iterator[Row]:
        """Return the means over the planes, and the calibration error on the held-out data."""
        for metric, name, higher in (
            ("boundary-length", "boundary_length", False),
            ("squared-gradient", "squared_gradient", False),
            ("margin", "mean_margin", None),
        ):
            values = [getattr(each, name) for each in measured]
            yield self._trained.row(kept, metric, sum(values) / len(values), higher)
        logits, labels = self._trained.outputs(kept, "test")
        yield self._trained.row(kept, "calibration-error", calibration(logits, labels).ece, False)

    def _maps(self, regions: Mapping[str, Regions]) -> dict[str, Any]:
        """Return what is drawn: of points the probability of the second class, of images the class."""
        if not regions:
            return {}
        every = _SHOWN if self._has_points else 1
        any_one = next(iter(regions.values()))
        grids = {
            label: (region.probabilities[..., 1] if self._has_points else region.classes)[::every, ::every]
            for label, region in regions.items()
        }
        return {
            "xs": _short(any_one.xs[::every]),
            "ys": _short(any_one.ys[::every]),
            "classes": any_one.probabilities.shape[-1],
            "grids": {label: [_short(row) for row in grid] for label, grid in grids.items()},
            "points": self._examples(),
        }

    def _examples(self) -> list[list[float]]:
        """Return places and classes of the labelled points, or of the three images of the plane that is drawn."""
        if self._has_points:
            pairs = self._trained.batches(self._seed, "train")
            places, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        else:
            inputs, labels = (part[self._threes[0]] for part in self._test)
            places = plane_through(inputs).places
        return [[*_short(place), label] for place, label in zip(places, labels.tolist(), strict=True)]


def _agreements(by_seed: Sequence[Sequence[Regions]]) -> list[list[float]]:
    """Return the share of the area, mean over the planes, on which each two seeds name the same class."""
    return [
        [
            round(sum(agreement(*pair) for pair in zip(one, other, strict=True)) / len(one), 6)
            for other in by_seed
        ]
        for one in by_seed
    ]  # fmt: skip


def _short(values: Tensor) -> list[float]:
    return [float(f"{value:.4g}") for value in values.tolist()]
