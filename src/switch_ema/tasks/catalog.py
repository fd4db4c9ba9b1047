"""Which tasks there are and what they accept, checked without importing torch.

Everything here needs the standard library only, so that a wrong name or value is refused at once.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch_ema.data.catalog import DATASETS, locate
from switch_ema.errors import InputError, unknown

if TYPE_CHECKING:
    from switch_ema.bench.task import Task

AUGMENTS = ("auto", "none", "crop-flip")
"""Choices for the option ``augment``."""


@dataclass(frozen=True)
class TaskEntry:
    """One row of `TASKS`.

    Attributes:
        summary: One line that says what the task is.
        default_data: Data set used when none is named.
        default_model: Model used when none is named.
        models: Accepted models, each with a line that describes it; a name that ends in ``/NAME`` stands for a family.
        data: Named data sets, each with a line that describes it; folders are accepted as well.
        options: Names of the further options, each with a line that describes it.
        path: Where the class is, as ``module:class``.
    """

    summary: str
    default_data: str
    default_model: str
    models: Mapping[str, str]
    data: Mapping[str, str]
    options: Mapping[str, str]
    path: str


TASKS: Mapping[str, TaskEntry] = {
    "classification": TaskEntry(
        summary="name the class of an image",
        default_data="digits",
        default_model="small-resnet",
        models={
            "small-resnet": "three residual blocks of 16, 32 and 64 channels, BatchNorm",
            "mlp": "two hidden layers of 256 units, no normalisation",
            "timm/NAME": "any model of the timm library, untrained",
        },
        data=DATASETS,
        options={
            "label_noise": "share of the training labels to make wrong, 0 to 1",
            "train_size": "number of training images, a stratified subset",
            "image_size": "side in pixels to scale and crop the images to",
            "augment": f"one of {', '.join(AUGMENTS)}; auto is crop-flip for colour images, none for grey ones",
        },
        path="switch_ema.tasks.classification:Classification",
    ),
}
"""All tasks by name."""


def check(
    task: str, data: str | None = None, model: str | None = None, options: Mapping[str, Any] | None = None
) -> TaskEntry:
    """Refuse what is wrong with a request for a task, before anything heavy is imported.

    Args:
        task: Name of the task.
        data: Name or folder of the data; None stands for the default.
        model: Name of the model; None stands for the default.
        options: Further arguments of the task's class, such as ``{"label_noise": 0.4}``.

    Returns:
        The task's entry.

    Raises:
        InputError: A name is unknown, a value out of range, or the data are missing or damaged.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    entry = TASKS[task]
    for name, value in (options or {}).items():
        if name not in entry.options:
            raise unknown(f"option of task {task}", name, entry.options)
        check_option(name, value)
    check_model(model or entry.default_model, entry.models)
    locate(data or entry.default_data)
    return entry


def create(
    task: str, *, seed: int, data: str | None = None, model: str | None = None, options: Mapping[str, Any] | None = None
) -> Task:
    """Make a task by name, after `check`.

    Args:
        task: Name of the task.
        seed: Draws what belongs to the problem, such as which labels are wrong.
        data: Name or folder of the data; None stands for the default.
        model: Name of the model; None stands for the default.
        options: Further arguments of the task's class.

    Returns:
        The task, with its data read.

    Raises:
        InputError: What is asked for is not there or not possible.
    """
    entry = check(task, data, model, options)
    module, name = entry.path.split(":")
    make = getattr(importlib.import_module(module), name)
    made: Task = make(data=data or entry.default_data, model=model or entry.default_model, seed=seed, **(options or {}))
    return made


def check_option(name: str, value: Any) -> None:
    """Check the value of one option.

    Raises:
        InputError: It is out of range.
    """
    if name == "label_noise":
        if not (isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1):
            raise InputError(f"label_noise {value!r}: write a share from 0 to 1, such as 0.4")
    elif name in ("train_size", "image_size"):
        if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            raise InputError(f"{name} {value!r}: write a whole number of at least 1")
    elif name == "augment" and value not in AUGMENTS:
        raise unknown("augment", str(value), AUGMENTS)


def check_model(model: str, models: Mapping[str, str]) -> None:
    """Check the name of a model.

    Args:
        model: The name.
        models: The accepted ones, as in `TaskEntry.models`.

    Raises:
        InputError: There is no such model, or it needs timm and timm is not installed.
    """
    if model.startswith("timm/") and "timm/NAME" in models:
        names = timm_names()
        if timm_name(model) not in names:
            raise unknown("model", model, sorted(f"timm/{name}" for name in names), hint="an example is timm/resnet18")
    elif model not in models or model == "timm/NAME":
        if "timm/NAME" in models and timm_name(model) in _timm_names_if_any():
            raise InputError(f"unknown model {model!r}; it is one of timm's: write timm/{model}")
        raise unknown("model", model, models)


def timm_name(model: str) -> str:
    """Return NAME of ``timm/NAME`` or ``timm/NAME.TAG``: the tag chooses pretrained weights, which are not used."""
    return model.removeprefix("timm/").split(".")[0]


def timm_names() -> frozenset[str]:
    """List the models of the installed timm, without the seconds that its import takes.

    Raises:
        InputError: timm is not installed.
    """
    names = _timm_names_if_any()
    if not names:
        raise InputError(
            'models named timm/NAME need timm, which is not installed; run: pip install "switch-ema[bench]"'
        )
    return names


@cache
def _timm_names_if_any() -> frozenset[str]:
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    sources = Path(spec.submodule_search_locations[0], "models").rglob("*.py")
    pattern = re.compile(r"^@register_model\s*\ndef (\w+)", re.MULTILINE)
    return frozenset(name for source in sources for name in pattern.findall(source.read_text(encoding="utf-8")))
