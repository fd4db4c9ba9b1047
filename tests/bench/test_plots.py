"""Figures as data: what is drawn is what was given, holes stay holes, and the table holds the same numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest

from switch_ema.bench.page import plot_data
from switch_ema.bench.plots import Plot, Series, lines, reliability
from switch_ema.bench.plots3d import contours, regions, surface

XS, YS = (-1.0, 0.0, 1.0), (-1.0, 1.0)
LOSS = ((4.0, 0.1, 4.0), (10.0, 1.0, None))


def widths(plot: Plot) -> set[int]:
    return {len(row) for row in [plot.head, *plot.rows]}


def test_a_band_is_one_polygon_for_every_stretch_without_a_gap() -> None:
    low: Sequence[float | None] = (0.1, 0.2, None, 0.4)
    plot = lines("t", "x", "y", [Series("ema", (1, 2, 3, 4), (0.2, 0.3, None, 0.5), low, (0.3, 0.4, None, 0.6))])
    band, line = plot.traces
    assert band["x"] == [1, 2, 2, 1, None, 4, 4]
    assert band["y"] == [0.3, 0.4, 0.2, 0.1, None, 0.6, 0.4]
    assert line["y"][2] is None
    assert band["legendgroup"] == line["legendgroup"] == line["name"]  # the legend hides both


def test_a_logarithmic_axis_names_its_places() -> None:
    axis = lines("t", "rate", "y", [Series("ema", (0.3, 0.1), (1, 2))], log_x=True).layout["xaxis"]
    assert (axis["tickvals"], axis["ticktext"]) == ([0.1, 0.3], ["0.1", "0.3"])
    assert "tickvals" not in lines("t", "x", "y", [Series("ema", range(1, 20), [1.0] * 19)], log_x=True).layout["xaxis"]


def test_a_surface_holds_every_value_and_leaves_holes() -> None:
    plot = surface("t", "x", "y", "loss", XS, YS, [("ema", LOSS), ("sema", ((1.0, math.nan, math.inf),) * 2)])
    first, second = plot.traces
    assert first["z"] == [[4.0, 0.1, 4.0], [10.0, 1.0, None]]
    assert second["z"][0] == [1.0, None, None]
    assert [trace["meta"]["series"] for trace in plot.traces] == [0, 1]
    assert widths(plot) == {4}
    assert plot.rows[0] == ("ema, -1", "4.0000", "0.1000", "4.0000")
    json.dumps(plot_data([plot]), allow_nan=False)


def test_contours_are_of_the_logarithm_and_show_true_values() -> None:
    path = ("ema", (0.0, 0.5), (0.0, 1.0))
    plot = contours("t", "x", "y", XS, YS, LOSS, paths=[path], points=[("sema", 1.0, 0.5), ("ema", 0.5, 1.0)])
    ground, trail, sema, ema = plot.traces
    assert ground["z"][1][0] == 1.0
    assert ground["z"][0][1] == -1.0
    assert ground["z"][1][2] is None
    assert ground["text"][1] == ["10", "1", ""]
    ticks = dict(zip(ground["colorbar"]["ticktext"], ground["colorbar"]["tickvals"], strict=True))
    assert ticks["1"] == 0
    assert ticks["2"] == pytest.approx(math.log10(2))
    assert list(ticks) == ["0.1", "0.2", "0.5", "1", "2", "5", "10"]
    assert trail["meta"] == ema["meta"] != sema["meta"]  # a path and its end have one colour
    assert widths(plot) == {4}
    linear = contours("t", "x", "y", XS, YS, ((-1.0, 0.0, 1.0),) * 2, log=False).traces[0]
    assert linear["z"][0] == [-1.0, 0.0, 1.0]
    assert contours("t", "x", "y", XS, YS, ((0.0, math.inf, math.nan),) * 2).traces[0]["z"][0] == [None] * 3


def test_regions_stand_side_by_side_with_the_same_examples() -> None:
    maps = [("baseline", ((0.0, 0.5, 1.0),) * 2), ("ema", ((0.05, 0.95, 1.0),) * 2)]
    plot = regions("t", XS, YS, maps, [(0.0, 0.0, 1)], classes=("inner", "outer"))
    assert [trace["xaxis"] for trace in plot.traces] == ["x", "x", "x2", "x2"]
    assert plot.layout["meta"]["panels"] == ["baseline", "ema"]
    assert [row[1:] for row in plot.rows] == [("66.7%", "33.3%"), ("66.7%", "0.0%")]
    three = regions("t", XS, YS, [("ema", ((0, 1, 2), (0, 0, 0)))], classes=("a", "b", "c"))
    assert three.rows == [("ema", "66.7%", "16.7%", "16.7%")]
    assert three.traces[0]["zmax"] == 2
    assert len(three.traces) == 1


def test_a_reliability_diagram_leaves_empty_bins_out() -> None:
    plot = reliability("t", [("ema", (0.1, None, 0.9), (0.2, None, 0.7), (25, 0, 100))], styles={"ema": 4})
    diagonal, ema = plot.traces
    assert diagonal["x"] == diagonal["y"] == [0, 1]
    assert (ema["x"], ema["y"], ema["meta"]["series"]) == ([0.1, 0.9], [0.2, 0.7], 4)
    assert ema["marker"]["size"] == [9.0, 18.0]  # as the square root of the counts
    assert plot.rows == [("ema", "0.1000", "0.2000", 25), ("ema", "0.9000", "0.7000", 100)]
