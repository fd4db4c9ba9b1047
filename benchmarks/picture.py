"""The results as a picture: bars in a scalable vector graphic, written by hand, drawn alike by every browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from benchmarks.peers import OURS
from benchmarks.rows import Row
from benchmarks.table import in_order, is_peer, number, verdict

WIDTH, MARGIN, GAP = 1080, 24, 36
PANEL = (WIDTH - 2 * MARGIN - GAP) // 2
NAMES, VALUES = 168, 62  # what names before the bars and numbers after them take
LINE, HEAD = 19, 34  # heights: of a bar's line, of a panel's heading
INK, FAINT, RULE, PAPER = "#1f2937", "#6b7280", "#d1d5db", "#ffffff"
COLOURS = {"ours": "#2563eb", "slower": "#9db2cf", "faster": "#d97706", "bare": "#d8dce2"}
SECTIONS = {
    "update": "Time of one update, ours = 1",
    "swap": "Averaged weights swapped in and restored, ours = 1",
    "memory": "Peak extra memory, in units of a float32 average",
}
MIXED = "bfloat16 weights, float32 averages"


@dataclass(frozen=True)
class Bar:
    """One line of a panel: a bar with its quartiles, or words where there is no number."""

    name: str
    kind: str
    value: float | None
    low: float = 0.0
    high: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class Panel:
    """Bars that share a scale."""

    title: str
    remark: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        """Height of the panel in pixels."""
        return HEAD + LINE * len(self.bars) + 22


def picture(machine: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Draw updates, swaps and memory, two panels beside each other, as SVG.

    Args:
        machine: What `machine.describe` returned.
        rows: The measurements.
    """
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    parts = [
        _text(MARGIN, 36, "switch_ema beside other libraries", 20, INK, bold=True),
        _text(MARGIN, 57, f"{machine['date']}, {machine['device']}: {machine['processor']}, {threads}", 12, FAINT),
        _text(MARGIN, 74, versions, 12, FAINT),
        *_legend(98),
    ]
    top = 122
    for section, heading in SECTIONS.items():
        panels = panels_of([row for row in rows if row.section == section])
        if not panels:
            continue
        parts.append(_text(MARGIN, top + 16, heading, 15, INK, bold=True))
        top += 28
        for i in range(0, len(panels), 2):
            pair = panels[i : i + 2]
            for column, panel in enumerate(pair):
                parts += _draw(panel, MARGIN + column * (PANEL + GAP), top)
            top += max(panel.height for panel in pair)
        top += 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
        f'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">\n<rect width="100%" height="100%" fill="{PAPER}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def panels_of(rows: Sequence[Row]) -> list[Panel]:
    """Return a panel for each model and type, the types of a model beside each other."""
    panels = []
    if rows and rows[0].section == "memory":
        rows = [row for row in rows if row.case == "peak"]
    keys = dict.fromkeys((row.table, row.case) for row in rows)
    for table, case in sorted(keys, key=lambda key: list(dict.fromkeys(case for _, case in keys)).index(key[1])):
        chosen = {row.contender: row for row in rows if (row.table, row.case) == (table, case)}
        own = chosen[OURS.name]
        bars = [_bar(chosen[name], own) for name in in_order(chosen)]
        remark = f"ours: {number(own.value)} {own.unit}" if own.value is not None and own.unit == "ms" else ""
        title = f"{table if own.section == 'memory' else f'{case}, {table}'}".replace("mixed", MIXED)
        panels.append(Panel(title, remark, bars))
    return panels


def _bar(row: Row, own: Row) -> Bar:
    if row.value is None:
        return Bar(row.contender, "", None, text=row.note.split(":")[0])
    value = row.value if row.ratio is None else row.ratio
    low, high = (value, value) if row.low is None or row.high is None else (row.low, row.high)
    below = value < 0.99 * (own.value or 0.0) if row.ratio is None else verdict(row) == "SLOWER"
    kind = "bare" if row.contender.startswith("(") else "faster" if below and is_peer(row) else "slower"
    kind = "ours" if row.contender.startswith(OURS.name) else kind
    return Bar(row.contender, kind, value, low, high, f"{number(value)}×")


def _draw(panel: Panel, left: float, top: float) -> list[str]:
    parts = [_text(left, top + 18, panel.title, 13, INK, bold=True)]
    parts.append(_text(left + PANEL, top + 18, panel.remark, 12, FAINT, anchor="end"))
    begin, room = left + NAMES, PANEL - NAMES - VALUES
    widest = max([bar.high for bar in panel.bars if bar.value is not None], default=1.0)
    scale = room / max(widest, 1.0)
    bottom = top + HEAD + LINE * len(panel.bars)
    for i, bar in enumerate(panel.bars):
        middle = top + HEAD + LINE * i + LINE / 2
        own = bar.name == OURS.name
        parts.append(_text(begin - 8, middle + 4, bar.name, 12, INK, anchor="end", bold=own))
        if bar.value is None:
            parts.append(_text(left + PANEL, middle + 4, bar.text, 12, FAINT, anchor="end", italic=True))
            continue
        parts.append(
            f'<rect x="{begin:.1f}" y="{middle - 6:.1f}" width="{bar.value * scale:.1f}" height="12" rx="1.5" '
            f'fill="{COLOURS[bar.kind]}"/>'
        )
        if bar.high > bar.low:
            ends = f'x1="{begin + bar.low * scale:.1f}" x2="{begin + bar.high * scale:.1f}"'
            parts.append(f'<line {ends} y1="{middle:.1f}" y2="{middle:.1f}" stroke="{INK}" stroke-width="1.2"/>')
        parts.append(_text(left + PANEL, middle + 4, bar.text, 12, INK, anchor="end", bold=own))
    one = begin + scale
    parts.append(
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{top + HEAD - 3}" y2="{bottom + 1}" stroke="{INK}" '
        f'stroke-width="1" stroke-dasharray="2 3"/>'
    )
    parts.append(f'<line x1="{begin}" x2="{begin}" y1="{top + HEAD - 3}" y2="{bottom + 1}" stroke="{RULE}"/>')
    return parts


def _legend(y: float) -> list[str]:
    words = {
        "ours": "ours",
        "slower": "a peer",
        "faster": "a peer below ours",
        "bare": "one kernel on prepared lists, no library",
    }
    parts, left = [], float(MARGIN)
    for kind, text in words.items():
        parts.append(f'<rect x="{left:.0f}" y="{y - 10:.0f}" width="18" height="11" rx="1.5" fill="{COLOURS[kind]}"/>')
        parts.append(_text(left + 24, y, text, 12, INK))
        left += 24 + 7.2 * len(text) + 24
    parts.append(f'<line x1="{left:.0f}" x2="{left + 18:.0f}" y1="{y - 4}" y2="{y - 4}" stroke="{INK}"/>')
    parts.append(_text(left + 24, y, "middle half of the rounds", 12, INK))
    return parts


def _text(
    x: float,
    y: float,
    text: str,
    size: int,
    fill: str,
    *,
    anchor: str = "start",
    bold: bool = False,
    italic: bool = False,
) -> str:
    style = (' font-weight="600"' if bold else "") + (' font-style="italic"' if italic else "")
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{style}>'
        f"{escape(text)}</text>"
    )
