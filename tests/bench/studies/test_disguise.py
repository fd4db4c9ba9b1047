"""The one-number rule on worlds where it is known what switching does."""

from __future__ import annotations

import math

import pytest

from switch_ema.bench.studies.disguise import Case, fit, leave_one_out, plain_at

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)


def world(problem: str, top: float, power: float) -> list[Case]:
    """Plain training is best at `top`; switching is plain training at the rate times the share kept to a power."""
    curve = {lr: 1 - (math.log10(lr) - math.log10(top)) ** 2 for lr in RATES}
    cases = []
    for lr in RATES[2:]:
        for kept in (0.1, 0.5):
            value = plain_at(curve, lr * kept**power)
            cases.append(Case(problem, curve, lr, kept, value, clear=value != curve[lr]))
    return cases


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_fit_finds_the_power_of_a_made_world(power: float) -> None:
    assert fit([*world("a", 0.03, power), *world("b", 0.1, power)]) == power


def test_rule_names_the_direction_on_a_problem_it_has_not_seen() -> None:
    tested = leave_one_out([*world("low", 0.03, 1.0), *world("high", 0.3, 1.0)])
    assert [each.problem for each in tested] == ["low", "high"]
    for each in tested:
        assert each.power == 1.0
        assert each.right == each.clear > 0
        assert each.error == pytest.approx(0, abs=1e-12)
        assert each.error_unchanged > 0.05
    assert tested[0].helped == tested[0].clear  # every rate is above the best one there
    assert 0 < tested[1].helped < tested[1].clear


def test_rule_fails_where_switching_does_something_else() -> None:
    helps = world("helps", 0.03, 1.0)
    opposite = [Case("hurts", c.curve, c.lr, c.kept, 2 * c.curve[c.lr] - c.value, c.clear) for c in helps]
    against = leave_one_out([*helps, *opposite])[1]
    assert against.right == 0 < against.clear


def test_one_problem_tests_nothing() -> None:
    assert leave_one_out(world("alone", 0.1, 1.0)) == []


def test_plain_training_is_interpolated_over_the_logarithm() -> None:
    assert plain_at({0.01: 0.0, 1.0: 1.0}, 0.1) == pytest.approx(0.5)
    assert plain_at({0.01: 0.0, 1.0: 1.0}, 1e-9) == 0.0
    assert plain_at({0.01: 0.0, 1.0: 1.0}, 9.0) == 1.0
