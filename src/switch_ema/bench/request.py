"""From what a user asks for to settings and back, and from settings to the task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch_ema.bench.settings import Settings
from switch_ema.errors import FieldError, InputError, suggestion
from switch_ema.recipes.reader import Recipe, is_recipe, read_recipe
from switch_ema.tasks.catalog import check, create, find
from switch_ema.tasks.entry import TaskEntry
from switch_ema.tasks.usertask import is_user_task

if TYPE_CHECKING:
    from switch_ema.bench.task import Task

_SET_BY_RECIPES = tuple(name for name in Settings.model_fields if name != "task_options")


def request(spec: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> Settings:
    """Make the settings of a comparison.

    Args:
        spec: A task (see `switch_ema.tasks.catalog.find`), the name of a recipe, or a YAML file.
        given: Settings by name, which go before the recipe's and the task's; None stands for "not given".
        options: The task's options by name, as texts.

    Raises:
        InputError: A name is unknown or a value wrong; for a value from a recipe with the file and line.
    """
    recipe = read_recipe(spec, _SET_BY_RECIPES) if is_recipe(spec) else Recipe(spec, "", {"task": spec}, {}, {})
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return _settings(recipe, given, options)
    except FieldError as error:
        line = recipe.lines.get(error.field)
        if line is None or error.field in given or error.field in options:
            raise
        raise InputError(f"{recipe.where}, line {line}: {error}") from None


def _settings(recipe: Recipe, given: Mapping[str, Any], options: Mapping[str, Any]) -> Settings:
    task = recipe.settings["task"]
    entry = find(task)
    for name in options:
        if name not in entry.options:
            known = [
                *entry.options,
                *(field for field in Settings.model_fields if field not in ("task", "task_options")),
            ]
            raise FieldError(name, f"is no option of task {task}{suggestion(name, known)}")
    values = {**_defaults(entry, {**recipe.settings, **given}), **recipe.settings, **given}
    chosen = {**recipe.options, **options}
    return Settings.of(**values, task_options=check(task, values["data"], values["model"], chosen))


def _defaults(entry: TaskEntry, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the task suggests; another optimizer than it suggests needs other rates."""
    training = dict(entry.training)
    if chosen.get("optimizer", training.get("optimizer")) != training.get("optimizer"):
        training = {name: value for name, value in training.items() if name not in ("lr", "weight_decay", "betas")}
    return {"data": entry.default_data, "model": entry.default_model, **training}


def make_task(settings: Settings, seed: int) -> Task:
    """Make the task that is asked for, for one seed."""
    return create(settings.task, seed=seed, data=settings.data, model=settings.model, options=settings.task_options)


def as_asked(settings: Settings) -> dict[str, Any]:
    """Return settings as plain values, options of the task among them, for the record of a run."""
    asked = settings.model_dump(mode="json", exclude={"task_options", "methods"})
    if is_user_task(settings.task):
        path = Path(settings.task.rpartition(":")[0])
        asked["task_file"] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return {**asked, **settings.task_options, "methods": [method.label for method in settings.parsed_methods()]}


def recorded(asked: Mapping[str, Any]) -> Settings:
    """Return the settings of a record that `as_asked` made.

    Raises:
        InputError: The file of a user's own task is another one now.
    """
    own = {name: asked[name] for name in Settings.model_fields if name in asked}
    options = {name: value for name, value in asked.items() if name not in (*own, "task_file")}
    settings = Settings.of(**own, task_options=options)
    if asked.get("task_file") != as_asked(settings).get("task_file"):
        raise InputError(f"{settings.task} has changed since the run; compare again, into another --out")
    return settings
