"""Figures of a function of two variables: surfaces, contours with paths, maps of decisions; see `plots`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from switch_ema.bench.plots import Plot, Trace
from switch_ema.bench.wording import NONE, decimals_for, show

Grid = Sequence[Sequence[float | None]]
"""Values row by row: one row for each place on the vertical axis, one column for each on the horizontal axis."""

_TICKS = (1, 2, 5)  # in every power of ten of a logarithmic colour bar
_FEW_TICKS = 8


def surface(
    title: str,
    x: str,
    y: str,
    z: str,
    xs: Sequence[float],
    ys: Sequence[float],
    surfaces: Sequence[tuple[str, Grid]],
    *,
    styles: Mapping[str, int] | None = None,
    log_z: bool = False,
) -> Plot:
    """Draw surfaces over one plane, each in its own colour, to be turned with the mouse and hidden by the legend.

    Args:
        title: Heading of the figure.
        x: Name of the first axis.
        y: Name of the second axis.
        z: Name of the upright axis.
        xs: Places on the first axis.
        ys: Places on the second axis.
        surfaces: Name of each surface, and its heights.
        styles: Number of each name's colour; by default its place in the list.
        log_z: Whether the upright axis is logarithmic.
    """
    names = [name for name, _ in surfaces]
    traces: list[Trace] = [
        {"type": "surface", "x": list(xs), "y": list(ys), "z": _cut(values), "name": name, "showscale": False,
         "opacity": 0.85 if len(surfaces) > 1 else 1.0, "meta": {"series": _style(name, names, styles)},
         "hovertemplate": f"{x} %{{x:.3g}}<br>{y} %{{y:.3g}}<br>{z} %{{z:.4g}}"}
        for name, values in surfaces
    ]  # fmt: skip
    scene = {
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
        "zaxis": {"title": {"text": z}, "type": "log" if log_z else "linear"},
        "aspectmode": "manual",
        "aspectratio": {"x": 1, "y": 1, "z": 0.8},
        "camera": {"eye": {"x": 1.3, "y": 1.3, "z": 0.8}, "center": {"x": 0, "y": 0, "z": -0.12}},
    }
    rows = [row for name, values in surfaces for row in _rows(f"{name}, ", ys, values)]
    return Plot(title, traces, {"scene": scene}, [f"{y} \\ {x}", *map(_place, xs)], rows, height=540)


def contours(
    title: str,
    x: str,
    y: str,
    xs: Sequence[float],
    ys: Sequence[float],
    values: Grid,
    *,
    unit: str = "loss",
    paths: Sequence[tuple[str, Sequence[float], Sequence[float]]] = (),
    points: Sequence[tuple[str, float, float]] = (),
    styles: Mapping[str, int] | None = None,
    log: bool = True,
) -> Plot:
    """Draw a plane as filled contours, with the paths of training and the solutions on it.

    Args:
        title: Heading of the figure.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        xs: Places on the horizontal axis.
        ys: Places on the vertical axis.
        values: Values on the plane.
        unit: What the values are.
        paths: Name of each path, and its places.
        points: Name of each solution, and where it lies; a path of the same name has its colour.
        styles: Number of each name's colour; by default its place among the names.
        log: Whether contours stand at equal ratios instead of equal differences; values up to zero then leave holes.
    """
    names = list(dict.fromkeys([name for name, *_ in paths] + [name for name, *_ in points]))
    shown = _cut(
        [[math.log10(v) if v is not None and v > 0 else None for v in row] for row in values] if log else values
    )
    written = [["" if value is None else f"{value:.4g}" for value in row] for row in values]
    bar = {"title": {"text": unit, "side": "right"}, "outlinewidth": 0, **(_log_ticks(shown) if log else {})}
    traces: list[Trace] = [
        {"type": "contour", "x": list(xs), "y": list(ys), "z": shown, "text": written, "ncontours": 24,
         "colorbar": bar, "meta": {"ground": True}, "contours": {"coloring": "fill"},
         "hovertemplate": f"{x} %{{x:.3g}}<br>{y} %{{y:.3g}}<br>{unit} %{{text}}<extra></extra>"}
    ]  # fmt: skip
    for name, across, up in paths:
        traces.append(
            {"x": list(across), "y": list(up), "mode": "lines+markers", "name": name, "legendgroup": name,
             "meta": {"series": _style(name, names, styles)}, "marker": {"size": 4},
             "text": [f"point {i} of {len(across)}" for i in range(1, len(across) + 1)]}
        )  # fmt: skip
    for name, right, above in points:
        traces.append(
            {"x": [right], "y": [above], "mode": "markers", "name": name, "legendgroup": name,
             "meta": {"series": _style(name, names, styles)}, "marker": {"size": 13, "line": {"width": 2}}}
        )  # fmt: skip
    rows = _rows("", ys, values)
    empty = [""] * (len(xs) - 2)
    rows += [(f"{name} lies at {x}, {y}", f"{a:.4g}", f"{b:.4g}", *empty) for name, a, b in points]
    same_scale = {"scaleanchor": "x", "constrain": "domain"}
    axes = {
        "xaxis": {"title": {"text": x}, "constrain": "domain"},
        "yaxis": {"title": {"text": y}, **same_scale},
    }
    return Plot(title, traces, axes, [f"{y} \\ {x}", *map(_place, xs)], rows, height=560, width=720)


def regions(
    title: str,
    xs: Sequence[float],
    ys: Sequence[float],
    panels: Sequence[tuple[str, Grid]],
    points: Sequence[tuple[float, float, int]] = (),
    *,
    classes: Sequence[str] = ("class 0", "class 1"),
    x: str = "",
    y: str = "",
) -> Plot:
    """Draw what each method decides on a plane, one small map beside the other.

    Args:
        title: Heading of the figure.
        xs: Places on the horizontal axis.
        ys: Places on the vertical axis.
        panels: Name of each map, and its values: of two classes the probability of the second, of more their numbers.
        points: Places and class numbers of examples.
        classes: Names of the classes.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
    """
    last = len(classes) - 1
    traces: list[Trace] = []
    layout: dict[str, object] = {"meta": {"panels": [name for name, _ in panels], "classes": list(classes)}}
    examples = {"x": [p[0] for p in points], "y": [p[1] for p in points], "mode": "markers", "hoverinfo": "skip"}
    of_class = [p[2] for p in points]
    for number, (_, values) in enumerate(panels, start=1):
        place = "" if number == 1 else str(number)
        axes = {"xaxis": f"x{place}", "yaxis": f"y{place}"}
        grid = {"x": list(xs), "y": list(ys), "z": _cut(values, 3), "zmin": 0, "zmax": last}
        traces.append({"type": "heatmap", **grid, "showscale": False, "meta": {"map": list(classes)}, **axes})
        if points:
            traces.append({**examples, "meta": {"examples": of_class}, **axes})
        layout[f"xaxis{place}"] = {"title": {"text": x}, "range": [min(xs), max(xs)]}
        layout[f"yaxis{place}"] = {"title": {"text": y}, "range": [min(ys), max(ys)]}
    if last > 1:
        head = ["Map", *(f"share of the plane for {each}" for each in classes)]
        rows = [(name, *(_share(values, k, k) for k in range(len(classes)))) for name, values in panels]
    else:
        head = ["Map", f"share of the plane for {classes[1]}", "share in doubt: probability 0.1 to 0.9"]
        rows = [(name, _share(values, 0.5, 1), _share(values, 0.1, 0.9)) for name, values in panels]
    return Plot(title, traces, layout, head, rows, table="In numbers")


def _style(name: str, names: Sequence[str], styles: Mapping[str, int] | None) -> int:
    return names.index(name) if styles is None else styles[name]


def _cut(values: Grid, digits: int = 5) -> list[list[float | None]]:
    """Cut to the digits that a figure shows, to keep the page small; what is not finite leaves a hole."""
    return [
        [None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}") for value in row]
        for row in values
    ]


def _place(value: float) -> str:
    return f"{value:.3g}"


def _rows(before: str, ys: Sequence[float], values: Grid) -> list[tuple[str, ...]]:
    finite = _cut(values, 12)
    decimals = decimals_for(value for row in finite for value in row)
    return [(f"{before}{_place(y)}", *(show(v, decimals) for v in row)) for y, row in zip(ys, finite, strict=True)]


def _log_ticks(logs: Grid) -> dict[str, list[float] | list[str]]:
    """Return the ticks of a logarithmic colour bar: 1, 2 and 5 in every power of ten, or powers alone if many."""
    finite = [value for row in logs for value in row if value is not None]
    if not finite:
        return {}
    low, high = min(finite), max(finite)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [(power, share) for power in powers for share in _TICKS if low <= power + math.log10(share) <= high]
    if len(ticks) > _FEW_TICKS:
        ticks = [(power, share) for power, share in ticks if share == 1]
    return {
        "tickvals": [power + math.log10(share) for power, share in ticks],
        "ticktext": [f"{share * 10.0**power:g}" for power, share in ticks],
    }


def _share(values: Grid, low: float, high: float) -> str:
    """Write the share of a plane whose values lie within bounds."""
    known = [value for row in values for value in row if value is not None]
    return f"{sum(low <= value <= high for value in known) / len(known):.1%}" if known else NONE
