"""What a sweep over the widths of an average found: read, summarized over seeds, shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switch_ema.bench.integrity import unseal
from switch_ema.bench.markup import Html, breakable, join, table, tag
from switch_ema.bench.results import read_run
from switch_ema.bench.stats import Spread, spread
from switch_ema.bench.summary import Summary, summarize
from switch_ema.bench.wording import decimals_for, show_spread
from switch_ema.errors import InputError

KIND = "posthoc"
"""The method that keeps snapshots."""


@dataclass(frozen=True)
class Width:
    """One width of one method.

    Attributes:
        method: Label of the method.
        sigma_rel: Standard deviation of the average as a part of training.
        val: Headline metric on validation, over the seeds.
        test: Headline metric on test.
        finals: Metrics that are measured once, on test.
        fit_error: Largest relative error of the profile over the seeds.
        best: Whether it is the best on validation among the method's widths.
    """

    method: str
    sigma_rel: float
    val: Spread
    test: Spread
    finals: Mapping[str, Spread]
    fit_error: float
    best: bool


def sweep_path(folder: Path) -> Path:
    """Return where a run folder keeps its sweep."""
    return folder / "sweep.jsonl"


def read_sweep(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a sweep; none where there was no sweep.

    Raises:
        InputError: The file is damaged.
    """
    path = sweep_path(folder)
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows = [unseal(line) for line in lines]
        if len({(row["method"], row["lr"], row["seed"], row["sigma_rel"], row["split"]) for row in rows}) < len(rows):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged; delete it and sweep again") from None
    return rows


def summarize_widths(
    rows: Sequence[Mapping[str, Any]], run: Mapping[str, Any], rates: Mapping[str, float]
) -> list[Width]:
    """Summarize a sweep over its seeds, each method at one learning rate.

    Args:
        rows: Contents of ``sweep.jsonl``.
        run: Contents of ``run.json``.
        rates: The learning rate at which each method is shown.
    """
    headline = run["metrics"][0]
    finals = [metric["name"] for metric in run.get("final_metrics", ())]
    sign = 1 if headline["higher_is_better"] else -1
    mine = [row for row in rows if rates.get(row["method"]) == row["lr"]]
    found = []
    for method in dict.fromkeys(row["method"] for row in mine):
        of_method = [row for row in mine if row["method"] == method]
        widths = sorted({row["sigma_rel"] for row in of_method})
        values = {w: _values([row for row in of_method if row["sigma_rel"] == w], headline["name"]) for w in widths}
        known = [w for w in widths if values[w]["val"].mean is not None]
        best = max(known, key=lambda w: sign * (values[w]["val"].mean or 0), default=None)
        for width in widths:
            here = [row for row in of_method if row["sigma_rel"] == width]
            measured = {name: _values(here, name)["test"] for name in finals}
            error = max(row["fit_error"] for row in here)
            found.append(
                Width(method, width, values[width]["val"], values[width]["test"], measured, error, width == best)
            )
    return found


def show_widths(found: Sequence[Width], summary: Summary) -> Html:
    """Return the table of a sweep in HTML."""
    rows = [
        (join([breakable(each.method), tag("small", "best on validation")]) if each.best else breakable(each.method),
         *cells)
        for each, cells in zip(found, _cells(found, summary), strict=True)
    ]  # fmt: skip
    return table("Averages of several widths", ["Method", *_head(found, summary)], rows)


def width_lines(folder: Path) -> list[str]:
    """Return the table of a run folder's sweep as lines of text."""
    run, measured = read_run(folder)
    summary = summarize(run, measured)
    found = summarize_widths(read_sweep(folder), run, {row.label: row.lr for row in summary.rows})
    rows = [["method", *_head(found, summary)]]
    rows += [[each.method, *cells] for each, cells in zip(found, _cells(found, summary), strict=True)]
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(sizes[0]), *(cell.rjust(n) for cell, n in zip(row[1:], sizes[1:], strict=True))])
        for row in rows
    ]
    marks = ["", *("  <- best on validation" * each.best for each in found)]
    return [f"{line}{mark}".rstrip() for line, mark in zip(lines, marks, strict=True)]


def _head(found: Sequence[Width], summary: Summary) -> list[str]:
    finals = [f"test {name}" for name in found[0].finals]
    return ["sigma_rel", f"validation {summary.metric}", f"test {summary.metric}", *finals, "missed by the fit"]


def _cells(found: Sequence[Width], summary: Summary) -> list[list[str]]:
    return [
        [
            f"{each.sigma_rel:g}",
            show_spread(each.val, summary.decimals),
            show_spread(each.test, summary.decimals),
            *(show_spread(value, decimals_for([value.mean])) for value in each.finals.values()),
            f"{each.fit_error:.1%}",
        ]
        for each in found
    ]


def _values(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Spread]:
    """Return the values of a metric over the seeds, by split."""
    return {
        split: spread(row["values"].get(metric) for row in rows if row["split"] == split) for split in ("val", "test")
    }
