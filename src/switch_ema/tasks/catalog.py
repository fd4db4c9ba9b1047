"""Which tasks there are and what they accept, checked without importing torch.

Everything here needs the standard library only, so that a wrong name or value is refused at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from switch_ema.errors import FieldError, unknown
from switch_ema.tasks.entries import TASKS
from switch_ema.tasks.entry import TaskEntry
from switch_ema.tasks.models.names import check_model
from switch_ema.tasks.options import read_options
from switch_ema.tasks.usertask import OWN, is_user_task, make_user_task, user_entry

if TYPE_CHECKING:
    from switch_ema.bench.task import Task


def find(task: str) -> TaskEntry:
    """Return what is known of a task.

    Args:
        task: Its name, or ``path/to/task.py:MyTask`` for one of the user's own.

    Raises:
        InputError: There is no such task.
    """
    if is_user_task(task):
        return user_entry(task)
    if task not in TASKS:
        raise unknown("task", task, TASKS, hint="or write path/to/task.py:MyTask for a task of your own")
    return TASKS[task]


def check(
    task: str, data: str | None = None, model: str | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Refuse what is wrong with a request for a task, before anything heavy is imported.

    Args:
        task: Name of the task.
        data: Name or folder of the data; None stands for the default.
        model: Name of the model; None stands for the default.
        options: Further arguments of the task's class, as values or texts, such as ``{"label_noise": "0.4"}``.

    Returns:
        The options in their own types.

    Raises:
        InputError: A name is unknown, a value out of range, or the data are missing or damaged.
    """
    entry = find(task)
    values = read_options(entry.options, options or {})
    if entry.models:
        check_model(model or entry.default_model, entry.models)
    if entry.check:
        entry.check(data or entry.default_data, model or entry.default_model, values)
    for field, value, own in (("data", data, entry.default_data), ("model", model, entry.default_model)):
        if own == OWN and value not in (None, OWN):
            raise FieldError(field, f"{value}: the constructor of {task} takes no argument {field!r}; leave it out")
    return values


def create(
    task: str, *, seed: int, data: str | None = None, model: str | None = None, options: Mapping[str, Any] | None = None
) -> Task:
    """Make a task by name, after `check`.

    Args:
        task: Name of the task, or ``path/to/task.py:MyTask``.
        seed: Draws what belongs to the problem, such as which labels are wrong.
        data: Name or folder of the data; None stands for the default.
        model: Name of the model; None stands for the default.
        options: Further arguments of the task's class.

    Returns:
        The task, with its data read.

    Raises:
        InputError: What is asked for is not there or not possible.
    """
    values = check(task, data, model, options)
    entry = find(task)
    named = {"data": data or entry.default_data, "model": model or entry.default_model}
    arguments = {**values, **{field: value for field, value in named.items() if value != OWN}, "seed": seed}
    if is_user_task(task):
        made: Task = make_user_task(task, arguments)
    else:
        module, name = entry.path.split(":")
        made = getattr(importlib.import_module(module), name)(**arguments)
    return made
