"""The command that searches for decay and switch interval."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from switch_ema.cli.app import app
from switch_ema.cli.completion import task_names
from switch_ema.cli.options import option, task_options, with_settings
from switch_ema.cli.shown import teller
from switch_ema.errors import FieldError, InputError
from switch_ema.libraries import require

_SEARCH = "Search"
_OWN = ("methods", "control")  # settings that the search makes itself


def tune(
    context: typer.Context,
    task: Annotated[
        str, typer.Argument(help="A task, a recipe, my.yaml, or path/to/task.py:MyTask.", autocompletion=task_names)
    ],
    trials: Annotated[int, option("Points of decay and interval to try.", _SEARCH)] = 20,
    trial_seeds: Annotated[int, option("Seeds on which each is tried.", _SEARCH)] = 1,
    decay: Annotated[
        str | None, option("Range: 0.9,0.999; default: windows of 2 steps to half of training.", _SEARCH)
    ] = None,
    switch_every: Annotated[
        str | None, option("Range in steps: 10,500; default: 1 to a quarter of training.", _SEARCH)
    ] = None,
    out: Annotated[Path | None, option("Folder of the search; default: one per search below runs/.", _SEARCH)] = None,
    as_json: Annotated[bool, option("Print the result as JSON.", _SEARCH, "--json")] = False,
    **settings: Any,
) -> None:
    """Search for the decay and switch interval of Switch EMA that suit a task, and say what the best is worth.

    Trials are judged on validation. The best is then trained again, beside plain training, its average alone and the
    learning-rate control, on as many fresh seeds as `--seeds` says. The same command again continues a broken-off
    search.

    **Examples**

    `sema tune classification --label-noise 0.4`

    `sema tune classification --trials 40 --decay 0.9,0.999 --switch-every 5,200 --seeds 5`
    """
    from switch_ema.bench.request import request
    from switch_ema.bench.tune import Search, check_search

    if task.startswith("-"):
        raise InputError(f"name the task before {task}: sema tune TASK {task} ...")
    for field in _OWN:
        if settings.get(field) is not None:
            raise FieldError(field, "is set by the search itself; leave it out")
    search = Search(request(task, settings, task_options(context.args)), trials, trial_seeds, decay, switch_every)
    folder = out or Path("runs") / f"tune-{search.base.default_out().name}"
    require("sema tune", "optuna>=4.0", extra="tune")
    finished = check_search(search, folder)
    from switch_ema.bench.machine import quiet
    from switch_ema.bench.progress import LiveProgress
    from switch_ema.bench.tune import tune as run

    quiet()
    messages = Console(stderr=True)
    tell = teller(messages)
    if finished:
        tell(f"nothing to do: {folder} holds this search, finished")
    else:
        tell(f"results go to {folder}")
        run(search, folder, shlex.join(["sema", *sys.argv[1:]]), tell, lambda: LiveProgress(messages))
    _show(folder, as_json)


def _show(folder: Path, as_json: bool) -> None:
    from switch_ema.bench.tune_page import HEAD, trial_rows, write_outcome

    found, page = write_outcome(folder)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "report": str(page)}))
        return
    rows = [HEAD, *trial_rows(found)]
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    typer.echo("\n".join([*lines, "", *found.sentences, *found.final.notes, f"report: {page}"]))


app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    with_settings(tune, hidden=_OWN)
)
