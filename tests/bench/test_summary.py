"""The headline table, its sentences and its notes for every outcome, and how they stand on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from switch_ema.bench.stats import Difference
from switch_ema.bench.summary import summarize, verdict_words
from switch_ema.bench.table import print_summary
from switch_ema.bench.wording import decimals_for, show, show_difference, show_interval, signed
from switch_ema.errors import InputError
from tests.bench.sample import FAST, SLOW, Curve, Curves, Run, build, make_run, same


def duel(baseline: Sequence[Curve], other: Sequence[Curve]) -> Run:
    """Make a run of the baseline against one method from the curve of every seed."""
    return build(
        {
            (method, 1.0, seed): same(*curve)
            for method, curves in (("baseline", baseline), ("ema", other))
            for seed, curve in enumerate(curves)
        }
    )


def test_a_baseline_that_leads_is_said_to_lead() -> None:
    summary = summarize(*duel([[0.9], [0.91]], [[0.8], [0.82]]))
    assert summary.sentences[0] == (
        "baseline is best on validation and ends at test score 0.9050 ± 0.0071 over 2 seeds; "
        "no other method is ahead of it."
    )


def test_a_gain_is_told_from_noise_by_its_interval() -> None:
    beyond = summarize(*duel([[0.5], [0.5], [0.5]], [[0.6], [0.61], [0.62]])).sentences[0]
    assert beyond == (
        "ema is best on validation and ends at test score 0.6100 ± 0.0100 over 3 seeds, against the baseline's "
        "0.5000 ± 0.0000: the gain is beyond the noise between seeds (+0.1100, 95 % interval +0.0852 to +0.1348)."
    )
    within = summarize(*duel([[0.5], [0.5]], [[0.6], [0.5]])).sentences[0]
    assert "the difference is within the noise between seeds (+0.0500, 95 % interval −0.5853 to +0.6853)." in within


def test_a_leader_on_validation_that_is_worse_on_test_is_called_worse() -> None:
    curves = {("baseline", 1.0, seed): same(0.5) for seed in range(3)}
    curves |= {("ema", 1.0, seed): ((0.9,), (0.1 + seed / 100,)) for seed in range(3)}
    assert "it is worse, beyond the noise between seeds" in summarize(*build(curves)).sentences[0]


def test_a_gain_that_early_stopping_takes_away_is_said() -> None:
    late, early = [0.5, 0.6, 0.8], [0.5, 0.9, 0.3]
    summary = summarize(*duel([early, early], [late, late]))
    assert (
        "Stopped at each seed's best epoch on validation instead, ema is not ahead of the baseline: "
        "test score 0.8000 ± 0.0000 against 0.9000 ± 0.0000."
    ) in summary.notes
    kept = summarize(*duel([[0.5, 0.7, 0.3]] * 2, [late, late]))
    assert not any(note.startswith("Stopped") for note in kept.notes)


@pytest.mark.parametrize(
    ("values", "words", "verdict"),
    [
        ((0.80, 0.81, 0.82), "does better", "the control does better"),
        ((0.89, 0.91, 0.90), "does as well within the noise", "the control does as well"),
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


def test_the_control_of_another_method_counts_as_well() -> None:
    run, rows = build(
        {
            (method, 1.0, seed): same(value + seed / 1000 * (2 if method == "sema" else 1))
            for method, value in (("baseline", 0.5), ("sema", 0.8), ("lookahead", 0.6), ("own", 0.55), ("other", 0.9))
            for seed in range(3)
        },
        sema={"switches": True},
        lookahead={"switches": True},
        own={"control_for": ["sema"]},
        other={"control_for": ["lookahead"]},
    )
    first = summarize(run, rows).verdicts[0]
    assert (first.method, first.control, first.judgement) == ("sema", "other", "worse")


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


@pytest.mark.parametrize("lrs", [(0.05,), (0.02, 0.05, 0.1)])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_of_the_table_is_cut_off_on_a_narrow_terminal(
    width: int, lrs: tuple[float, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    summary = summarize(*make_run(lrs=lrs, diverged=[("swa", 0)]))
    print_summary(summary, Console(width=width), Path("out") / "report.html")
    lines = capsys.readouterr().out.splitlines()
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("kept:"))]
    assert max(map(len, table)) <= max(width, 80)
    assert "…" not in "".join(table)
    text = "".join(line if line.startswith(" ") else f" {line}" for line in table)
    for row in summary.rows:
        assert all(part in text for part in row.label.replace(":", ": ").replace(",", ", ").split())
        assert show(row.test.mean, summary.decimals) in text
        if row.difference:
            assert show_interval(row.difference, summary.decimals) in text
    assert len({line.rindex(" ± ") for line in table if " ± " in line}) == 1  # one column under the other
    shares = [line for line in table if line.endswith("%")]
    assert len(shares) == 3
    assert {len(line) for line in shares} == {len(table[0])}  # numbers stand right
    assert [*summary.sentences, *summary.notes, "report: out/report.html"] == lines[len(table) + 2 :]


def test_a_terminal_gets_lines_that_end_at_words(capsys: pytest.CaptureFixture[str]) -> None:
    summary = summarize(*make_run())
    print_summary(summary, Console(width=80, force_terminal=True, color_system=None), Path("report.html"))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split("\n\n")[1].split())
    assert words == " ".join([*summary.sentences, *summary.notes, "report: report.html"])
