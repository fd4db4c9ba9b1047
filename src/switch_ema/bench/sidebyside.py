"""What `sema analyze` prints: tables with a column for each file, and what the numbers mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from switch_ema.bench.drawn import NAMES
from switch_ema.bench.wording import count, decimals_for, show

_GAP = "  "
_APART = {
    "distance": "distance of the weights",
    "relative_distance": "distance / norm of the first",
    "barrier": "loss barrier on the line between",
    "churn": "churn (another class is named)",
    "js_divergence": "Jensen-Shannon divergence (nats)",
}

Row = tuple[str, Sequence[float]]


def as_lines(found: Mapping[str, Any]) -> list[str]:
    """Return what `switch_ema.bench.analyze.analyze` found as lines of text."""
    models: Mapping[str, Mapping[str, Any]] = found["models"]
    split, first = NAMES[found["split"]], next(iter(models.values()))
    rows: list[Row] = [
        ("loss around which is measured", [model["loss"] for model in models.values()]),
        *((f"{split} {name}", [model["metrics"][name] for model in models.values()]) for name in first["metrics"]),
        ("norm of the weights", [model["weight_norm"] for model in models.values()]),
        *_measured([model["measures"] for model in models.values()]),
    ]
    lines = [
        f"{found['task']} on {found['data']}, model {found['model']}: {count(len(models), 'file')}",
        f"loss around the weights: {found['batches']}, BatchNorm in {found['batchnorm']} mode",
        f"metrics and predictions: the {split} split",
        "",
        *_table(["", *models], rows),
        "",
        *(
            _sentence(name, {file: model["measures"][name] for file, model in models.items()})
            for name in first["measures"]
        ),
    ]
    if found["pairs"]:
        heads = ["between two files", *(" / ".join(pair["models"]) for pair in found["pairs"])]
        apart: list[Row] = [
            (text, [pair[key] for pair in found["pairs"]]) for key, text in _APART.items() if key in found["pairs"][0]
        ]
        lines += ["", *_table(heads, apart), "", *map(_between, found["pairs"])]
    return lines


def _measured(by_file: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the rows of all measures; a number that only some files have is nan for the others."""
    rows: list[Row] = []
    for measure in by_file[0]:
        values = [measures[measure]["values"] for measures in by_file]
        names = dict.fromkeys(name for each in values for name in each)
        rows += [(name, [each.get(name, math.nan) for each in values]) for name in names]
    return rows


def _table(heads: Sequence[str], rows: Sequence[Row]) -> list[str]:
    cells = [[name, *(show(value, decimals_for(_finite(values))) for value in values)] for name, values in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    return [
        _GAP.join([row[0].ljust(widths[0]), *(cell.rjust(n) for cell, n in zip(row[1:], widths[1:], strict=True))])
        for row in [heads, *cells]
    ]


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _sentence(measure: str, by_file: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what a measure of one file means, or which of several files is lowest and which is highest."""
    if len(by_file) == 1:
        return f"{measure}: {next(iter(by_file.values()))['sentence']}"
    headline = next(iter(next(iter(by_file.values()))["values"]))
    values = {file: each["values"][headline] for file, each in by_file.items()}
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    decimals = decimals_for(_finite([*values.values()]))
    return (
        f"{measure}: the {headline} is lowest for {low}, {show(values[low], decimals)}, and highest for {high}, "
        f"{show(values[high], decimals)}."
    )


def _between(pair: Mapping[str, Any]) -> str:
    """Say how far two files are apart."""
    one, other = pair["models"]
    words = f"{one} and {other}: on the straight line between them "
    if pair["barrier"] > 0:
        words += f"the loss rises {show(pair['barrier'], decimals_for([pair['barrier']]))} above that of its ends"
    else:
        words += "the loss nowhere rises above that of its ends"
    return (
        f"{words}; they name different classes for {pair['churn']:.1%} of the examples."
        if "churn" in pair
        else f"{words}."
    )
