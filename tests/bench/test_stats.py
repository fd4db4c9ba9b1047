"""The statistics against closed forms, scipy and cases small enough to check by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from switch_ema.bench.stats import (
    Difference,
    Reach,
    Results,
    against_controls,
    at_best_validation,
    best_epoch,
    best_rate,
    budget_points,
    epochs_to_reach,
    paired_difference,
    peeking,
    reach_baseline,
    spread,
)
from switch_ema.bench.wording import show_difference, show_gap, show_interval, show_reach
from tests.bench.sample import Curves, build, same


def results(curves: Curves, **options: Any) -> Results:
    return Results.from_rows(*build(curves, **options))


def test_spread_is_mean_and_sample_deviation_over_finite_values_and_counts_the_others() -> None:
    found = spread([0.2, None, 0.5, 0.8])
    assert (found.n, found.diverged, found.low, found.high) == (3, 1, 0.2, 0.8)
    assert found.mean == pytest.approx(0.5)
    assert found.std == pytest.approx(np.std([0.2, 0.5, 0.8], ddof=1))
    assert spread([0.3]).std is None
    assert spread([None]).mean is None


@pytest.mark.parametrize("n", [2, 3, 10])
def test_paired_interval_is_that_of_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.9, 0.1, n), rng.normal(0.8, 0.1, n)
    expected = ttest_rel(a, b).confidence_interval(0.95)
    found = paired_difference(dict(enumerate(a)), dict(enumerate(b)))
    assert found.n == n
    assert found.mean == pytest.approx(np.mean(a - b))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_paired_interval_by_hand() -> None:
    two = paired_difference({0: 0.6, 1: 0.9}, {0: 0.5, 1: 0.6})  # 0.1 and 0.3: s / sqrt(2) = 0.1, t(0.975, 1) = 12.7062
    assert two.mean == pytest.approx(0.2)
    assert (two.low, two.high) == pytest.approx((0.2 - 1.27062, 0.2 + 1.27062), abs=1e-5)
    three = paired_difference({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0})  # 1, 2, 3: s = 1, t = 4.30265
    assert (three.mean, three.low, three.high) == pytest.approx((2.0, 2 - 2.48414, 2 + 2.48414), abs=1e-5)


def test_seeds_far_apart_do_not_hide_a_steady_difference() -> None:
    ours, theirs = {0: 0.110, 1: 0.511, 2: 0.912}, {0: 0.10, 1: 0.50, 2: 0.90}  # unpaired: 0.011 +- 0.9
    assert paired_difference(ours, theirs).judge(higher_is_better=True) == "better"
    assert paired_difference(ours, {0: 0.90, 1: 0.10, 2: 0.50}).judge(higher_is_better=True) == "unclear"


def test_pairs_are_seeds_where_both_are_finite() -> None:
    found = paired_difference({0: 0.9, 1: None, 2: 0.7, 3: 0.5}, {0: 0.8, 1: 0.8, 2: None, 4: 0.1})
    assert (found.n, found.low, found.high) == (1, None, None)
    assert found.mean == pytest.approx(0.1)
    assert found.diverged == 2
    none = paired_difference({0: None}, {0: 0.5})
    assert none == Difference(0, None, None, None, 1)
    assert show_difference(none, 2) == "no common seed, 1 seed diverged"
    assert show_difference(Difference(3, 0.5, 0.25, 0.75, 2), 2).endswith("+0.25 to +0.75, 2 seeds diverged")
    assert show_gap(Difference(3, 0.5, 0.25, 0.75, 2), 2) == "+0.50 (+0.25 to +0.75, 2 seeds diverged)"


def test_the_same_difference_in_every_seed_is_a_tie_of_counts_and_no_certainty() -> None:
    tied = paired_difference({0: 0.941, 1: 0.935}, {0: 0.946, 1: 0.940})
    assert (tied.n, tied.low, tied.judge(higher_is_better=True)) == (2, None, "unknown")
    assert show_interval(tied, 4) == "no interval, seeds tie"
    assert paired_difference({0: 0.9, 1: 0.8}, {0: 0.9, 1: 0.8}) == Difference(2, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("low", "high", "higher", "judgement"),
    [
        (0.1, 0.2, True, "better"),
        (0.1, 0.2, False, "worse"),
        (-0.2, -0.1, True, "worse"),
        (-0.2, -0.1, False, "better"),
        (-0.1, 0.2, True, "unclear"),
        (0.0, 0.2, True, "unclear"),
        (None, None, True, "unknown"),
    ],
)
def test_judgement_follows_the_direction_of_the_metric(
    low: float | None, high: float | None, higher: bool, judgement: str
) -> None:
    assert Difference(3, 0.1, low, high).judge(higher) == judgement


def test_budget_points_are_rounded_up() -> None:
    assert budget_points(30) == {10: 3, 25: 8, 50: 15, 100: 30}
    assert budget_points(7)[10] == 1
    assert budget_points(1) == {10: 1, 25: 1, 50: 1, 100: 1}


def test_epochs_to_reach_is_the_first_as_good_one() -> None:
    series = {1: 0.1, 2: None, 3: 0.5, 4: 0.4}
    assert epochs_to_reach(series, 0.4, higher_is_better=True) == 3
    assert epochs_to_reach(series, 0.5, higher_is_better=True) == 3
    assert epochs_to_reach(series, 0.6, higher_is_better=True) is None
    assert epochs_to_reach(series, 0.1, higher_is_better=False) == 1
    assert epochs_to_reach({1: 2.0, 2: 0.9, 3: 0.5}, 0.9, higher_is_better=False) == 2
    assert epochs_to_reach({1: 2.0, 2: None}, 0.9, higher_is_better=False) is None
    assert epochs_to_reach({}, 0.9, higher_is_better=True) is None


def test_reach_compares_each_seed_with_its_own_baseline() -> None:
    found = results(
        {
            ("baseline", 1.0, 0): same(0.1, 0.2, 0.5),
            ("baseline", 1.0, 1): same(0.1, 0.2, 0.9),
            ("baseline", 1.0, 2): same(0.1, 0.2, None),
            ("ema", 1.0, 0): same(0.4, 0.6, 0.7),
            ("ema", 1.0, 1): same(0.4, 0.6, 0.7),
            ("ema", 1.0, 2): same(0.4, 0.6, 0.7),
        }
    )
    assert reach_baseline(found, "ema", 1.0, 1.0) == Reach(n=2, reached=1, mean=2.0)
    assert show_reach(reach_baseline(found, "ema", 1.0, 1.0)) == "2.0 (1 of 2 seeds)"
    assert show_reach(Reach(2, 0, None)) == "never"


def test_best_epoch_is_chosen_on_validation_and_read_on_test() -> None:
    found = results({("baseline", 1.0, 0): ((0.3, 0.9, 0.9, 0.5), (0.1, 0.2, 0.99, 0.4))})
    assert best_epoch({1: 0.3, 2: 0.9, 3: 0.9}, higher_is_better=True) == 2
    assert best_epoch({1: 0.3, 2: 0.9, 3: None}, higher_is_better=False) == 1
    assert best_epoch({1: None}, higher_is_better=True) is None
    assert at_best_validation(found, "baseline", 1.0) == {0: 0.2}


def test_best_rate_is_chosen_on_validation_and_never_where_a_seed_diverges() -> None:
    curves: Curves = {
        ("baseline", 0.1, 0): ((0.7,), (0.1,)),
        ("baseline", 0.1, 1): ((0.7,), (0.1,)),
        ("baseline", 0.2, 0): ((0.6,), (0.9,)),
        ("baseline", 0.2, 1): ((0.6,), (0.9,)),
        ("baseline", 0.4, 0): ((0.99,), (0.99,)),
        ("baseline", 0.4, 1): ((None,), (None,)),
    }
    assert best_rate(results(curves), "baseline") == 0.1
    assert best_rate(results(curves, higher=False), "baseline") == 0.2


def test_of_equal_rates_the_smallest_is_taken_and_one_where_all_diverge_is_last() -> None:
    curves: Curves = {
        ("baseline", 0.1, 0): ((None,), (None,)),
        ("baseline", 0.2, 0): ((0.6,), (0.6,)),
        ("baseline", 0.4, 0): ((0.6,), (0.9,)),
    }
    assert best_rate(results(curves), "baseline") == 0.2


def test_of_equal_means_the_lower_loss_on_validation_is_taken() -> None:
    run, rows = build({("baseline", 0.1, 0): ((0.6,), (0.6,)), ("baseline", 0.4, 0): ((0.6,), (0.9,))})
    losses = [{**row, "metric": "loss", "value": 1 - row["lr"]} for row in rows if row["split"] == "val"]
    assert best_rate(Results.from_rows(run, [*rows, *losses]), "baseline") == 0.4


def test_an_unfinished_seed_has_no_last_value_and_neither_diverged_nor_counts() -> None:
    found = results({("baseline", 1.0, 0): same(0.1, 0.5), ("baseline", 1.0, 1): same(0.1)})
    assert found.at("baseline", 1.0, "test") == {0: 0.5}
    assert found.at("baseline", 1.0, "test", epoch=1) == {0: 0.1, 1: 0.1}
    assert reach_baseline(found, "baseline", 1.0, 1.0) == Reach(n=1, reached=1, mean=2.0)


def test_the_control_is_chosen_on_validation_and_compared_on_test() -> None:
    curves: Curves = {
        **{("baseline", 1.0, seed): same(0.5) for seed in range(3)},
        **{("sema", 1.0, seed): same(0.80 + 0.01 * seed) for seed in range(3)},
        **{("good", 1.0, seed): ((0.9,), (0.79 + 0.012 * seed,)) for seed in range(3)},
        **{("bad", 1.0, seed): ((0.1,), (0.99,)) for seed in range(3)},
    }
    found = against_controls(results(curves), "sema", ["bad", "good"], dict.fromkeys(("sema", "good", "bad"), 1.0))
    assert (found.control, found.judgement, found.control_does_as_well) == ("good", "better", False)
    alone = against_controls(results(curves), "sema", [], {"sema": 1.0})
    assert (alone.control, alone.control_does_as_well) == (None, None)


def test_later_rows_replace_earlier_ones_and_nan_counts_as_diverged() -> None:
    run, rows = build({("baseline", 1.0, 0): same(0.5)})
    found = Results.from_rows(run, [*rows, {**rows[1], "value": math.nan}])
    assert found.at("baseline", 1.0, "test") == {0: None}
    assert found.at("baseline", 1.0, "val") == {0: 0.5}


@pytest.mark.parametrize(
    ("higher", "expected"), [(True, 0.5 * (0.9 + (0.9 - 0.03 * 0.2))), (False, 0.5 * (0.3 + 0.306))]
)
def test_peeking_is_the_mean_of_the_best_and_the_99th_percentile(higher: bool, expected: float) -> None:
    curve = (0.3, 0.7, 0.5, 0.9) if higher else (0.9, 0.5, 0.7, 0.3)
    found = Results.from_rows(*build({("baseline", 1.0, 0): same(*curve)}, higher=higher))
    assert peeking(found, "baseline", 1.0)[0] == pytest.approx(expected)


def test_peeking_leaves_out_what_diverged() -> None:
    found = Results.from_rows(*build({("baseline", 1.0, 0): same(0.4, None), ("baseline", 1.0, 1): same(None, None)}))
    assert peeking(found, "baseline", 1.0) == {0: 0.4, 1: None}
