from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.scale import H200, cost, table

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def test_the_page_shows_the_table() -> None:
    assert "\n".join(table(H200)) in PAGE.read_text(encoding="utf-8")


def test_costs_are_those_of_the_formula() -> None:
    c = cost(7e9, 8, H200)
    assert c.average == 3.5e9
    assert c.moved == 12 * 7e9 / 8
    assert math.isclose(c.update, 10.5e9 / (0.8 * 4.8e12))
    assert math.isclose(c.switch, 7e9 / (0.8 * 4.8e12))
    assert math.isclose(c.copy, 3.5e9 / 64e9)
    assert (c.checkpoint, c.save) == (16 * 7e9, 56.0)
    assert cost(7e9, 8, H200, weight=2).moved == 10 * 7e9 / 8


@pytest.mark.parametrize("gpus", [9, 16])
def test_nodes_that_are_not_full_write_too(gpus: int) -> None:
    assert cost(7e9, gpus, H200).save == 28.0
