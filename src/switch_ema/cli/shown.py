"""What commands print of a comparison and of a study."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

if TYPE_CHECKING:
    from switch_ema.bench.studies.study import Findings

_LOG_WIDTH = 120


def teller(messages: Console) -> Callable[[str], None]:
    """Return what prints a line as it is, neither coloured nor wrapped."""
    return partial(messages.print, highlight=False, markup=False, soft_wrap=True)


def show(folder: Path, as_json: bool) -> None:
    """Print the table of a comparison, or all of it as JSON."""
    from dataclasses import asdict

    from switch_ema.bench.results import read_run
    from switch_ema.bench.summary import summarize
    from switch_ema.bench.table import print_summary

    summary = summarize(*read_run(folder))
    if as_json:
        typer.echo(json.dumps({**asdict(summary), "out": str(folder), "report": str(folder / "report.html")}))
    else:
        console = Console()
        print_summary(summary, console if console.is_terminal else Console(width=_LOG_WIDTH), folder / "report.html")


def tell_findings(findings: Findings, page: Path) -> None:
    """Print the answer of a study and where its page is."""
    typer.echo("\n".join([*findings.sentences, *findings.notes, f"report: {page}"]))
