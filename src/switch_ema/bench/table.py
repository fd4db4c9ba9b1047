"""The headline table and its sentences on a terminal."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from switch_ema.bench.summary import MethodRow, Summary
from switch_ema.bench.wording import decimals_for, show, show_interval, show_spread, signed

GAP = "  "
LABEL = 20  # what a label needs, folded between its options
RULES = ("best val", "peeking")


def print_summary(summary: Summary, console: Console, report: Path) -> None:
    """Print what came out: the table, what it means, and where the report lies.

    Nothing is cut off: where the table is wider than the console, labels go on in a second line.

    Args:
        summary: The outcome.
        console: Where to print.
        report: The report page.
    """

    def say(text: str, style: str = "", *, whole: bool = False) -> None:
        # a pipe gets one line for each sentence, a terminal lines that end at words
        console.print(Text(text, style), soft_wrap=whole or not console.is_terminal, highlight=False)

    lines = _table(summary, console.width)
    for line, style in lines:
        say(line, style, whole=True)
    legend = "kept: share of the progress that a switch keeps"
    if RULES[0] in lines[0][0]:
        legend += "; best val: test value at each seed's best epoch on validation; peeking: (best + 99th percentile) "
        legend += "/ 2 over the test epochs, the rule of the Switch EMA paper's code, which flatters"
    if any(row.control_for for row in summary.rows):
        legend += "; rows with lr_scale are learning-rate controls: they train at the rate that switches leave"
    say(legend, "dim")
    say("")
    for text in (*summary.sentences, *summary.notes):
        say(text)
    say(f"report: {report}", whole=True)


def _table(summary: Summary, width: int) -> list[tuple[str, str]]:
    """Return the lines of the table with their styles; the columns of the other reporting rules only if they fit."""
    head = ["own lr"] * summary.own_rates + [f"test {summary.metric}", "− baseline", "95 % interval", *RULES]
    head += [*summary.rows[0].finals, "kept"]
    rows = [_cells(row, summary) for row in summary.rows]
    shown = [place for place in range(len(head)) if _fits(head, rows, width) or head[place] not in RULES]
    head, rows = [head[k] for k in shown], [[row[k] for k in shown] for row in rows]
    widths = _widths(head, rows)
    labels = [_fold(row.label, width - sum(widths) - len(GAP) * len(widths)) for row in summary.rows]
    first = max(len(line) for label in [["method"], *labels] for line in label)

    def line(label: str, cells: list[str]) -> str:
        right = (cell.rjust(size) for cell, size in zip(cells, widths, strict=True))
        return GAP.join([label.ljust(first), *right]).rstrip()

    lines = [(line("method", head), "bold")]
    for row, label, cells in zip(summary.rows, labels, rows, strict=True):
        style = "dim" if row.control_for else ""
        lines += [(line(label[0], cells), style), *((more, style) for more in label[1:])]
    return lines


def _widths(head: list[str], rows: list[list[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(head, *rows, strict=True)]


def _fits(head: list[str], rows: list[list[str]], width: int) -> bool:
    """Say whether all columns leave labels some room."""
    return sum(_widths(head, rows)) + len(GAP) * len(head) + LABEL <= width


def _fold(label: str, width: int) -> list[str]:
    """Cut a label between its options into lines of at most `width`; a single option stays whole."""
    lines = [""]
    for part in re.split(r"(?<=[:, ])", label):
        if lines[-1].strip() and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append(" ")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _cells(row: MethodRow, summary: Summary) -> list[str]:
    difference = row.difference
    gap = "" if difference is None or difference.mean is None else signed(difference.mean, summary.decimals)
    interval = "" if difference is None else show_interval(difference, summary.decimals)
    kept = "" if row.retained_fraction is None else f"{row.retained_fraction:.1%}"
    rate = [f"{row.lr:g}"] if summary.own_rates else []
    chosen = [show(found.mean, summary.decimals) for found in (row.best_validation, row.peeked)]
    finals = [show(found.mean, decimals_for([found.mean])) for found in row.finals.values()]
    return [*rate, show_spread(row.test, summary.decimals), gap, interval, *chosen, *finals, kept]
