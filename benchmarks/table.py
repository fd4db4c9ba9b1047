"""The results as tables: one text that reads well at 100 columns and is Markdown too."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.peers import OURS
from benchmarks.rows import Row

WIDTH = 100
TITLES = {
    "update": "Time of one update (and how many times ours that is)",
    "buffers": "What became of the buffers in it",
    "traffic": "Memory traffic of an update, in percent of a limit measured beside it",
    "swap": "Swap in and restore",
    "memory": "Peak extra memory, in units of a float32 average of the parameters",
    "state": "Saving and loading the state",
    "import": "Import time",
    "step": "What is added to a training step",
    "training": "Training throughput (and how many times as fast ours is)",
    "data": "Batches per second without a model (and how many times as fast ours is)",
    "families": "Training steps of other tasks (and how many times as fast ours is), and their evaluation",
    "comparison": "A comparison of ten methods",
}
TABLES = {
    "float32": "Weights and averages in float32:",
    "mixed": "Weights in bfloat16, averages in float32:",
    "float32, add_": "Float32, against `add_` of two flat arrays, which moves the same three words:",
    "float32, copy_": "Float32, against `copy_`, counted as two words:",
    "mixed, add_": "Bfloat16 weights, against `add_`:",
    "mixed, copy_": "Bfloat16 weights, against `copy_`:",
}


def markdown(machine: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return everything that was measured, as Markdown.

    Args:
        machine: What `machine.describe` returned.
        rows: The measurements, in the order in which they are shown.
    """
    parts = [heading(machine), *summary(rows)]
    for section in dict.fromkeys(row.section for row in rows):
        parts.append(f"## {TITLES[section]}\n")
        for table in dict.fromkeys(row.table for row in rows if row.section == section):
            chosen = [row for row in rows if (row.section, row.table) == (section, table)]
            if table != section:
                parts.append(TABLES.get(table, f"{table}:") + "\n")
            parts.append(matrix(chosen))
    return "\n".join(parts)


def heading(machine: Mapping[str, Any]) -> str:
    """Return the lines that say where the numbers come from."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    text = (
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores, {threads}, {machine['system']}, "
        f"Python {machine['python']}; {versions}. Load average {machine['load_before']:.1f} before, "
        f"{machine['load_after']:.1f} after. Medians of about {machine['rounds']} rounds in which all take turns; "
        "ratios are taken within a round. Mixed: weights in bfloat16, averages in float32."
    )
    return f"# switch_ema beside other libraries, on {machine['device']}\n\n{textwrap.fill(text, WIDTH)}\n"


def summary(rows: Sequence[Row]) -> list[str]:
    """Return one line for each case that has peers: ours beside the fastest peer that is right."""
    lines = []
    for section in ("update", "swap", "training", "data", "families"):
        chosen = [row for row in rows if row.section == section]
        for table, case in dict.fromkeys((row.table, row.case) for row in chosen):
            here = (row for row in chosen if (row.table, row.case) == (table, case))
            peers = [row for row in here if is_peer(row) and row.ratio is not None]
            if peers:
                best = min(peers, key=lambda row: row.ratio or 0.0)
                low, median, high = (number(value or 0.0) for value in (best.low, best.ratio, best.high))
                lines.append(
                    [
                        f"{section}, {case}, {table.partition(',')[0]}",
                        best.contender,
                        f"{median} ({low} to {high})",
                        verdict(best),
                    ]
                )
    if not lines:
        return []
    header = ["case", "fastest peer", "its time / ours", "ours is"]
    return ["## The fastest peer that gets it right\n", grid([header, *lines])]


def verdict(peer: Row) -> str:
    """Say whether ours is faster than a peer, by the quartiles of the ratio."""
    if peer.low is not None and peer.low > 1:
        return "faster"
    return "SLOWER" if peer.high is not None and peer.high < 1 else "alike"


def is_peer(row: Row) -> bool:
    """Return whether a row is of another library."""
    return not row.contender.startswith((OURS.name, "("))


def matrix(rows: Sequence[Row]) -> str:
    """Return a table with a line for each contender and a column for each case, and what must be said beneath."""
    cases = list(dict.fromkeys(row.case for row in rows))
    found = {(row.contender, row.case): row for row in rows}
    notes: dict[str, int] = {}
    lines = [["", *cases]]
    for contender in in_order({row.contender for row in rows}):
        cells = [cell(found.get((contender, case)), notes) for case in cases]
        lines.append([contender, *cells])
    beneath = "".join(f"{number}. {note}\n" for note, number in notes.items())
    return grid(lines) + ("\n" + beneath if beneath else "")


def cell(row: Row | None, notes: dict[str, int]) -> str:
    """Return what stands in a table for a row; its note is numbered, and collected."""
    if row is None:
        return ""
    told = row.value is None and ":" not in row.note
    mark = f" [{notes.setdefault(row.note, len(notes) + 1)}]" if row.note and not told else ""
    if row.value is None:
        return row.note.split(":")[0] + mark
    value = f"{number(row.value)} {row.unit}"
    return value + (f" ({row.ratio:.2f})" if row.ratio is not None and row.contender != OURS.name else "") + mark


def number(value: float) -> str:
    """Write a number with three digits, never as a power of ten."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:.{digits}f}"


def grid(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as a Markdown table with aligned columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]]) + "\n"


def in_order(contenders: Iterable[str]) -> list[str]:
    """Ours first, then the peers by name, then what is no contender."""
    return sorted(contenders, key=lambda name: (name.startswith("("), not name.startswith(OURS.name), name.lower()))
