"""The results: one row a measurement, kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Spread, ratio, spread


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        section: What was measured: `"update"`, `"swap"`, ...
        table: Heading of the table it belongs to, in its section.
        case: Heading of its column.
        contender: Its line.
        unit: `"ms"`, `"%"` or `"x"`; empty if the value is in words.
        value: Median; `None` if there is none.
        low: Lower quartile of the ratio, or of the value where there is no ratio.
        high: Upper quartile.
        ratio: Median of the ratios to ours, round by round.
        note: What must be known beside it, such as why there is no value.
    """

    section: str
    table: str
    case: str
    contender: str
    unit: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    note: str = ""


def timed_rows(
    section: str, table: str, case: str, times: Mapping[str, Sequence[float]], ours: str, notes: Mapping[str, str]
) -> list[Row]:
    """Return the rows of contenders that took turns: medians in milliseconds, and ratios to ours."""
    rows = []
    for name, taken in times.items():
        to_ours = ratio(taken, times[ours])
        rows.append(
            Row(
                *(section, table, case, name, "ms", 1e3 * spread(taken).median),
                *(to_ours.low, to_ours.high, to_ours.median, notes.get(name, "")),
            )
        )
    return rows


def throughput_rows(
    section: str, table: str, case: str, times: Mapping[str, Sequence[float]], ours: str, done: int, unit: str
) -> Iterator[Row]:
    """Yield throughputs, with the spread of the ratio of each contender's time to ours; `done` is done in a round."""
    for name, taken in times.items():
        to_ours = ratio(taken, times[ours])
        median = spread([done / time for time in taken]).median
        yield Row(section, table, case, name, unit, median, to_ours.low, to_ours.high, to_ours.median)


def plain_row(section: str, table: str, case: str, contender: str, unit: str, value: Spread, note: str = "") -> Row:
    """Return a row without a ratio."""
    return Row(section, table, case, contender, unit, value.median, value.low, value.high, None, note)


def write_results(path: Path, machine: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write what was measured, and where."""
    content = {"machine": dict(machine), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_results(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """Read what `write_results` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["machine"], [Row(**row) for row in content["rows"]]
