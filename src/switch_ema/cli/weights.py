"""The commands on files of weights: their average, and what they are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from switch_ema.cli.app import app
from switch_ema.cli.options import option, task_options
from switch_ema.cli.shown import teller
from switch_ema.errors import InputError

_WEIGHTS, _FILES = "Weights of the files", "Files"
_MODEL, _HOW = "Model and data", "Measures"


@app.command()
def average(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Checkpoints, the oldest first: .safetensors, .pt, .pth, .bin, folders."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT.safetensors", help="The file to write.")],
    weights: Annotated[str | None, option("One weight for each file: 1,2,3.", _WEIGHTS)] = None,
    decay: Annotated[float | None, option("EMA over the files: share of the old average kept.", _WEIGHTS)] = None,
    half_life: Annotated[float | None, option("EMA by the files in which a share halves.", _WEIGHTS)] = None,
    recipe: Annotated[
        str | None, option("Stand in for a learning-rate decay: 1-sqrt, linear or cosine.", _WEIGHTS)
    ] = None,
    tail: Annotated[
        str | None, option("Two files hold means up to counts A,B: the mean in between; or 'saved'.", _WEIGHTS)
    ] = None,
    last: Annotated[int | None, option("Use only the last so many files.", _WEIGHTS)] = None,
    key: Annotated[str | None, option("Where the weights lie in torch checkpoints, such as ema.", _FILES)] = None,
    dtype: Annotated[str | None, option("Store float64, float32, bfloat16 or float16.", _FILES)] = None,
    force: Annotated[bool, option("Replace the output if it is there.", _FILES, "--force")] = False,
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
        list[Path], option("Weights: .safetensors, .pt, .pth, .bin, .ckpt; several stand side by side.", _MODEL)
    ],
    task: Annotated[str, option("A task, a recipe, or path/to/task.py:MyTask.", _MODEL)],
    data: Annotated[str | None, option("Data set by name, or a folder; default: the embedded one.", _MODEL)] = None,
    model: Annotated[str | None, option("Network; `sema list models` names them.", _MODEL)] = None,
    key: Annotated[str | None, option("Where the weights lie in torch checkpoints, such as ema.", _MODEL)] = None,
    seed: Annotated[int, option("Seed of the task, which draws what is wrong with its labels.", _MODEL)] = 0,
    measures: Annotated[
        str | None,
        option("Of sharpness, flatness, hessian, calibration, landscape; default: all that suit but the last.", _HOW),
    ] = None,
    split: Annotated[str, option("Where metrics and predictions are measured: val, test or train.", _HOW)] = "test",
    surface: Annotated[str, option("Whose loss is measured around the weights: train, val or test.", _HOW)] = "train",
    batchnorm: Annotated[str, option("By kept statistics or by each batch's own: eval or train.", _HOW)] = "eval",
    num_batches: Annotated[int, option("Batches whose loss is measured, at most.", _HOW)] = 4,
    num_matvecs: Annotated[int, option("Products with the Hessian for its eigenvalues, at most.", _HOW)] = 100,
    accelerator: Annotated[str | None, option("auto, cpu or cuda.", _HOW)] = None,
    out: Annotated[Path | None, option("Write everything that was found as JSON.", _HOW, "--out", "-o")] = None,
    as_json: Annotated[bool, option("Print everything that was found as JSON.", _HOW, "--json")] = False,
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
        task, checkpoint, given, task_options(context.args), measures=measures, split=split, surface=surface,
        batchnorm=batchnorm, num_batches=num_batches, num_matvecs=num_matvecs, seed=seed, key=key,
    )  # fmt: skip
    from switch_ema.bench.machine import quiet, threads

    quiet()
    from switch_ema.bench.analyze import analyze as run
    from switch_ema.bench.analyze import plain
    from switch_ema.bench.files import write_json
    from switch_ema.bench.sidebyside import as_lines

    with threads(question.settings):
        found = run(question, teller(Console(stderr=True)))
    if out is not None:
        write_json(out, plain(found))
    typer.echo(json.dumps(plain(found)) if as_json else "\n".join(as_lines(found)))


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
