"""What came out of a study as text: the same sentences and tables as its page, to be read and kept anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from switch_ema.bench.studies.study import Findings, Panel, Reading, Study
from switch_ema.recipes.reader import EVIDENCE

_MOST_ROWS, _MOST_COLUMNS = 24, 12  # of a figure's table; a landscape's would fill pages


def as_markdown(record: Mapping[str, Any], study: Study, arms: Sequence[Reading], findings: Findings) -> str:
    """Return the findings as Markdown.

    Args:
        record: Content of ``study.json``.
        study: The study.
        arms: What was measured.
        findings: What came out.
    """
    parts = [f"# {record['study']}", study.question, *map(_plain, findings.sentences)]
    parts += ["\n".join(f"- {_plain(note)}" for note in findings.notes)] if findings.notes else []
    for panel in findings.panels:
        new = [_plain(panel.sentence)] if panel.sentence not in findings.sentences else []
        parts += [f"## {_plain(panel.title)}", *new]
        parts += [text for text in (_plain(panel.text), *_tables(panel)) if text]
    claims = [f"- {claim.source}: {claim.text} ({EVIDENCE[claim.evidence]})" for claim in study.claims]
    parts += ["## What the papers say", "\n".join(claims)] if claims else []
    return "\n\n".join([*parts, "## How it was run", _record(record, arms)]) + "\n"


def _tables(panel: Panel) -> list[str]:
    tables = [_table("", *panel.table)] if panel.table else []
    for plot in panel.plots:
        if len(plot.rows) <= _MOST_ROWS and len(plot.head) <= _MOST_COLUMNS:
            tables.append(_table(f"{_plain(plot.title)}:\n\n", plot.head, plot.rows))
    return tables


def _table(title: str, head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return title + "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _plain(text: object) -> str:
    """Return text in which Markdown finds no HTML: names of data and models are the user's own."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;")


def _cell(text: object) -> str:
    return " ".join(_plain(text).replace("|", "\\|").splitlines())


def _record(record: Mapping[str, Any], arms: Sequence[Reading]) -> str:
    lines = [f"- `{record['command']}`", f"- started {record['started']}"]
    for arm in arms:
        if arm.run:
            environment = ", ".join(f"{name} {value}" for name, value in arm.run["environment"].items() if value)
            return "\n".join([*lines, f"- {environment}"])
    return "\n".join(lines)
