"""What `sema analyze` is asked, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from switch_ema.bench.request import request
from switch_ema.bench.settings import Settings
from switch_ema.bench.task import Part
from switch_ema.errors import FieldError, InputError, suggestion

MEASURES = ("sharpness", "flatness", "hessian", "calibration", "landscape")
"""What can be measured of a model."""
_DEFAULT = ("sharpness", "flatness", "hessian")
LABELLED = "classification"
"""The task whose models name classes."""


@dataclass(frozen=True)
class Question:
    """What is asked of some saved models.

    Attributes:
        settings: Task, data, model and options of the task.
        checkpoints: The files, each under a short name.
        measures: Some of `MEASURES`.
        split: Where metrics, calibration and churn are measured.
        surface: The data whose loss is measured around the weights.
        batchnorm: ``eval`` or ``train`` (see `switch_ema.analysis.objective.Objective`).
        num_batches: Batches of that data at most.
        num_matvecs: Products with the Hessian at most for its eigenvalues; a quarter as many go into its trace.
        seed: Seed of the task, which draws, for one, which training labels are wrong.
        key: Where the weights lie in torch checkpoints that hold several state dicts.
    """

    settings: Settings
    checkpoints: Mapping[str, Path]
    measures: tuple[str, ...]
    split: Part = "test"
    surface: Part = "train"
    batchnorm: Literal["eval", "train"] = "eval"
    num_batches: int = 4
    num_matvecs: int = 100
    seed: int = 0
    key: str | None = None


def ask(
    task: str,
    checkpoints: Sequence[Path],
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    measures: str | None = None,
    **details: Any,
) -> Question:
    """Check what a user asks for, before anything heavy is imported.

    Args:
        task: A task, or a recipe.
        checkpoints: Files with weights.
        given: Settings by name, such as data and model; None stands for the default.
        options: Options of the task, as texts.
        measures: Names with commas between them; None for all that suit the task but landscapes.
        details: Further attributes of `Question`.

    Raises:
        InputError: A name is unknown, a value out of range, or a file not there.
    """
    settings = request(task, given, options)
    for path in checkpoints:
        if not path.exists():
            raise InputError(f"--checkpoint {path}: there is no such file")
    if len({path.resolve() for path in checkpoints}) < len(checkpoints):
        raise InputError("--checkpoint names the same file twice; leave one out")
    for field in ("split", "surface"):
        _check_choice(field, details[field], get_args(Part))
    _check_choice("batchnorm", details["batchnorm"], ("eval", "train"))
    for field, least in (("num_batches", 1), ("num_matvecs", 6)):
        if details[field] < least:
            raise FieldError(field, f"{details[field]}: write at least {least}")
    chosen = _measures(measures, settings.task)
    return Question(settings, _short_names(checkpoints), chosen, **details)


def _check_choice(field: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise FieldError(field, f"{value}: write one of {', '.join(known)}")


def _measures(asked: str | None, task: str) -> tuple[str, ...]:
    if asked is None:
        return (*_DEFAULT, *(["calibration"] if task == LABELLED else []))
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    for name in names:
        if name not in MEASURES:
            raise FieldError("measures", f"{name!r} is no measure{suggestion(name, MEASURES)}")
    if "calibration" in names and task != LABELLED:
        raise FieldError("measures", f"calibration: task {task} names no classes; leave it out")
    return names


def _short_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Name each file by as few parts of its path, from the end, as tell them apart."""
    for parts in range(1, max(len(path.parts) for path in paths)):
        names = {str(Path(*path.parts[-parts:])): path for path in paths}
        if len(names) == len(paths):
            return names
    return {str(path): path for path in paths}
