"""Sections of the study of landscapes: depth, width, surfaces, paths of training, and the lines between solutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from switch_ema.bench.plots import Plot, Series, bars, lines
from switch_ema.bench.plots3d import contours, surface
from switch_ema.bench.stats import BASELINE, Results, best_rate, spread
from switch_ema.bench.studies.landscape_quantities import (
    ADAPTIVE_RHOS,
    DEPTHS,
    PAIRS,
    RADII,
    RHOS,
    WIDTHS,
    barrier_to,
    distance_to,
    gap,
    mean_rise,
    values,
    worst,
)
from switch_ema.bench.studies.study import Panel, Reading, Table
from switch_ema.bench.wording import NONE, decimals_for, show, show_interval, show_spread, signed

_DEPTH = (
    "Mean over the seeds, whiskers from the lowest to the highest. Depth is the loss at the solution: the lower, the "
    "deeper."
)
_WIDTH = (
    "Worst rise: the largest rise of the training loss within a distance rho of the weights, by gradient ascent; "
    "adaptive: every weight moves in proportion to its size. Mean rise: on average over random noise, each filter of "
    "the noise as long, times the size, as that of the weights. Eigenvalue and trace are those of the Hessian, the "
    "Fisher trace is that of labels drawn from the model. Lower is wider in all of them; the table holds differences "
    "to plain training, paired over the seeds, with the 95 % interval."
)
_SURFACES = (
    "First seed. Every method's loss around its own solution, along the same two random directions for all, scaled to "
    "the length of the filters of plain training. A click in the legend hides a surface."
)
_PATHS = (
    "One seed, all methods at the same learning rate. One plane in the space of weights for all, through plain "
    "training's solution and along the two directions in which the trajectories of all methods together extend most. "
    "Solutions lie off the plane by the distances in the table, so that the loss below a point is not that of the "
    "solution."
)
_BETWEEN = (
    "First seed in the figures, all seeds in the table. From 0, the first solution, to 1, the second one. The barrier "
    "is the largest rise above the line that joins the losses at the ends; 0 means that they lie in one valley. "
    "Distances are relative to the norm of the first solution."
)


def depth(arm: Reading, sentence: str) -> Panel:
    """Draw how deep the minima are."""
    results = arm.trained
    series = [
        (label, [spread(values(results, label, each.metric, each.split).values()) for each in DEPTHS])
        for label in results.methods
    ]
    rows = []
    for each in (*DEPTHS, *WIDTHS):
        found = [spread(values(results, label, each.metric, each.split).values()) for label in results.methods]
        decimals = decimals_for(one.mean for one in found)
        rows.append((each.title, *(show_spread(one, decimals) for one in found)))
    rows.append(("learning rate", *(f"{best_rate(results, label):g}" for label in results.methods)))
    plot = bars("Loss at the solutions", "loss", [each.title for each in DEPTHS], series)
    return Panel(f"Depth: {arm.title}", sentence, _DEPTH, [plot], (["", *results.methods], rows))


def width(arm: Reading, sentence: str) -> Panel:
    """Draw how far the loss rises around the minima."""
    results = arm.trained
    kinds = (
        ("Worst rise of the training loss", "rho", {rho: worst(rho) for rho in RHOS}),
        ("Worst rise, adaptive", "rho", {rho: worst(rho, True) for rho in ADAPTIVE_RHOS}),
        ("Mean rise under noise", "size of the noise", {radius: mean_rise(radius) for radius in RADII}),
    )
    plots = [
        lines(
            title, x, "rise of the loss",
            [_over(results, label, names, number) for number, label in enumerate(results.methods)],
            log_x=True, log_y=True,
        )
        for title, x, names in kinds
    ]  # fmt: skip
    return Panel(f"Width: {arm.title}", sentence, _WIDTH, plots, _differences(results))


def _over(results: Results, label: str, names: Mapping[float, str], style: int) -> Series:
    spreads = [spread(values(results, label, name).values()) for name in names.values()]
    return Series.of(label, [*names], spreads, style)


def _differences(results: Results) -> Table:
    others = [label for label in results.methods if label != BASELINE]
    rows = []
    for each in WIDTHS:
        decimals = decimals_for(values(results, BASELINE, each.metric, each.split).values())
        gaps = [gap(results, label, BASELINE, each) for label in others]
        rows.append(
            (each.title, *(NONE if found.mean is None else
                           f"{signed(found.mean, decimals)} ({show_interval(found, decimals)})" for found in gaps))
        )  # fmt: skip
    return ["", *(f"{label} minus baseline" for label in others)], rows


def surfaces(arm: Reading) -> Panel:
    """Draw the loss around the solutions of the first seed."""
    sheet, cuts, styles = arm.sheets["surfaces"], arm.sheets["lines"], _styles(arm)
    losses: Mapping[str, Any] = sheet["losses"]
    lowest = {label: _least(value for row in grid for value in row) for label, grid in losses.items()}
    known = {label: value for label, value in lowest.items() if value is not None}
    at_side = {label: spread([line[0], line[-1]]).mean for label, line in cuts["losses"].items()}
    told = "; ".join(f"{label} {show(value, decimals_for([value]))}" for label, value in known.items())
    rises = "; ".join(f"{label} {show(value, decimals_for([value]))}" for label, value in at_side.items())
    sentence = f"Lowest loss on each surface: {told}. At both ends of the first direction, on average: {rises}."
    plots = [
        surface("Training loss around each solution", "first direction", "second direction", "loss", sheet["places"],
                sheet["places"], [*losses.items()], styles=styles),
        lines("The same along the first direction", "lengths of the filters", "training loss",
              [Series(label, cuts["places"], line, style=styles[label]) for label, line in cuts["losses"].items()],
              markers=False, log_y=True),
    ]  # fmt: skip
    return Panel(f"Surfaces: {arm.title}", sentence, f"{_SURFACES} Measured on {arm.sheets['described']}.", plots)


def paths(arm: Reading) -> Panel:
    """Draw the trajectories of the first seed on one plane."""
    sheet, styles = arm.sheets, _styles(arm)
    walks: Mapping[str, Any] = sheet["walks"]
    ways = [(label, across, up) for label, (across, up) in walks.items()]
    ends = [(label, across[-1], up[-1]) for label, across, up in ways]
    first, second = sheet["explained"]
    sentence = (
        f"The plane holds {first + second:.0%} of the squared distances of all trajectories from plain training's "
        f"solution ({first:.0%} and {second:.0%})."
    ).replace("%", "\N{NO-BREAK SPACE}%")
    plots = [
        contours(title, "first principal direction", "second principal direction", sheet["xs"], sheet["ys"],
                 sheet[part], unit=unit, paths=ways, points=ends, styles=styles)
        for part, unit, title in (
            ("train", "training loss", "Training loss and the paths of training"),
            ("test", "test loss", "Test loss and the same paths"),
        )
    ]  # fmt: skip
    rows = [(label, f"{x:.3g}", f"{y:.3g}", f"{sheet['off'][label]:.3g}") for label, x, y in ends]
    head = ["Solution", "first direction", "second direction", "distance from the plane"]
    return Panel("Paths of training", sentence, _PATHS, plots, (head, rows))


def between(arm: Reading, sentence: str) -> Panel:
    """Draw the loss on the straight lines between the solutions of the first seed."""
    ways: Sequence[Mapping[str, Any]] = arm.sheets["between"]
    plots = [_between(ways, part, f"{about} between two solutions") for part, about in
             (("train", "Training loss"), ("test", "Test loss"))]  # fmt: skip
    rows = []
    for one, other in PAIRS:
        barriers, distances = (
            spread(values(arm.trained, other, name(one)).values()) for name in (barrier_to, distance_to)
        )
        cells = (show_spread(each, decimals_for([each.mean])) for each in (barriers, distances))
        rows.append((f"{one} and {other}", *cells))
    head = ["Solutions", "barrier of the training loss", "distance of the weights"]
    return Panel(f"Between the solutions: {arm.title}", sentence, _BETWEEN, plots, (head, rows))


def _between(ways: Sequence[Mapping[str, Any]], part: str, title: str) -> Plot:
    series = [
        Series(
            f"{way['names'][0]} to {way['names'][1]}",
            way["positions"],
            way[part],
            style=PAIRS.index(tuple(way["names"])),
        )
        for way in ways
    ]
    return lines(title, "share of the way", title.partition(" between")[0].lower(), series, markers=False)


def _styles(arm: Reading) -> dict[str, int]:
    return {label: number for number, label in enumerate(arm.trained.methods)}


def _least(losses: Any) -> float | None:
    return min((loss for loss in losses if loss is not None), default=None)
