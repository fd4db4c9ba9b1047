"""The commands that train nothing: pages of what was measured, lists, recipes, advice."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from switch_ema.cli.app import app
from switch_ema.cli.completion import recipes
from switch_ema.cli.options import option
from switch_ema.cli.shown import show, tell_findings
from switch_ema.errors import InputError


class Listed(StrEnum):
    """What `sema list` can list."""

    tasks = "tasks"
    methods = "methods"
    data = "data"
    models = "models"
    recipes = "recipes"
    studies = "studies"


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders that `sema compare` or `sema study` wrote."),
    ],
    out: Annotated[
        Path | None,
        option("Page that joins several comparisons; default: joined.html in the folder above them.", "Report"),
    ] = None,
    watch: Annotated[
        bool, option("Keep the pages up to date while runs go on; an open one loads itself anew.", "Report", "--watch")
    ] = False,
) -> None:
    """Write report.html anew from the measurements in each folder; several comparisons are also joined into one page.

    **Examples**

    `sema report runs/x`

    `sema report runs/digits runs/points runs/language --out across-tasks.html`

    `sema report --watch runs/x`
    """
    if watch:
        _watch(folders, out)
        return
    from switch_ema.bench.results import read_run
    from switch_ema.bench.studies.entries import FILE

    studies = [folder for folder in folders if (folder / FILE).is_file()]
    runs = [folder for folder in folders if folder not in studies]
    for folder in runs:
        read_run(folder)
    if out and len(runs) < 2:
        raise InputError(f"--out {out} names the page that joins comparisons; name two or more of their folders")
    from switch_ema.bench.joined import join_runs
    from switch_ema.bench.studies.record import read_arms

    for folder in studies:
        read_arms(folder)
    joined = join_runs(runs) if len(runs) > 1 else None
    from switch_ema.bench.report import write_report
    from switch_ema.bench.studies.report import write_study

    for folder in studies:
        tell_findings(*write_study(folder))
    for folder in runs:
        write_report(folder)
        if joined is None:
            show(folder, as_json=False)
    if joined:
        from switch_ema.bench.joined_page import default_path, write_joined

        path = out or default_path(runs)
        write_joined(joined, path)
        typer.echo("\n".join([*joined.lines(), "", *joined.sentences(), *joined.notes(), f"report: {path}"]))


def _watch(folders: list[Path], out: Path | None) -> None:
    if out:
        raise InputError(f"--out {out} names the page that joins comparisons; leave it out with --watch")
    from switch_ema.bench.watch import watch, watched

    watch([each for folder in folders for each in watched(folder)], lambda text: typer.echo(text, err=True))


@app.command("list")
def list_(
    what: Annotated[Listed | None, typer.Argument(help="What to list; default: everything.")] = None,
) -> None:
    """List tasks with their options, methods, data sets, models and recipes, with what they are.

    **Example**: `sema list methods`
    """
    from switch_ema.bench.listing import listing

    console = Console()
    for section, entries in listing().items():
        if what in (None, section):
            console.print(f"[bold]{section}[/bold]")
            width = max(len(name) for name, _ in entries)
            for name, text in entries:
                console.print(f"  {escape(name):{width}}  {escape(text)}", highlight=False, soft_wrap=True)


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help="A recipe; `sema list recipes` names them.", autocompletion=recipes)],
) -> None:
    """Print a recipe as YAML, to be edited and given to `sema compare`.

    **Example**: `sema recipe cifar100-resnet18 > my.yaml`, then `sema compare my.yaml`
    """
    from switch_ema.recipes.reader import recipe_text

    typer.echo(recipe_text(name)[1], nl=False)


@app.command()
def advise(
    steps_per_epoch: Annotated[int, typer.Option(help="Optimizer steps in an epoch.")],
    epochs: Annotated[float, typer.Option(help="Length of training in epochs.")],
    schedule: Annotated[str, typer.Option(help="cosine, step, onecycle, wsd or constant.")] = "cosine",
    switch_every: Annotated[
        str, typer.Option(help="A switch interval that stands already: 500 steps, 1 epoch.")
    ] = "auto",
) -> None:
    """Say which decay and switch interval `decay="auto"` takes for a training of known length, and why.

    **Example**: `sema advise --steps-per-epoch 500 --epochs 200`
    """
    from switch_ema.averaging.advice import advise_ema, advise_switch

    try:
        passive = advise_ema(steps_per_epoch, epochs, schedule)
        switching = advise_switch(steps_per_epoch, epochs, schedule, switch_every=switch_every)
    except ValueError as error:
        raise InputError(str(error)) from None
    typer.echo(f"EMA(model, decay={passive.decay:.6g})")
    typer.echo(f"  {passive.reason}")
    typer.echo(f"SwitchEMA(model, decay={switching.decay:.6g}, switch_every={switching.switch_every})")
    typer.echo(f"  {switching.reason}")
