"""Names that the shell completes: quick, from what the command line has loaded anyway."""

from __future__ import annotations

from collections.abc import Iterable

from switch_ema.bench.kinds import KINDS
from switch_ema.bench.loggers.names import LOGGERS
from switch_ema.bench.methods import SAM
from switch_ema.bench.studies.entries import STUDIES
from switch_ema.recipes.reader import recipe_names
from switch_ema.tasks.entries import TASKS


def task_names(incomplete: str) -> list[str]:
    """Complete a task or a recipe."""
    return _beginning(incomplete, [*TASKS, *recipe_names()])


def study_names(incomplete: str) -> list[str]:
    """Complete a study."""
    return _beginning(incomplete, STUDIES)


def recipes(incomplete: str) -> list[str]:
    """Complete a recipe."""
    return _beginning(incomplete, recipe_names())


def method_names(incomplete: str) -> list[str]:
    """Complete the last of several methods."""
    return _last_of_list(incomplete, [*KINDS, SAM, *(f"{SAM}+{kind}" for kind in KINDS if kind != "baseline")])


def logger_names(incomplete: str) -> list[str]:
    """Complete the last of several trackers."""
    return _last_of_list(incomplete, LOGGERS)


def _last_of_list(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(last, names)]


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
