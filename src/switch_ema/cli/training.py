"""The commands that train: comparisons, studies, and widths chosen after training."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from switch_ema.bench.loggers.names import parse_loggers
from switch_ema.bench.settings import Settings
from switch_ema.cli.app import app
from switch_ema.cli.completion import logger_names, study_names, task_names
from switch_ema.cli.options import option, task_options, with_settings
from switch_ema.cli.shown import show, tell_findings, teller
from switch_ema.errors import InputError

_LOG = "Log measurements and settings, in the run folder, to any of: tensorboard, mlflow, wandb."


def compare(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Argument(
            help="A task, a recipe, my.yaml, or path/to/task.py:MyTask; `sema list` names the first two.",
            autocompletion=task_names,
        ),
    ],
    out: Annotated[Path | None, option("Run folder; default: one per comparison below runs/.")] = None,
    as_json: Annotated[bool, option("Print the result as JSON.", "Comparison", "--json")] = False,
    cluster: Annotated[
        str | None,
        option("Train on a Ray cluster: ray (RAY_ADDRESS, or this machine) or ray://HOST:PORT.", "Machine"),
    ] = None,
    log: Annotated[str | None, option(_LOG, complete=logger_names)] = None,
    **settings: Any,
) -> None:
    """Train a task with several averaging methods on the same seeds, and say which one helps.

    The same command again continues a broken-off comparison, or finds nothing to do.

    **Examples**

    `sema compare classification`

    `sema compare classification --data digits --label-noise 0.4 --methods baseline,ema:decay=0.99,sema --control`

    `sema compare classification --data cifar10 --model resnet18 --lr 0.02,0.05,0.1 --out runs/cifar`

    `sema compare cifar100-resnet18 --seeds 1`

    **Methods** are `baseline`, `ema`, `sema`, `swa`, `lawa`, `lookahead`, `power_ema`, and `sam`, alone or with one of
    them (`sam+ema`), each with options: `sema:decay=0.99,switch_every=2 epochs`, `baseline:lr_scale=0.2`;
    `sema list methods` names them.

    **Options of the task**, such as `--label-noise 0.4`, are given like all others; `sema list tasks` names them.
    """
    from switch_ema.bench.compare import prepare
    from switch_ema.bench.connection import check_cluster
    from switch_ema.bench.request import request

    if task.startswith("-"):
        raise InputError(f"name the task before {task}: sema compare TASK {task} ...")
    asked = request(task, settings, task_options(context.args))
    folder = out or asked.default_out()
    finished = prepare(asked, folder)
    loggers = parse_loggers(log)
    if cluster is not None:
        check_cluster(cluster, asked)
    messages = Console(stderr=True)
    if finished:
        _log_all(loggers, folder, [folder], messages)
        if not (folder / "report.html").exists():
            from switch_ema.bench.report import write_report

            write_report(folder)
        teller(messages)(f"nothing to do: {folder} holds this comparison, finished")
        show(folder, as_json)
        return
    _train(asked, folder, messages, as_json, cluster, loggers)


app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(with_settings(compare))


def _train(
    settings: Settings, folder: Path, messages: Console, as_json: bool, cluster: str | None, loggers: Sequence[str]
) -> None:
    from switch_ema.bench.compare import compare as run
    from switch_ema.bench.loggers.logs import LoggedProgress, Logs
    from switch_ema.bench.machine import quiet
    from switch_ema.bench.progress import LiveProgress

    quiet()
    tell = teller(messages)
    first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
    if first:
        tell(f"results go to {folder}")
    else:
        messages.quiet = True
    with Logs(loggers, folder, tell) as logs, LiveProgress(messages) as progress:
        told = LoggedProgress(progress, logs, folder)
        outcome = run(settings, folder, shlex.join(["sema", *sys.argv[1:]]), told, cluster)
    if outcome.writes:
        show(folder, as_json)


def study(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A study; `sema list studies` names them.", autocompletion=study_names)],
    recipe: Annotated[str, option("Task, recipe or my.yaml to ask it on; default: embedded data, a few minutes.")] = "",
    out: Annotated[Path | None, option("Folder of the study; default: runs/study-NAME, or one per request.")] = None,
    jobs: Annotated[
        int | None, option("Comparisons side by side; default: one for each core for a task's embedded data, else 1.")
    ] = None,
    log: Annotated[
        str | None, option(f"{_LOG} Each comparison is logged when all are trained.", complete=logger_names)
    ] = None,
    **settings: Any,
) -> None:
    """Ask one question of the papers: train, measure, draw, and say in words what came out.

    The same command again continues a broken-off study, or finds nothing to do.

    **Examples**

    `sema study convergence`

    `sema study noisy-labels --seeds 5 --out runs/noisy`

    `sema study switch-interval --recipe b-cifar100-resnet18`
    """
    from switch_ema.bench.machine import default_jobs, quiet
    from switch_ema.bench.studies.run import plan_study, run_study

    if name.startswith("-"):
        raise InputError(f"name the study before {name}: sema study NAME {name} ...")
    base, arms = plan_study(name, recipe, settings, task_options(context.args))
    at_once = default_jobs(base, jobs)
    loggers = parse_loggers(log)
    from switch_ema.bench.progress import LiveProgress

    quiet()
    messages = Console(stderr=True)
    as_it_comes = not (recipe or context.args or any(value is not None for value in settings.values()))
    folder = out or Path("runs") / f"study-{name}{'' if as_it_comes else base.default_out().name[-9:]}"
    tell = teller(messages)
    tell(f"results go to {folder}")
    command = shlex.join(["sema", *sys.argv[1:]])
    found = run_study(name, base, arms, folder, command, tell, lambda: LiveProgress(messages), at_once)
    _log_all(loggers, folder, [folder / "arms" / arm.name for arm in arms], messages)
    tell_findings(*found)


app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    with_settings(study, default="the study's own")
)


def _log_all(loggers: Sequence[str], home: Path, folders: Iterable[Path], messages: Console) -> None:
    """Log what trackers lack of comparisons that have been trained."""
    if not loggers:
        return
    from switch_ema.bench.loggers.logs import Logs
    from switch_ema.bench.machine import quiet

    quiet()
    with Logs(loggers, home, teller(messages)) as logs:
        for folder in folders:
            logs.catch_up(folder)


@app.command()
def sweep(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder of a comparison with the method posthoc.")],
    sigma_rel: Annotated[
        str, option("Widths of the average, as parts of training, up to 0.28.", "Widths")
    ] = "0.03,0.05,0.075,0.1,0.15,0.2,0.25",
) -> None:
    """Choose the width of the average after training: measure averages of several widths, made from kept snapshots.

    **Example**: `sema compare generation --methods baseline,posthoc,power_ema --out runs/x`, then `sema sweep runs/x`
    """
    from switch_ema.bench.kinds import sigma_rel as read_width
    from switch_ema.bench.machine import quiet
    from switch_ema.bench.sweep import sweep as run
    from switch_ema.bench.widths import width_lines

    try:
        widths = [read_width(text) for text in sigma_rel.split(",")]
    except ValueError as error:
        raise InputError(f"--sigma-rel {sigma_rel}: {error}") from None
    quiet()
    run(folder, widths, teller(Console(stderr=True)))
    from switch_ema.bench.report import write_report

    report = write_report(folder)
    typer.echo("\n".join([*width_lines(folder), f"report: {report}"]))
