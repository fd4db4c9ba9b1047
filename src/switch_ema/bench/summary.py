"""What the rows mean: the headline table as data, and the plain sentences that belong to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from switch_ema.averaging.decay import FREEZING
from switch_ema.bench.stats import (
    BASELINE,
    Difference,
    Reach,
    Results,
    Spread,
    Verdict,
    against_controls,
    at_best_validation,
    best_rate,
    paired_difference,
    peeking,
    reach_baseline,
    spread,
    validation_rank,
)
from switch_ema.bench.wording import count, decimals_for, show_difference, show_spread
from switch_ema.errors import InputError

FEW_SEEDS = 5


@dataclass(frozen=True)
class MethodRow:
    """One method of the headline table, at its own best learning rate (or the only one).

    Attributes:
        label: Label of the method.
        about: What it does, in one sentence.
        lr: Nominal learning rate, chosen on validation.
        lr_scale: What the method multiplies it by.
        at_edge: Whether the choice is the lowest or highest of the rates tried, so a better one may lie outside.
        test: Test value at the last epoch.
        difference: Paired difference to the baseline at the baseline's own best rate; None for the baseline.
        best_validation: Test value at each seed's best epoch on validation.
        peeked: Test value by the rule of the Switch EMA paper's code, which chooses epochs on the test set.
        finals: Test value of each metric that is measured once, after the last epoch.
        reach: Epochs to the baseline's last value.
        switches: Whether the average is copied back into training.
        retained_fraction: Share of an interval's progress that a switch keeps; None for methods that do not switch.
        control_for: The switching methods whose learning-rate control it is; empty for other methods.
        diverged: Seeds whose value at the last epoch is not finite.
        unfinished: Seeds that have not got to the last epoch.
    """

    label: str
    about: str
    lr: float
    lr_scale: float
    at_edge: bool
    test: Spread
    difference: Difference | None
    best_validation: Spread
    peeked: Spread
    finals: Mapping[str, Spread]
    reach: Reach
    switches: bool
    retained_fraction: float | None
    control_for: tuple[str, ...]
    diverged: int
    unfinished: int


@dataclass(frozen=True)
class Summary:
    """The outcome of a comparison.

    Attributes:
        metric: The headline metric.
        higher_is_better: Its direction.
        decimals: How many decimals its values are written with; see `wording`.
        own_rates: Whether there are several learning rates, so each method stands at its own best.
        rows: The headline table, in the order of ``run.json``.
        verdicts: Every switching method against its learning-rate controls.
        sentences: Two plain sentences: who leads and by how much; whether the learning-rate control does as well.
        notes: What the reader must know before trusting them.
    """

    metric: str
    higher_is_better: bool
    decimals: int
    own_rates: bool
    rows: tuple[MethodRow, ...]
    verdicts: tuple[Verdict, ...]
    sentences: tuple[str, str]
    notes: tuple[str, ...]


def summarize(run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Summary:
    """Compute the headline table of a comparison and say in words what came out.

    Args:
        run: Contents of ``run.json``.
        rows: Contents of ``rows.jsonl``.

    Raises:
        InputError: There is no row yet.
    """
    results = Results.from_rows(run, rows)
    if not results.lrs:
        raise InputError("the run holds no measurement yet; run `sema compare` until its first epoch is done")
    rates = {method: best_rate(results, method) for method in results.methods}
    table = tuple(_method_row(results, method, rates) for method in run["methods"])
    controls = [row.label for row in table if row.control_for]
    verdicts = tuple(against_controls(results, row.label, controls, rates) for row in table if row.switches)
    words = _Words(results, table, decimals_for(row.test.mean for row in table))
    return Summary(
        metric=results.metric,
        higher_is_better=results.higher_is_better,
        decimals=words.decimals,
        own_rates=len(results.lrs) > 1,
        rows=table,
        verdicts=verdicts,
        sentences=(words.leader(), words.control(verdicts)),
        notes=tuple(words.notes()),
    )


def verdict_words(verdict: Verdict) -> str:
    """Say in a few words how a switching method stands to its learning-rate control."""
    if verdict.control is None:
        return "no control was run"
    return {
        "better": "switching gives more than its control",
        "unclear": "the control does as well",
        "worse": "the control does better",
        "unknown": "no interval to tell by",
    }[verdict.judgement]


def _method_row(results: Results, method: Mapping[str, Any], rates: Mapping[str, float]) -> MethodRow:
    label = method["label"]
    lr, baseline_lr = rates[label], rates[BASELINE]
    last = results.at(label, lr, "test")
    test = spread(last.values())
    difference = paired_difference(last, results.at(BASELINE, baseline_lr, "test"))
    return MethodRow(
        label=label,
        about=method["summary"],
        lr=lr,
        lr_scale=method["lr_scale"],
        at_edge=len(results.lrs) > 1 and lr in (results.lrs[0], results.lrs[-1]),
        test=test,
        difference=None if label == BASELINE else difference,
        best_validation=spread(at_best_validation(results, label, lr).values()),
        peeked=spread(peeking(results, label, lr).values()),
        finals={name: spread(results.at(label, lr, "test", metric=name).values()) for name in results.final_metrics},
        reach=reach_baseline(results, label, lr, baseline_lr),
        switches=method["switches"],
        retained_fraction=method["retained_fraction"],
        control_for=tuple(method["control_for"]),
        diverged=test.diverged,
        unfinished=len(results.seeds) - test.n - test.diverged,
    )


@dataclass(frozen=True)
class _Words:
    """The sentences about one table."""

    results: Results
    table: Sequence[MethodRow]
    decimals: int

    def leader(self) -> str:
        """Say who leads. The leader is chosen on validation: the best of many test values would flatter itself."""
        leader = self._leading()
        if leader.test.n == 0:
            return "No method has a finite test value at the last epoch, so there is no result yet."
        start = "With every method at its own best learning rate, " if len(self.results.lrs) > 1 else ""
        end = f"{self._value(leader)} over {count(leader.test.n, 'seed')}"
        if leader.difference is None:
            return f"{start}{leader.label} is best on validation and ends at {end}; no other method is ahead of it."
        baseline = self._baseline()
        against = f"the baseline's {show_spread(baseline.test, self.decimals)}"
        sentence = f"{start}{leader.label} is best on validation and ends at {end}"
        return f"{sentence}, against {against}: {self._noise(leader.difference)}."

    def control(self, verdicts: Sequence[Verdict]) -> str:
        """Say whether the learning-rate control does as well as the switching method that is best on validation."""
        if not verdicts:
            return "No method that switches was compared, so there is no learning-rate control to answer to."
        rows = {row.label: row for row in self.table}
        tested = [verdict for verdict in verdicts if verdict.control is not None] or verdicts
        verdict = min(tested, key=lambda v: validation_rank(self.results, v.method, rows[v.method].lr))
        if verdict.control is None:
            rates = len(self.results.lrs)
            tuned = f"; the baseline had its own best of {rates} learning rates, though" if rates > 1 else ""
            return (
                f"No learning-rate control was run, so what {verdict.method} gains may be nothing more than the lower "
                f"effective learning rate that a switch brings (--control tells){tuned}."
            )
        control = f"the learning-rate control {verdict.control} ({self._value(rows[verdict.control])})"
        difference = f"{verdict.method} minus control is {show_difference(verdict.difference, self.decimals)}"
        return (
            f"Against {verdict.method}, {control} "
            + {
                "better": f"does not do as well: {difference}, so switching gives more than the lower rate it brings.",
                "unclear": f"does as well within the noise: {difference}, so switching shows no gain that a lower rate "
                "does not give.",
                "worse": f"does better: {difference}, so the lower rate alone is the better choice.",
                "unknown": f"cannot be judged: {difference}.",
            }[verdict.judgement]
        )

    def notes(self) -> list[str]:
        """List what the reader must know before trusting the table."""
        total = len(self.results.seeds)
        notes = []
        if total == 1:
            notes.append("One seed: there is no interval, and no difference can be told from noise.")
        elif total < FEW_SEEDS:
            notes.append(f"Intervals over {total} seeds are wide: a real difference may well hide in them.")
        notes += self._early_stopping()
        for row in self.table:
            of_all = f"of {count(total, 'seed')}"
            if row.diverged:
                rest = f"the mean is over the other {row.test.n}" if row.test.n else "there is no value to show"
                notes.append(f"{row.label}: {row.diverged} {of_all} diverged; {rest}.")
            if row.unfinished:
                notes.append(f"{row.label}: {row.unfinished} {of_all} did not get to epoch {self.results.epochs} yet.")
            if row.retained_fraction is not None and row.retained_fraction < FREEZING:
                notes.append(f"{row.label}: a switch keeps only {row.retained_fraction:.1%} of an interval's progress.")
        if edges := [row.label for row in self.table if row.at_edge]:
            notes.append(
                "Best at the lowest or highest learning rate tried, so a better one may lie outside: "
                f"{', '.join(edges)}."
            )
        return notes

    def _leading(self) -> MethodRow:
        return min(self.table, key=lambda row: validation_rank(self.results, row.label, row.lr))

    def _baseline(self) -> MethodRow:
        return next(row for row in self.table if row.label == BASELINE)

    def _early_stopping(self) -> list[str]:
        """Warn where the leader's gain at the last epoch is gone once both stop at their best validation epoch."""
        leader, baseline = self._leading(), self._baseline()
        ours, theirs = leader.best_validation.mean, baseline.best_validation.mean
        if leader.difference is None or leader.difference.mean is None or ours is None or theirs is None:
            return []
        sign = 1 if self.results.higher_is_better else -1
        if not sign * leader.difference.mean > 0 >= sign * (ours - theirs):
            return []
        return [
            f"Stopped at each seed's best epoch on validation instead, {leader.label} is not ahead of the baseline: "
            f"test {self.results.metric} {show_spread(leader.best_validation, self.decimals)} against "
            f"{show_spread(baseline.best_validation, self.decimals)}."
        ]

    def _value(self, row: MethodRow) -> str:
        return f"test {self.results.metric} {show_spread(row.test, self.decimals)}"

    def _noise(self, difference: Difference) -> str:
        if difference.n == 0:
            return "no seed is finite for both, so they cannot be compared"
        words = {
            "better": "the gain is beyond the noise between seeds",
            "worse": "it is worse, beyond the noise between seeds",
            "unclear": "the difference is within the noise between seeds",
            "unknown": "there is no interval to tell it from noise",
        }[difference.judge(self.results.higher_is_better)]
        return f"{words} ({show_difference(difference, self.decimals)})"
