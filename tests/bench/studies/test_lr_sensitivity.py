"""Width and area of the curve over the rate, and the control that a shift to lower rates is."""

from __future__ import annotations

import math

import pytest

from switch_ema.bench.request import request
from switch_ema.bench.studies.lr_sensitivity import STUDY
from switch_ema.bench.studies.sensitivity import at_lower_rate, grid, height, octaves
from tests.bench.sample import Curves
from tests.bench.studies.readings import reading

LRS = tuple(0.01 * 2**k for k in range(9))


def hill(place: float, width: float, top: float = 0.9) -> list[float]:
    """Fall off to both sides, straight over the octaves, by half within a width."""
    return [max(0.1, top * (1 - 0.5 * abs(k - place) / width)) for k in range(len(LRS))]


def curves(hills: dict[str, list[float]], seeds: int = 3) -> Curves:
    return {
        (label, lr, seed): ((value - 0.001 * seed,) * 2, (value - 0.001 * seed,) * 2)
        for label, values in hills.items()
        for lr, value in zip(LRS, values, strict=True)
        for seed in range(seeds)
    }


def test_octaves_by_hand() -> None:
    assert octaves((1, 2, 4, 8), (0.0, 1.0, 1.0, 0.5), 0.75, True) == pytest.approx(0.25 + 1 + 0.5)
    assert octaves((1, 2), (3.0, 1.0), 2.0, False) == pytest.approx(0.5)
    assert octaves((1, 4), (1.0, 1.0), 1.0, True) == pytest.approx(2.0)
    assert octaves((1, 2), (0.0, 0.0), 0.5, True) == 0.0
    assert octaves((1,), (1.0,), 0.5, True) == 0.0


def test_a_shift_of_the_rate_leaves_the_width_as_it_is() -> None:
    here, there = (octaves(LRS, hill(place, 2), 0.8, True) for place in (3, 5))
    assert here == pytest.approx(there)
    assert octaves(LRS, hill(4, 3), 0.8, True) > here


def test_height_is_the_area_over_the_octaves() -> None:
    assert height((1, 2, 8), (1.0, 0.0, 1.0)) == pytest.approx((0.5 + 2 * 0.5) / 3)
    assert height((1,), (0.7,)) == 0.7


def test_reading_at_a_lower_rate() -> None:
    values = [float(k) for k in range(len(LRS))]
    assert at_lower_rate(LRS, values, 0.5) == [None, *map(pytest.approx, values[:-1])]
    assert at_lower_rate(LRS, values, 2**-0.5)[1:] == [pytest.approx(k + 0.5) for k in values[:-1]]


def test_divergence_counts_as_the_worst_value() -> None:
    made = dict(curves({"baseline": hill(4, 2)}, seeds=1)) | {("baseline", LRS[-1], 0): ((None, None),) * 2}
    assert grid(reading(made).trained, "baseline")[0][-1] == pytest.approx(0.1)
    dead: Curves = {("baseline", lr, 0): ((None,), (None,)) for lr in LRS}
    assert grid(reading(dead).trained, "baseline") == {}
    assert "No value is finite" in STUDY.findings([reading(dead)]).sentences[0]


def test_a_lower_rate_in_disguise_is_found_out() -> None:
    """The parts kept are one half: the curve of plain training, moved up by an octave."""
    found = STUDY.findings([reading(curves({"baseline": hill(3, 2), "sema": hill(4, 2)}))])
    whole, same_rate, control = found.sentences
    assert "its good range of rates is no wider or narrower beyond noise" in whole
    assert "is better beyond noise" in same_rate
    assert "sema cannot be told from plain training at 50 % of the rate (0.0000" in control
    assert control.endswith("of these 8 rates, each for itself, it is at none better or worse beyond noise.")


def test_a_range_that_is_truly_wider() -> None:
    made = dict(curves({"baseline": hill(4, 1), "sema": hill(4, 4)}))
    for k, lr in enumerate(LRS):  # seeds that differ a little in width
        for seed in range(3):
            value = hill(4, 4 + 0.05 * seed)[k]
            made["sema", lr, seed] = ((value,) * 2, (value,) * 2)
    whole, _, control = STUDY.findings([reading(made)]).sentences
    assert "its good range of rates is wider" in whole
    assert "over the whole grid it is better than plain training" in whole
    assert "sema is better than plain training at 50 % of the rate" in control
    assert "of these 8 rates, each for itself, it is better beyond noise at " in control
    assert "and worse beyond noise at 0.32" in control  # where the sharper hill is read near its top


def test_rates_that_are_too_high_are_told_by_their_factor() -> None:
    said = STUDY.findings([reading(curves({"baseline": hill(3, 2), "sema": hill(5, 2)}))]).sentences[1]
    assert "2 times: " in said
    assert "32 times: " in said
    assert "no interval" not in said


def test_edges_one_seed_and_one_rate() -> None:
    found = STUDY.findings([reading(curves({"baseline": hill(0, 2), "sema": hill(4, 20)}, seeds=1))])
    assert "cannot be told from" in found.sentences[0]
    assert "may lie outside: baseline" in found.notes[0]
    table = found.panels[0].table
    assert table
    assert str(table[1][0][3]).startswith("at least")
    single: Curves = {(m, 0.1, s): ((0.5,), (0.5,)) for m in ("baseline", "sema") for s in range(2)}
    assert STUDY.findings([reading(single)]).sentences


def test_a_best_rate_at_the_upper_edge_is_noted() -> None:
    found = STUDY.findings([reading(curves({"baseline": hill(4, 2), "sema": hill(8, 2)}))])
    assert found.notes == ["Best at the lowest or highest rate tried, so a better one may lie outside: sema."]


def test_the_grid_spans_two_decades_around_the_rate_asked_for() -> None:
    settings = STUDY.arms(request("classification", {"lr": "0.2"}, {}))[0].settings
    assert settings
    assert settings.lr[-1] / settings.lr[0] == pytest.approx(100)
    assert math.sqrt(settings.lr[0] * settings.lr[-1]) == pytest.approx(0.2)
    assert len(settings.lr) == 7
