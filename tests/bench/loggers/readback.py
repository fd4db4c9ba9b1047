"""What trackers hold, read back through their own readers: values by run, metric and epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from switch_ema.bench.methods import slug

Held = dict[str, dict[str, list[tuple[int, float]]]]


def expected(rows: Iterable[Mapping[str, Any]]) -> Held:
    """Return what trackers should hold of rows, by ``slug of the method/lr-seed``, to four decimals."""
    held: Held = {}
    for row in rows:
        if row["value"] is not None:
            run = held.setdefault(f"{slug(row['method'])}/lr{row['lr']:g}-seed{row['seed']}", {})
            name = f"{row['split']}/{row['metric']}"
            run.setdefault(name, []).append((row["epoch"], round(float(row["value"]), 4)))
    return held


def read_tensorboard(home: Path) -> Held:
    """Return what event files hold, each read by itself: of a run that went on within a second there are two."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    held: Held = {}
    for path in sorted(home.rglob("events.out.*")):
        events = EventAccumulator(str(path), size_guidance={SCALARS: 0})
        events.Reload()
        run = held.setdefault("/".join(path.parent.parts[-2:]), {})
        for tag in events.Tags()["scalars"]:
            run[tag] = sorted([*run.get(tag, []), *((e.step, round(e.value, 4)) for e in events.Scalars(tag))])
    return held
