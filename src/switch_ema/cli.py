"""The command line, `sema`: reads options, calls the bench, and turns wrong input into one line and exit code 2."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from typer.exceptions import TyperException

from switch_ema.bench.settings import Settings
from switch_ema.errors import InputError, unknown

app = typer.Typer(
    help="Weight averaging for PyTorch: does it help on your task? Paired seeds, learning-rate controls, a report.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
_INTERRUPTED = 130
_LOG_WIDTH = 120
_DATA, _TRAINING, _MACHINE = "Data and model", "Training", "Machine"
_WEIGHTS, _FILES = "Weights of the files", "Files"


class Listed(StrEnum):
    """What `sema list` can list."""

    tasks = "tasks"
    methods = "methods"
    data = "data"
    models = "models"


def _option(help_text: str, panel: str = "Comparison", *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


def _default(name: str) -> Any:
    return Settings.model_fields[name].default


@app.command()
def compare(
    task: Annotated[str, typer.Argument(help="The task, such as classification; `sema list tasks` names them.")],
    data: Annotated[str | None, _option("Data set by name, or a folder; default: the embedded one.", _DATA)] = None,
    model: Annotated[str | None, _option("small-resnet, mlp, or timm/NAME.", _DATA)] = None,
    label_noise: Annotated[float | None, _option("Share of training labels made wrong, 0 to 1.", _DATA)] = None,
    train_size: Annotated[int | None, _option("Use so many training examples only.", _DATA)] = None,
    image_size: Annotated[int | None, _option("Resize images to this side, in pixels.", _DATA)] = None,
    augment: Annotated[str | None, _option("auto, none or crop-flip.", _DATA)] = None,
    methods: Annotated[str, _option("Methods with options, separated by commas.")] = _default("methods"),
    control: Annotated[bool, _option("Add learning-rate controls for every switching method.")] = _default("control"),
    seeds: Annotated[int, _option("Number of paired seeds.")] = _default("seeds"),
    out: Annotated[Path | None, _option("Run folder; default: one per comparison below runs/.")] = None,
    as_json: Annotated[bool, _option("Print the result as JSON.", "Comparison", "--json")] = False,
    epochs: Annotated[int, _option("Epochs.", _TRAINING)] = _default("epochs"),
    lr: Annotated[str | None, _option("Peak learning rate, or several: 0.02,0.05,0.1.", _TRAINING)] = None,
    batch_size: Annotated[int, _option("Examples per batch, over all devices.", _TRAINING)] = _default("batch_size"),
    accumulate: Annotated[int, _option("Batches per optimizer step.", _TRAINING)] = _default("accumulate"),
    optimizer: Annotated[str, _option("sgd or adamw.", _TRAINING)] = _default("optimizer"),
    momentum: Annotated[float, _option("Momentum of SGD.", _TRAINING)] = _default("momentum"),
    weight_decay: Annotated[float, _option("Weight decay.", _TRAINING)] = _default("weight_decay"),
    schedule: Annotated[str, _option("cosine, constant or step.", _TRAINING)] = _default("schedule"),
    warmup_epochs: Annotated[
        float | None, _option("Epochs of linear warm-up; default: 1, at most half of training.", _TRAINING)
    ] = _default("warmup_epochs"),
    clip_norm: Annotated[float | None, _option("Largest norm of the gradient.", _TRAINING)] = _default("clip_norm"),
    precision: Annotated[str, _option("32-true, 16-mixed or bf16-mixed.", _MACHINE)] = _default("precision"),
    accelerator: Annotated[str, _option("auto, cpu, cuda or mps.", _MACHINE)] = _default("accelerator"),
    devices: Annotated[int, _option("Number of devices.", _MACHINE)] = _default("devices"),
    strategy: Annotated[str, _option("auto or ddp.", _MACHINE)] = _default("strategy"),
) -> None:
    """Train a task with several averaging methods on the same seeds, and say which one helps.

    The same command again continues a broken-off comparison, or finds nothing to do.

    **Examples**

    `sema compare classification`

    `sema compare classification --data digits --label-noise 0.4 --methods baseline,ema:decay=0.99,sema --control`

    `sema compare classification --data cifar10 --model timm/resnet18 --lr 0.02,0.05,0.1 --out runs/cifar`

    **Methods** are `baseline`, `ema`, `sema`, `swa`, `lawa`, `lookahead`, `power_ema`, each with options:
    `sema:decay=0.99,switch_every=2 epochs`, `baseline:lr_scale=0.2`; `sema list methods` names them.
    """
    from switch_ema.bench.compare import prepare
    from switch_ema.tasks.catalog import TASKS

    if task not in TASKS:
        raise unknown("task", task, TASKS)
    given = {"label_noise": label_noise, "train_size": train_size, "image_size": image_size, "augment": augment}
    settings = Settings.of(
        task=task,
        data=data or TASKS[task].default_data,
        model=model or TASKS[task].default_model,
        task_options={name: value for name, value in given.items() if value is not None},
        methods=methods,
        control=control,
        seeds=seeds,
        epochs=epochs,
        lr=_rates(lr),
        batch_size=batch_size,
        accumulate=accumulate,
        optimizer=optimizer,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        warmup_epochs=warmup_epochs,
        clip_norm=clip_norm,
        precision=precision,
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
    )
    folder = out or settings.default_out()
    finished = prepare(settings, folder)
    messages = Console(stderr=True)
    if finished:
        if not (folder / "report.html").exists():
            from switch_ema.bench.report import write_report

            write_report(folder)
        messages.print(f"nothing to do: {folder} holds this comparison, finished", highlight=False, soft_wrap=True)
        _show(folder, as_json)
        return
    _train(settings, folder, messages, as_json)


def _train(settings: Settings, folder: Path, messages: Console, as_json: bool) -> None:
    from switch_ema.bench.compare import compare as run
    from switch_ema.bench.progress import LiveProgress

    _quiet()
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


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders that `sema compare` wrote.")],
) -> None:
    """Write report.html anew from the measurements in each run folder, and print its table.

    **Example**: `sema report runs/x`
    """
    from switch_ema.bench.results import read_run

    for folder in folders:
        read_run(folder)
    from switch_ema.bench.report import write_report

    for folder in folders:
        write_report(folder)
        _show(folder, as_json=False)


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


@app.command("list")
def list_(
    what: Annotated[Listed | None, typer.Argument(help="What to list; default: everything.")] = None,
) -> None:
    """List tasks, methods, data sets and models, with what they are.

    **Example**: `sema list methods`
    """
    from switch_ema.bench.methods import KINDS
    from switch_ema.tasks.catalog import TASKS

    console = Console()
    sections: dict[Listed, dict[str, str]] = {
        Listed.tasks: {name: entry.summary for name, entry in TASKS.items()},
        Listed.methods: {
            name: f"{kind.summary}; options: {', '.join([*kind.options, 'lr_scale'])}" for name, kind in KINDS.items()
        },
        Listed.data: {name: text for entry in TASKS.values() for name, text in entry.data.items()},
        Listed.models: {name: text for entry in TASKS.values() for name, text in entry.models.items()},
    }
    for section, entries in sections.items():
        if what in (None, section):
            console.print(f"[bold]{section}[/bold]")
            for name, text in entries.items():
                console.print(f"  {escape(name):14} {escape(text)}", highlight=False, soft_wrap=True)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        import switch_ema

        typer.echo(f"switch-ema {switch_ema.__version__}")
        raise typer.Exit


def _rates(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(rate) for rate in text.split(",")) if text else ()
    except ValueError:
        raise InputError(
            f"--lr {text!r} is not a list of numbers; write e.g. --lr 0.05 or --lr 0.02,0.05,0.1"
        ) from None


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


def _quiet() -> None:
    """Keep the output to what a user asked for: our own words, no notes of libraries to their developers."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for name in ("lightning", "lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def main() -> None:
    """Run the command line and exit: 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted."""
    try:
        code = app(standalone_mode=False)
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
