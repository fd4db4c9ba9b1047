"""The command line, `sema`: reads options, calls the bench, and turns wrong input into one line and exit code 2."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.markup import escape
from typer.exceptions import TyperException

from switch_ema.bench.settings import Settings
from switch_ema.errors import FieldError, InputError

app = typer.Typer(
    help="Weight averaging for PyTorch: does it help on your task? Paired seeds, learning-rate controls, a report.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
_INTERRUPTED = 130
_LOG_WIDTH = 120
_WEIGHTS, _FILES = "Weights of the files", "Files"
_MODEL, _HOW = "Model and data", "Measures"


class Listed(StrEnum):
    """What `sema list` can list."""

    tasks = "tasks"
    methods = "methods"
    data = "data"
    models = "models"
    recipes = "recipes"
    studies = "studies"


def _option(help_text: str, panel: str = "Comparison", *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


def compare(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Argument(help="A task, a recipe, my.yaml, or path/to/task.py:MyTask; `sema list` names the first two."),
    ],
    out: Annotated[Path | None, _option("Run folder; default: one per comparison below runs/.")] = None,
    as_json: Annotated[bool, _option("Print the result as JSON.", "Comparison", "--json")] = False,
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
    from switch_ema.bench.request import request

    if task.startswith("-"):
        raise InputError(f"name the task before {task}: sema compare TASK {task} ...")
    asked = request(task, settings, _task_options(context.args))
    folder = out or asked.default_out()
    finished = prepare(asked, folder)
    messages = Console(stderr=True)
    if finished:
        if not (folder / "report.html").exists():
            from switch_ema.bench.report import write_report

            write_report(folder)
        messages.print(f"nothing to do: {folder} holds this comparison, finished", highlight=False, soft_wrap=True)
        _show(folder, as_json)
        return
    _train(asked, folder, messages, as_json)


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every setting; their values stay texts, which the settings read."""
    own = [
        each for each in inspect.signature(command, eval_str=True).parameters.values() if each.kind != each.VAR_KEYWORD
    ]
    for name, field in Settings.model_fields.items():
        if field.title is None:
            continue
        shown = "" if field.default in (None, (), PydanticUndefined) else f" [default: {field.default}]".lower()
        option = typer.Option(
            help=f"{field.description}{shown}", rich_help_panel=field.title, show_default=False, metavar=_metavar(field)
        )
        kind = bool | None if field.annotation is bool else str | None
        own.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])
        )
    command.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    return command


def _metavar(field: FieldInfo) -> str | None:
    if field.annotation is bool:
        return None
    kinds = {int: "NUMBER", float: "NUMBER", tuple[float, ...]: "LIST"}
    return next((name for kind, name in kinds.items() if field.annotation in (kind, kind | None)), "TEXT")


app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(_with_settings(compare))


def _task_options(arguments: list[str]) -> dict[str, str]:
    """Return the options of the task: what is no option of the command; of several values the last counts.

    They are written `--name value`, `--name=value`, or `--name` for true.
    """
    options: dict[str, str] = {}
    name = ""
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            name = name.replace("-", "_")
            options[name] = value if equals else "true"
            name = "" if equals else name
        elif name:
            options[name], name = argument, ""
        else:
            raise InputError(f"unexpected argument {argument!r}; options are written as --name value")
    return options


def _train(settings: Settings, folder: Path, messages: Console, as_json: bool) -> None:
    from switch_ema.bench.compare import compare as run
    from switch_ema.bench.machine import quiet
    from switch_ema.bench.progress import LiveProgress

    quiet()
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if first:
        messages.print(f"results go to {folder}", highlight=False, soft_wrap=True)
    else:
        messages.quiet = True
    with LiveProgress(messages) as progress:
        outcome = run(settings, folder, shlex.join(["sema", *sys.argv[1:]]), progress)
    if outcome.writes:
        _show(folder, as_json)


def _show(folder: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from switch_ema.bench.results import read_run
    from switch_ema.bench.summary import summarize
    from switch_ema.bench.table import print_summary

    summary = summarize(*read_run(folder))
    if as_json:
        typer.echo(json.dumps({**asdict(summary), "out": str(folder), "report": str(folder / "report.html")}))
    else:
        console = Console()
        print_summary(summary, console if console.is_terminal else Console(width=_LOG_WIDTH), folder / "report.html")


def study(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A study; `sema list studies` names them.")],
    recipe: Annotated[
        str, _option("Task, recipe or my.yaml to ask it on; default: embedded data, a few minutes.")
    ] = "",
    out: Annotated[Path | None, _option("Folder of the study; default: runs/study-NAME, or one per request.")] = None,
    jobs: Annotated[
        int | None, _option("Comparisons side by side; default: one for each core for a task's embedded data, else 1.")
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
    base, arms = plan_study(name, recipe, settings, _task_options(context.args))
    from switch_ema.bench.progress import LiveProgress

    quiet()
    messages = Console(stderr=True)
    as_it_comes = not (recipe or context.args or any(value is not None for value in settings.values()))
    folder = out or Path("runs") / f"study-{name}{'' if as_it_comes else base.default_out().name[-9:]}"
    messages.print(f"results go to {folder}", highlight=False, soft_wrap=True)
    command = shlex.join(["sema", *sys.argv[1:]])
    tell = partial(messages.print, highlight=False, markup=False, soft_wrap=True)
    page = run_study(name, base, arms, folder, command, tell, lambda: LiveProgress(messages), default_jobs(base, jobs))
    _tell_findings(folder, page)


def _tell_findings(folder: Path, page: Path) -> None:
    from switch_ema.bench.studies.report import read_findings

    findings = read_findings(folder)
    typer.echo("\n".join([*findings.sentences, *findings.notes, f"report: {page}"]))


app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(_with_settings(study))


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders that `sema compare` or `sema study` wrote."),
    ],
    out: Annotated[
        Path | None,
        _option("Page that joins several comparisons; default: joined.html in the folder above them.", "Report"),
    ] = None,
) -> None:
    """Write report.html anew from the measurements in each folder; several comparisons are also joined into one page.

    **Examples**

    `sema report runs/x`

    `sema report runs/digits runs/points runs/language --out across-tasks.html`
    """
    from switch_ema.bench.joined import join_runs
    from switch_ema.bench.results import read_run
    from switch_ema.bench.studies.run import FILE, read_arms

    studies = [folder for folder in folders if (folder / FILE).is_file()]
    runs = [folder for folder in folders if folder not in studies]
    for folder in studies:
        read_arms(folder)
    for folder in runs:
        read_run(folder)
    joined = join_runs(runs) if len(runs) > 1 else None
    if out and joined is None:
        raise InputError(f"--out {out} names the page that joins comparisons; name two or more of their folders")
    from switch_ema.bench.report import write_report
    from switch_ema.bench.studies.report import write_study

    for folder in studies:
        _tell_findings(folder, write_study(folder))
    for folder in runs:
        write_report(folder)
        if joined is None:
            _show(folder, as_json=False)
    if joined:
        from switch_ema.bench.joined_page import default_path, write_joined

        path = out or default_path(runs)
        write_joined(joined, path)
        typer.echo("\n".join([*joined.lines(), "", *joined.sentences(), *joined.notes(), f"report: {path}"]))


@app.command()
def sweep(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder of a comparison with the method posthoc.")],
    sigma_rel: Annotated[
        str, _option("Widths of the average, as parts of training, up to 0.28.", "Widths")
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
    run(folder, widths, lambda text: Console(stderr=True).print(text, highlight=False, soft_wrap=True))
    from switch_ema.bench.report import write_report

    report = write_report(folder)
    typer.echo("\n".join([*width_lines(folder), f"report: {report}"]))


@app.command()
def average(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Checkpoints, the oldest first: .safetensors, .pt, .pth, .bin, folders."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT.safetensors", help="The file to write.")],
    weights: Annotated[str | None, _option("One weight for each file: 1,2,3.", _WEIGHTS)] = None,
    decay: Annotated[float | None, _option("EMA over the files: share of the old average kept.", _WEIGHTS)] = None,
    half_life: Annotated[float | None, _option("EMA by the files in which a share halves.", _WEIGHTS)] = None,
    recipe: Annotated[
        str | None, _option("Stand in for a learning-rate decay: 1-sqrt, linear or cosine.", _WEIGHTS)
    ] = None,
    tail: Annotated[
        str | None, _option("Two files hold means up to counts A,B: the mean in between; or 'saved'.", _WEIGHTS)
    ] = None,
    last: Annotated[int | None, _option("Use only the last so many files.", _WEIGHTS)] = None,
    key: Annotated[str | None, _option("Where the weights lie in torch checkpoints, such as ema.", _FILES)] = None,
    dtype: Annotated[str | None, _option("Store float64, float32, bfloat16 or float16.", _FILES)] = None,
    force: Annotated[bool, _option("Replace the output if it is there.", _FILES, "--force")] = False,
) -> None:
    """Average checkpoint files of one model into a safetensors file: the plain mean, unless told otherwise.

    **Examples**

    `sema average step-1000.pt step-2000.pt step-3000.pt -o mean.safetensors`

    `sema average checkpoints/*.safetensors -o merged.safetensors --last 10 --recipe 1-sqrt`
    """
    from switch_ema.averaging.merge import average_checkpoints

    try:
        about = average_checkpoints(
            inputs,
            out,
            weights=_numbers("--weights", weights),
            decay=decay,
            half_life=half_life,
            recipe=recipe,
            tail=_tail(tail),
            last=last,
            key=key,
            dtype=dtype,
            force=force,
        )
    except (ValueError, ImportError) as error:
        raise InputError(str(error)) from None
    shares = ", ".join(f"{name} {weight:.4g}" for name, weight in zip(about["inputs"], about["weights"], strict=True))
    typer.echo(f"{out}: {shares}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def analyze(
    context: typer.Context,
    checkpoint: Annotated[
        list[Path], _option("Weights: .safetensors, .pt, .pth, .bin, .ckpt; several stand side by side.", _MODEL)
    ],
    task: Annotated[str, _option("A task, a recipe, or path/to/task.py:MyTask.", _MODEL)],
    data: Annotated[str | None, _option("Data set by name, or a folder; default: the embedded one.", _MODEL)] = None,
    model: Annotated[str | None, _option("Network; `sema list models` names them.", _MODEL)] = None,
    key: Annotated[str | None, _option("Where the weights lie in torch checkpoints, such as ema.", _MODEL)] = None,
    seed: Annotated[int, _option("Seed of the task, which draws what is wrong with its labels.", _MODEL)] = 0,
    measures: Annotated[
        str | None,
        _option("Of sharpness, flatness, hessian, calibration, landscape; default: all that suit but the last.", _HOW),
    ] = None,
    split: Annotated[str, _option("Where metrics and predictions are measured: val, test or train.", _HOW)] = "test",
    surface: Annotated[str, _option("Whose loss is measured around the weights: train, val or test.", _HOW)] = "train",
    batchnorm: Annotated[str, _option("By kept statistics or by each batch's own: eval or train.", _HOW)] = "eval",
    num_batches: Annotated[int, _option("Batches whose loss is measured, at most.", _HOW)] = 4,
    num_matvecs: Annotated[int, _option("Products with the Hessian for its eigenvalues, at most.", _HOW)] = 100,
    accelerator: Annotated[str | None, _option("auto, cpu or cuda.", _HOW)] = None,
    out: Annotated[Path | None, _option("Write everything that was found as JSON.", _HOW, "--out", "-o")] = None,
    as_json: Annotated[bool, _option("Print everything that was found as JSON.", _HOW, "--json")] = False,
) -> None:
    """Measure saved models: metrics, sharpness, flatness, Hessian, calibration, landscape, and how far they are apart.

    **Examples**

    `sema analyze --checkpoint averaged.safetensors --task classification --data digits`

    `sema analyze --checkpoint plain.pt --checkpoint sema.pt --task classification --label-noise 0.4 --out both.json`

    **Options of the task**, such as `--label-noise 0.4`, are given as they were to `sema compare`.
    """
    from switch_ema.bench.question import ask

    given = {"data": data, "model": model, "accelerator": accelerator}
    question = ask(
        task, checkpoint, given, _task_options(context.args), measures=measures, split=split, surface=surface,
        batchnorm=batchnorm, num_batches=num_batches, num_matvecs=num_matvecs, seed=seed, key=key,
    )  # fmt: skip
    from switch_ema.bench.machine import quiet, threads

    quiet()
    from switch_ema.bench.analyze import analyze as run
    from switch_ema.bench.analyze import plain
    from switch_ema.bench.results import write_json
    from switch_ema.bench.sidebyside import as_lines

    with threads(question.settings):
        found = run(question)
    if out is not None:
        write_json(out, plain(found))
    typer.echo(json.dumps(plain(found)) if as_json else "\n".join(as_lines(found)))


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
    name: Annotated[str, typer.Argument(help="A recipe; `sema list recipes` names them.")],
) -> None:
    """Print a recipe as YAML, to be edited and given to `sema compare`.

    **Example**: `sema recipe cifar100-resnet18 > my.yaml`, then `sema compare my.yaml`
    """
    from switch_ema.recipes.reader import recipe_text

    typer.echo(recipe_text(name)[1], nl=False)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        import switch_ema

        typer.echo(f"switch-ema {switch_ema.__version__}")
        raise typer.Exit


def _numbers(option: str, text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text!r} is not a list of numbers; write e.g. {option} 1,2,3") from None


def _tail(text: str | None) -> tuple[int, int] | Literal["saved"] | None:
    if text is None:
        return None
    if text == "saved":
        return "saved"
    try:
        a, b = map(int, text.split(","))
    except ValueError:
        raise InputError(f"--tail {text!r} is no pair of counts; write e.g. --tail 100,300, or --tail saved") from None
    return a, b


def main() -> None:
    """Run the command line and exit: 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted."""
    try:
        code = app(standalone_mode=False)
    except FieldError as error:
        _fail(f"--{error.field.replace('_', '-')} {error.problem}", 2)
    except InputError as error:
        _fail(str(error), 2)
    except TyperException as error:
        _fail(getattr(error, "format_message", error.__str__)(), getattr(error, "exit_code", 2))
    except OSError as error:
        _fail(f"{error.filename or 'the run'}: {error.strerror or error}; nothing that was written is lost", 1)
    if code == _INTERRUPTED:
        _fail("stopped; the same command continues where it was", _INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    line = " ".join(message.split())
    sys.stderr.write(f"sema: {line}\n")
    sys.exit(code)
