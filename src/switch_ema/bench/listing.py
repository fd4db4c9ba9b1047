"""What `sema list` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from switch_ema.bench.kinds import KINDS
from switch_ema.bench.methods import SAM, Method, Sharpness
from switch_ema.bench.settings import Settings
from switch_ema.bench.studies.entries import STUDIES
from switch_ema.recipes.reader import read_recipe, recipe_names
from switch_ema.tasks.entries import TASKS


def listing() -> dict[str, list[tuple[str, str]]]:
    """Return names and descriptions by section; an option of a task stands below it, as it is written."""
    tasks: list[tuple[str, str]] = []
    for name, entry in TASKS.items():
        tasks.append((name, entry.summary))
        tasks += [(f"  --{key.replace('_', '-')}", option.about) for key, option in entry.options.items()]
    methods = [
        (name, f"{kind.summary}; options: {', '.join([*kind.options, 'lr_scale'])}") for name, kind in KINDS.items()
    ]
    sam = Method("baseline", sam=Sharpness())
    methods.append((SAM, f"{sam.summary}; also {SAM}+ema, {SAM}+sema and so on; options: rho, adaptive, lr_scale"))
    return {
        "tasks": tasks,
        "methods": methods,
        "data": _of_tasks({name: entry.data.items() for name, entry in TASKS.items()}),
        "models": _of_tasks({name: entry.models.items() for name, entry in TASKS.items()}),
        "studies": list(STUDIES.items()),
        "recipes": [(name, read_recipe(name, Settings.model_fields).about) for name in recipe_names()],
    }


def _of_tasks(sections: Mapping[str, Iterable[tuple[str, str]]]) -> list[tuple[str, str]]:
    """Return each name once, with the tasks that take it."""
    texts: dict[str, str] = {}
    tasks: dict[str, list[str]] = {}
    for task, entries in sections.items():
        for name, text in entries:
            texts.setdefault(name, text)
            tasks.setdefault(name, []).append(task)
    return [(name, f"{text} ({', '.join(tasks[name])})") for name, text in texts.items()]
