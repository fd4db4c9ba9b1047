"""Figures of a study as plain data, with the same numbers as a table; `template/study.js` only draws them.

A trace says by ``meta.series`` which method's colour, dash and symbol it takes; the page's theme gives the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from switch_ema.bench.stats import Spread
from switch_ema.bench.wording import decimals_for, show

Trace = dict[str, Any]
_FEW = 12  # so many places on a logarithmic axis are all named


@dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        title: Its heading.
        traces: Plotly's traces.
        layout: Plotly's layout, beside what the theme sets.
        head: Headings of the table with the same numbers.
        rows: Its rows.
        height: Height in pixels.
        width: Largest width in pixels; None for all there is.
        table: What the table is called.
    """

    title: str
    traces: Sequence[Trace]
    layout: Mapping[str, Any]
    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    height: int = 380
    width: int | None = None
    table: str = "The same as a table"


@dataclass(frozen=True)
class Series:
    """One line of a figure.

    Attributes:
        name: What it is, such as the label of a method.
        x: Places.
        y: Values; None where there is none.
        low: Lower end of the band or bar around each value.
        high: Its upper end.
        style: Number of its colour, dash and symbol; series of one method share it over all figures. None takes its
            place in the list.
        text: What is shown of each point when it is pointed at, beside its coordinates.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    style: int | None = None
    text: Sequence[str] = field(default=())

    @classmethod
    def of(cls, name: str, x: Sequence[float], spreads: Sequence[Spread], style: int | None = None) -> Series:
        """Make a line of means over seeds, whose band runs from the lowest to the highest seed."""
        low, high = [found.low for found in spreads], [found.high for found in spreads]
        return cls(name, x, [found.mean for found in spreads], low, high, style)


def lines(
    title: str,
    x: str,
    y: str,
    series: Sequence[Series],
    *,
    log_x: bool = False,
    log_y: bool = False,
    markers: bool = True,
) -> Plot:
    """Draw lines with bands.

    Args:
        title: Heading of the figure.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        series: The lines.
        log_x: Whether the horizontal axis is logarithmic.
        log_y: Whether the vertical axis is.
        markers: Whether points are marked.
    """
    traces: list[Trace] = []
    for place, each in enumerate(series):
        meta = {"series": place if each.style is None else each.style}
        if any(value is not None for value in each.low):
            traces.append(
                {**_band(each), "fill": "toself", "mode": "lines", "hoverinfo": "skip", "legendgroup": each.name,
                 "meta": meta | {"band": True}}
            )  # fmt: skip
        mode = "lines+markers" if markers else "lines"
        shown: Trace = {"x": list(each.x), "y": list(each.y), "mode": mode, "name": each.name, "legendgroup": each.name,
                        "meta": meta}  # fmt: skip
        traces.append(shown | ({"text": list(each.text)} if each.text else {}))
    places = sorted({value for each in series for value in each.x})
    few = {"tickvals": places, "ticktext": [f"{place:g}" for place in places]} if log_x and len(places) <= _FEW else {}
    layout = {
        "xaxis": {"title": {"text": x}, "type": "log" if log_x else "linear", **few},
        "yaxis": {"title": {"text": y}, "type": "log" if log_y else "linear"},
    }
    decimals = decimals_for(value for each in series for value in each.y)
    columns = [dict(zip(each.x, each.y, strict=True)) for each in series]
    rows = [(f"{place:g}", *(show(column.get(place), decimals) for column in columns)) for place in places]
    return Plot(title, traces, layout, [x, *(each.name for each in series)], rows)


def _band(series: Series) -> Trace:
    """Return the area between the ends, one polygon for every stretch without a gap."""
    ends = zip(series.x, series.low, series.high, strict=True)
    x: list[float | None] = []
    y: list[float | None] = []
    for known, stretch in groupby(ends, key=lambda end: end[1] is not None and end[2] is not None):
        if known:
            there = list(stretch)
            x += [*(place for place, *_ in there), *(place for place, *_ in reversed(there)), None]
            y += [*(high for *_, high in there), *(low for _, low, _ in reversed(there)), None]
    return {"x": x[:-1], "y": y[:-1]}


def bars(
    title: str,
    y: str,
    groups: Sequence[str],
    series: Sequence[tuple[str, Sequence[Spread]]],
    *,
    styles: Sequence[int] = (),
) -> Plot:
    """Draw bars beside each other for every group, with a whisker from the lowest to the highest seed.

    Args:
        title: Heading of the figure.
        y: Name of the vertical axis.
        groups: Names along the horizontal axis.
        series: Name of each kind of bar, and its value in every group.
        styles: Number of each kind's colour; by default its place in the list.
    """
    traces: list[Trace] = []
    for place, (name, spreads) in enumerate(series):
        means = [found.mean for found in spreads]
        up = [None if s.mean is None or s.high is None else s.high - s.mean for s in spreads]
        down = [None if s.mean is None or s.low is None else s.mean - s.low for s in spreads]
        error = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.5, "width": 3}
        meta = {"series": styles[place] if styles else place}
        traces.append({"type": "bar", "x": list(groups), "y": means, "name": name, "error_y": error, "meta": meta})
    decimals = decimals_for(found.mean for _, spreads in series for found in spreads)
    rows = [
        (group, *(show(spreads[place].mean, decimals) for _, spreads in series)) for place, group in enumerate(groups)
    ]
    layout = {"barmode": "group", "yaxis": {"title": {"text": y}}, "xaxis": {"type": "category"}}
    return Plot(title, traces, layout, ["", *(name for name, _ in series)], rows)


def heatmap(
    title: str,
    x: str,
    y: str,
    xs: Sequence[str],
    ys: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    unit: str = "",
    texts: Sequence[Sequence[str]] | None = None,
) -> Plot:
    """Draw a table of numbers as colours, the numbers written in.

    Args:
        title: Heading of the figure.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        xs: Names of the columns.
        ys: Names of the rows, the lowest first.
        values: Numbers, row by row; None leaves a hole.
        unit: What the numbers are, for the colour bar.
        texts: What is written into each field; by default the number.
    """
    decimals = decimals_for(value for row in values for value in row)
    written = texts or [[show(value, decimals) for value in row] for row in values]
    trace: Trace = {
        "type": "heatmap", "x": list(xs), "y": list(ys), "z": [list(row) for row in values], "text": written,
        "texttemplate": "%{text}", "colorscale": "Viridis", "colorbar": {"title": {"text": unit, "side": "right"}},
        "hovertemplate": f"{x} %{{x}}<br>{y} %{{y}}<br>{unit} %{{z}}<extra></extra>",
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": x}, "type": "category"},
        "yaxis": {"title": {"text": y}, "type": "category"},
    }
    rows = [(name, *row) for name, row in zip(ys, written, strict=True)]
    return Plot(title, [trace], layout, [f"{y} \\ {x}", *xs], rows)


def reliability(
    title: str,
    curves: Sequence[tuple[str, Sequence[float | None], Sequence[float | None], Sequence[int]]],
    *,
    styles: Mapping[str, int] | None = None,
) -> Plot:
    """Draw a reliability diagram: the accuracy of predictions against their confidence, bin by bin.

    On the diagonal confidence is right, below it too high. Points are as large as the square root of their counts.

    Args:
        title: Heading of the figure.
        curves: Name, and for every bin its mean confidence, its accuracy and the number of predictions in it.
        styles: Number of each name's colour; by default its place in the list.
    """
    diagonal: Trace = {"x": [0, 1], "y": [0, 1], "mode": "lines", "hoverinfo": "skip", "meta": {"reference": True}}
    traces, rows = [diagonal], []
    for place, (name, confidences, accuracies, counts) in enumerate(curves):
        bins = [
            (confidence, accuracy, n)
            for confidence, accuracy, n in zip(confidences, accuracies, counts, strict=True)
            if n and confidence is not None and accuracy is not None
        ]
        most = max((n for *_, n in bins), default=1)
        sizes = [max(5.0, round(18 * math.sqrt(n / most), 1)) for *_, n in bins]
        traces.append(
            {"x": [each[0] for each in bins], "y": [each[1] for each in bins], "mode": "lines+markers", "name": name,
             "legendgroup": name, "meta": {"series": styles[name] if styles else place}, "marker": {"size": sizes},
             "text": [f"{n} predictions" for *_, n in bins]}
        )  # fmt: skip
        rows += [(name, f"{confidence:.4f}", f"{accuracy:.4f}", n) for confidence, accuracy, n in bins]
    ends = {"range": [-0.03, 1.03]}
    layout = {"xaxis": {"title": {"text": "confidence"}, **ends}, "yaxis": {"title": {"text": "accuracy"}, **ends}}
    return Plot(
        title, traces, layout, ["Method", "mean confidence", "accuracy", "predictions"], rows, height=480, width=560
    )
