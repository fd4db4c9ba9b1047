"""The statistics against closed forms, scipy and cases small enough to check by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    reach_baseline,
    spread,
)
from switch_ema.bench.summary import summarize, verdict_words
from switch_ema.bench.wording import decimals_for, show, show_difference, show_interval, show_reach, signed
from switch_ema.errors import InputError
from tests.bench.sample import FAST, SLOW, make_run

Curve = Sequence[float | None]
# (method, lr, seed) -> (validation curve, test curve)
Curves = Mapping[tuple[str, float, int], tuple[Curve, Curve]]


def build(curves: Curves, *, higher: bool = True, epochs: int | None = None, **methods: dict[str, Any]) -> Any:
    """Make run and rows from curves; `methods` says what is special about a method."""
    labels = list(dict.fromkeys(method for method, _, _ in curves))
    plain = {"summary": "", "switches": False, "lr_scale": 1.0, "retained_fraction": None, "switch_every": None}
    run = {
        "asked": {"epochs": epochs or max(len(test) for _, test in curves.values())},
        "metrics": [{"name": "score", "higher_is_better": higher}],
        "methods": [{"label": label, "control_for": [], **plain, **methods.get(label, {})} for label in labels],
    }
    rows = [
        {"method": method, "lr": lr, "seed": seed, "split": split, "metric": "score", "epoch": epoch, "value": value}
        for (method, lr, seed), pair in curves.items()
        for split, curve in zip(("val", "test"), pair, strict=True)
        for epoch, value in enumerate(curve, start=1)
    ]
    return run, rows


def results(curves: Curves, **options: Any) -> Results:
    return Results.from_rows(*build(curves, **options))


def same(*curve: float | None) -> tuple[Curve, Curve]:
    return curve, curve


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


def test_pairs_are_seeds_where_both_are_finite() -> None:
    found = paired_difference({0: 0.9, 1: None, 2: 0.7, 3: 0.5}, {0: 0.8, 1: 0.8, 2: None, 4: 0.1})
    assert (found.n, found.low, found.high) == (1, None, None)
    assert found.mean == pytest.approx(0.1)
    assert paired_difference({0: None}, {0: 0.5}) == Difference(0, None, None, None)


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
    assert verdict_words(alone) == "no control was run"


@pytest.mark.parametrize(
    ("values", "words", "verdict"),
    [
        ((0.80, 0.81, 0.82), "does better", "the control does better"),
        ((0.89, 0.91, 0.90), "does as well", "the control does as well"),
        ((0.98, 0.99, 0.97), "does not do as well", "switching gives more than its control"),
        ((0.98,), "cannot be judged", "no interval to tell by"),
    ],
)
def test_the_second_sentence_tells_how_the_control_does(values: Sequence[float], words: str, verdict: str) -> None:
    curves: dict[tuple[str, float, int], tuple[Curve, Curve]] = {}
    for seed, value in enumerate(values):
        curves["baseline", 1.0, seed] = same(0.5)
        curves["sema", 1.0, seed] = same(value)
        curves["control", 1.0, seed] = same(0.90 + 0.002 * (seed % 2))
    run, rows = build(curves, sema={"switches": True}, control={"control_for": ["sema"]})
    summary = summarize(run, rows)
    assert words in summary.sentences[1]
    assert [verdict_words(each) for each in summary.verdicts] == [verdict]


def test_without_a_control_the_sentence_says_what_is_missing() -> None:
    run, rows = build({("baseline", 1.0, 0): same(0.5), ("sema", 1.0, 0): same(0.9)}, sema={"switches": True})
    assert "No learning-rate control was run" in summarize(run, rows).sentences[1]
    run, rows = build({("baseline", 1.0, 0): same(0.5)})
    assert "No method that switches" in summarize(run, rows).sentences[1]


def test_the_leader_is_chosen_on_validation() -> None:
    curves: Curves = {
        **{("baseline", 1.0, seed): ((0.5,), (0.5 + 0.001 * seed,)) for seed in range(3)},
        **{("lucky", 1.0, seed): ((0.4,), (0.99,)) for seed in range(3)},
        **{("ahead", 1.0, seed): ((0.8,), (0.8,)) for seed in range(3)},
    }
    sentence = summarize(*build(curves)).sentences[0]
    assert sentence.startswith("ahead is best on validation and ends at test score 0.8000")
    assert "beyond the noise" in sentence
    assert summarize(*build(curves, higher=False)).sentences[0].startswith("lucky is best on validation")


def test_with_several_rates_everyone_stands_at_its_own_best() -> None:
    summary = summarize(*make_run(lrs=(0.01, 0.05, 0.2)))
    assert summary.own_rates
    assert summary.sentences[0].startswith("With every method at its own best learning rate")
    rows = {row.label: row for row in summary.rows}
    assert (rows["baseline"].lr, rows["baseline"].at_edge) == (0.01, True)
    assert (rows["baseline:lr_scale=0.17"].lr, rows["baseline:lr_scale=0.17"].at_edge) == (0.05, False)
    assert any("a better one may lie outside" in note and "baseline" in note for note in summary.notes)


def test_diverged_and_unfinished_seeds_are_counted_and_said() -> None:
    run, rows = make_run(diverged=[("swa", 0)])
    rows = [row for row in rows if not (row["method"] == "ema:decay=0.98" and row["seed"] == 2 and row["epoch"] > 5)]
    summary = summarize(run, rows)
    found = {row.label: row for row in summary.rows}
    assert (found["swa"].test.n, found["swa"].diverged, found["swa"].unfinished) == (2, 1, 0)
    assert (found["ema:decay=0.98"].test.n, found["ema:decay=0.98"].unfinished) == (2, 1)
    assert found["swa"].difference is not None
    assert found["swa"].difference.n == 2
    assert "swa: 1 of 3 seeds diverged; the mean is over the other 2." in summary.notes
    assert "ema:decay=0.98: 1 of 3 seeds did not get to epoch 12 yet." in summary.notes
    assert any(note.startswith(f"{SLOW}: a switch keeps only 1.1%") for note in summary.notes)


def test_the_headline_pairs_by_seed_and_names_the_controls() -> None:
    run, rows = make_run()
    found = {row.label: row for row in summarize(run, rows).rows}
    last = {
        (row["method"], row["seed"]): row["value"]
        for row in rows
        if (row["epoch"], row["split"], row["metric"]) == (12, "test", "accuracy")
    }
    gaps = [last[FAST, seed] - last["baseline", seed] for seed in range(3)]
    difference = found[FAST].difference
    assert difference is not None
    assert difference.mean == pytest.approx(math.fsum(gaps) / 3)
    assert found["baseline"].difference is None
    assert found["baseline:lr_scale=0.17"].control_for == (FAST,)


def test_one_seed_has_no_interval_and_says_so() -> None:
    summary = summarize(*make_run(seeds=1))
    assert all(row.difference is None or row.difference.low is None for row in summary.rows)
    assert "One seed: there is no interval, and no difference can be told from noise." in summary.notes
    assert "no interval from one seed" in summary.sentences[0]


def test_a_run_without_rows_or_without_a_result_says_so() -> None:
    run, rows = make_run()
    with pytest.raises(InputError, match="holds no measurement yet"):
        summarize(run, [])
    early = summarize(run, [row for row in rows if row["epoch"] == 1])
    assert early.sentences[0].startswith("No method has a finite test value at the last epoch")


def test_later_rows_replace_earlier_ones_and_nan_counts_as_diverged() -> None:
    run, rows = build({("baseline", 1.0, 0): same(0.5)})
    found = Results.from_rows(run, [*rows, {**rows[1], "value": math.nan}])
    assert found.at("baseline", 1.0, "test") == {0: None}
    assert found.at("baseline", 1.0, "val") == {0: 0.5}


def test_numbers_are_written_with_the_decimals_of_their_metric() -> None:
    assert [decimals_for([size]) for size in (0.94, 0.02, 3.2, 0.0012, 45.0, 123456.0)] == [4, 4, 4, 6, 3, 0]
    assert decimals_for([0.9, None, 0.8, 1e30]) == 4
    assert decimals_for([None, 0.0]) == 4
    assert show(0.94321, 4) == "0.9432"
    assert show(None, 4) == "\N{EN DASH}"
    assert show(3e30, 4) == "3.00e+30"
    assert (signed(0.01, 4), signed(-0.01, 4), signed(-0.00001, 4)) == ("+0.0100", "\N{MINUS SIGN}0.0100", "0.0000")
    assert show_difference(Difference(3, 0.1, -0.1, 0.3), 2) == "+0.10, 95 % interval \N{MINUS SIGN}0.10 to +0.30"
    assert show_interval(Difference(0, None, None, None), 2) == "no common seed"
