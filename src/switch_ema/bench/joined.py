"""Several comparisons side by side: wins, losses and ties of every method against the baseline, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switch_ema.bench.results import read_run
from switch_ema.bench.stats import BASELINE, Difference, Judgement, Verdict
from switch_ema.bench.summary import FEW_SEEDS, MethodRow, Summary, summarize
from switch_ema.bench.wording import NONE, count, show_gap
from switch_ema.errors import InputError

OUTCOMES: Mapping[Judgement, str] = {"better": "wins", "worse": "losses", "unclear": "ties", "unknown": "unknown"}


@dataclass(frozen=True)
class Comparison:
    """One comparison among several.

    Attributes:
        name: What it compares on, different from all others.
        folder: Its run folder.
        run: Content of its ``run.json``.
        summary: Its outcome.
    """

    name: str
    folder: Path
    run: Mapping[str, Any]
    summary: Summary

    def row(self, label: str) -> MethodRow | None:
        """Return where a method stands, or None where it was not compared."""
        return next((row for row in self.summary.rows if row.label == label), None)

    def verdict(self, label: str) -> Verdict | None:
        """Return how a switching method stands to its learning-rate controls, or None where there is none."""
        found = (each for each in self.summary.verdicts if each.method == label and each.control is not None)
        return next(found, None)

    def gain(self, label: str) -> Difference | None:
        """Return the paired difference of a method to the baseline, each at its own best rate."""
        row = self.row(label)
        return row.difference if row else None

    def judge(self, label: str) -> Judgement | None:
        """Say whether a method is better or worse than the baseline, or None where it was not compared."""
        gain = self.gain(label)
        return None if gain is None else gain.judge(self.summary.higher_is_better)

    def percent(self, label: str) -> Difference | None:
        """Return the difference in percent of the baseline's mean, above 0 where the method is better."""
        gain, plain = self.gain(label), self.row(BASELINE)
        if gain is None or gain.mean is None or plain is None or not plain.test.mean:
            return None
        scale = (100 if self.summary.higher_is_better else -100) / abs(plain.test.mean)
        mean, ends = gain.mean * scale, sorted(scale * end for end in (gain.low, gain.high) if end is not None)
        low, high = ends or (None, None)
        return Difference(gain.n, mean, low, high, gain.diverged)


@dataclass(frozen=True)
class Joined:
    """Several comparisons.

    Attributes:
        comparisons: The comparisons, as they were named.
        labels: Labels of the methods other than the baseline; controls come last.
    """

    comparisons: Sequence[Comparison]
    labels: Sequence[str]

    def tally(self, label: str) -> dict[Judgement, list[str]]:
        """Return the comparisons in which a method wins, loses, ties, or cannot be judged."""
        found: dict[Judgement, list[str]] = {kind: [] for kind in OUTCOMES}
        for each in self.comparisons:
            if (judgement := each.judge(label)) is not None:
                found[judgement].append(each.name)
        return found

    def is_control(self, label: str) -> bool:
        """Say whether a method is a learning-rate control wherever it stands."""
        rows = [row for each in self.comparisons if (row := each.row(label))]
        return all(row.control_for for row in rows)

    def sentences(self) -> list[str]:
        """Say for every method how often it wins and loses, and whether a lower learning rate does as well."""
        return [
            *(self._outcome(label) for label in self.labels if not self.is_control(label)),
            *self._controls(),
        ]

    def notes(self) -> list[str]:
        """List what the reader must know before trusting the table."""
        judged = sum(
            len(tally[kind]) for tally in map(self.tally, self.labels) for kind in OUTCOMES if kind != "unknown"
        )
        notes = [
            f"{count(judged, 'interval')} stand here, each for itself: of twenty true ties one would show a "
            "difference. Wins and losses are counted, not pooled: comparisons differ in what they measure."
        ]
        few = [each.name for each in self.comparisons if each.run["asked"]["seeds"] < FEW_SEEDS]
        if few:
            notes.append(f"Fewer than {FEW_SEEDS} seeds, so a real difference may well hide: {'; '.join(few)}.")
        fixed = [each.name for each in self.comparisons if not each.summary.own_rates]
        if fixed:
            notes.append(f"One learning rate for all methods, chosen for none: {'; '.join(fixed)}.")
        broken = [
            f"{row.label} ({each.name})"
            for each in self.comparisons
            for row in each.summary.rows
            if row.diverged or row.unfinished
        ]
        if broken:
            notes.append(f"Some seeds diverged or are unfinished, and are in no mean: {'; '.join(broken)}.")
        return notes

    def _outcome(self, label: str) -> str:
        tally = self.tally(label)
        total = count(sum(map(len, tally.values())), "comparison")
        words: dict[Judgement, str] = {
            "better": "better than the baseline in {}",
            "worse": "worse than the baseline in {}",
            "unclear": "no different beyond noise in {}",
            "unknown": "without an interval to tell by in {}",
        }
        said = [text.format(_listed(tally[kind])) for kind, text in words.items() if tally[kind]]
        return f"{label}, over {total}: {', '.join(said)}."

    def _controls(self) -> list[str]:
        """Say how every switching method with controls stands to them."""
        words: dict[Judgement, str] = {
            "better": "gives more than any lower rate in {}",
            "unclear": "shows no more than a lower rate does in {}",
            "worse": "does worse than a lower rate in {}",
            "unknown": "cannot be judged in {}",
        }
        said = []
        for label in self.labels:
            kinds: dict[Judgement, list[str]] = {}
            for each in self.comparisons:
                if verdict := each.verdict(label):
                    kinds.setdefault(verdict.judgement, []).append(each.name)
            if kinds:
                parts = ", ".join(words[kind].format(_listed(kinds[kind])) for kind in words if kind in kinds)
                said.append(f"Against its learning-rate controls, {label} {parts}.")
        return said

    def lines(self) -> list[str]:
        """Return the table as lines of text, the comparisons numbered."""
        head = ["method", *OUTCOMES.values(), *(f"[{n}]" for n in range(1, len(self.comparisons) + 1))]
        rows = [head]
        for label in self.labels:
            outcomes = (str(len(names)) for names in self.tally(label).values())
            rows.append([label, *outcomes, *(_cell(each, label) for each in self.comparisons)])
        sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join([row[0].ljust(sizes[0]), *(cell.rjust(n) for cell, n in zip(row[1:], sizes[1:], strict=True))])
            for row in rows
        ]
        names = [f"[{n}] {each.name}: {each.folder}" for n, each in enumerate(self.comparisons, start=1)]
        return [*(line.rstrip() for line in table), *names]


def join_runs(folders: Sequence[Path]) -> Joined:
    """Read several run folders.

    Args:
        folders: Run folders that `sema compare` wrote, two or more.

    Raises:
        InputError: One is named twice, is no run folder, is damaged, or holds no measurement yet.
    """
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{folder} is named twice; leave one out")
    read = [_summarized(folder) for folder in folders]
    names = _names([run for run, _ in read], folders)
    comparisons = [Comparison(name, folder, *each) for name, folder, each in zip(names, folders, read, strict=True)]
    return Joined(comparisons, _labels(comparisons))


def _summarized(folder: Path) -> tuple[dict[str, Any], Summary]:
    run, rows = read_run(folder)
    try:
        return run, summarize(run, rows)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None


def what(run: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return task, data and model of a comparison."""
    asked = run["asked"]
    return asked["task"], asked["data"], run.get("model", asked["model"])


def _names(runs: Sequence[Mapping[str, Any]], folders: Sequence[Path]) -> list[str]:
    """Name comparisons by those of task, data and model in which they differ, and by the folder where that is alike."""
    described = [what(run) for run in runs]
    differ = [len(set(column)) > 1 for column in zip(*described, strict=True)]
    plain = [", ".join(part for part, told in zip(each, differ, strict=True) if told) for each in described]
    short = [folder.resolve().name for folder in folders]
    names = []
    for name, last, folder in zip(plain, short, folders, strict=True):
        own = last if short.count(last) == 1 else str(folder)
        names.append(name if plain.count(name) == 1 else f"{name}, {own}" if name else own)
    return names


def _labels(comparisons: Sequence[Comparison]) -> list[str]:
    rows = [row for each in comparisons for row in each.summary.rows if row.label != BASELINE]
    methods = [row.label for row in rows if not row.control_for]
    return list(dict.fromkeys([*methods, *(row.label for row in rows)]))


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({'; '.join(names)})"


def _cell(comparison: Comparison, label: str) -> str:
    gain = comparison.gain(label)
    return NONE if gain is None else show_gap(gain, comparison.summary.decimals)
