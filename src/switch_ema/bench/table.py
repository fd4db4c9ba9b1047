"""The headline table and its sentences on a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from switch_ema.bench.summary import MethodRow, Summary
from switch_ema.bench.wording import show_interval, show_spread, signed


def print_summary(summary: Summary, console: Console, report: Path) -> None:
    """Print what came out: the table, what it means, and where the report lies.

    Args:
        summary: The outcome.
        console: Where to print.
        report: The report page.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", overflow="fold")
    rate = ["own best lr"] if summary.own_rates else []
    for head in (*rate, f"test {summary.metric}", "− baseline", "95 % interval", "kept"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in summary.rows:
        table.add_row(escape(row.label), *_cells(row, summary), style="dim" if row.control_for else None)
    console.print(table)
    legend = "kept: share of the progress that a switch keeps"
    if any(row.control_for for row in summary.rows):
        legend += "; rows with lr_scale are learning-rate controls: they train at the rate that switches leave"
    console.print(legend, highlight=False, soft_wrap=True, style="dim")
    console.print()
    for text in (*summary.sentences, *summary.notes):
        console.print(escape(text), highlight=False, soft_wrap=True)
    console.print(f"report: {escape(str(report))}", highlight=False, soft_wrap=True)


def _cells(row: MethodRow, summary: Summary) -> list[str]:
    difference = row.difference
    gap = "" if difference is None or difference.mean is None else signed(difference.mean, summary.decimals)
    interval = "" if difference is None else show_interval(difference, summary.decimals)
    kept = "" if row.retained_fraction is None else f"{row.retained_fraction:.1%}"
    rate = [f"{row.lr:g}"] if summary.own_rates else []
    return [*rate, show_spread(row.test, summary.decimals), gap, interval, kept]
