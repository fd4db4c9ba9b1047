"""Results of a run as a page: settings, device, versions, date, and the tables."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu.experiments import EXPERIMENTS, folder
from benchmarks.table import grid
from switch_ema.bench.results import read_run
from switch_ema.bench.summary import MethodRow, Summary, summarize
from switch_ema.bench.wording import NONE, show, show_interval, show_spread, signed
from switch_ema.errors import InputError

FILES = ("report.html", "run.json", "rows.jsonl")
SHOWN = (
    *("data", "model", "epochs", "batch_size", "lr", "optimizer", "momentum", "nesterov", "weight_decay", "schedule"),
    *("warmup_epochs", "precision", "eval_every", "seeds"),
)
LEGEND = (
    "the difference to the baseline is at the last epoch and paired, with its 95 % interval. *Best on validation*: at "
    "each seed's best epoch on validation. *Peeking*: (best + 99th percentile) / 2 over the test epochs, which "
    "flatters. *Kept*: the share of the progress that a switch keeps."
)


def collect(root: Path, to: Path) -> Iterator[Path]:
    """Copy the files of every experiment that has run, and write a page about each.

    Args:
        root: Where the run folders are.
        to: Where the results are kept.

    Returns:
        What was written.

    Raises:
        InputError: None has run yet, or a file is damaged.
    """
    names = [name for name in EXPERIMENTS if (folder(root, name) / "run.json").exists()]
    if not names:
        raise InputError(f"{root}: no experiment has run yet; run one first, or name another folder by --runs")
    for name in names:
        run, rows = read_run(folder(root, name))
        text = page(name, run, summarize(run, rows))
        files = to / name
        files.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            shutil.copyfile(folder(root, name) / file, files / file)
            yield files / file
        path = to / f"{name}.md"
        path.write_text(text, encoding="utf-8")
        yield path


def page(name: str, run: Mapping[str, Any], summary: Summary) -> str:
    """Return the page about a run as Markdown."""
    asked, machine = run["asked"], run["environment"]
    chosen = ", ".join(f"{field} {_value(asked[field])}" for field in SHOWN if field in asked)
    versions = ", ".join(f"{library} {machine[library]}" for library in ("switch_ema", "torch", "lightning", "python"))
    where = f"[report]({name}/report.html), [rows]({name}/rows.jsonl), [run.json]({name}/run.json)"
    dates = f"begun {run['started']}, collected {datetime.now(UTC).date().isoformat()}"
    return "\n".join(
        [
            f"# {name}\n",
            f"{machine['device']}, {dates}; {versions}, commit {machine['commit'] or 'not recorded'}.\n",
            f"Settings: {chosen}. {run['steps_per_epoch']} steps an epoch. Convolutions and matrix products in TF32 "
            "where the GPU has it.\n",
            f"Command: `{run['command']}`\n",
            f"Files: {where}.\n",
            f"Test {summary.metric}, mean ± standard deviation over seeds; {LEGEND}\n",
            table(summary),
            *(f"{text}\n" for text in summary.sentences),
            *(f"- {note}" for note in summary.notes),
            "",
        ]
    )


def table(summary: Summary) -> str:
    """Return the headline table."""
    rates = ["lr"] if summary.own_rates else []
    head = ["method", *rates, "last epoch", "− baseline", "95 % interval", "best on validation", "peeking", "kept"]
    return grid([head, *(_line(row, summary) for row in summary.rows)])


def _line(row: MethodRow, summary: Summary) -> list[str]:
    found = row.difference
    gap = NONE if found is None or found.mean is None else signed(found.mean, summary.decimals)
    return [
        row.label,
        *([f"{row.lr:g}"] if summary.own_rates else []),
        show_spread(row.test, summary.decimals),
        gap,
        NONE if found is None else show_interval(found, summary.decimals),
        show(row.best_validation.mean, summary.decimals),
        show(row.peeked.mean, summary.decimals),
        NONE if row.retained_fraction is None else f"{row.retained_fraction:.1%}",
    ]


def _value(value: Any) -> str:
    return " and ".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)
