"""What is known of a task before it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from switch_ema.tasks.options import Option


@dataclass(frozen=True)
class TaskEntry:
    """One task.

    Attributes:
        summary: One line that says what the task is.
        default_data: Data set used when none is named.
        default_model: Model used when none is named.
        models: Accepted models, each with a line that describes it; a name such as ``timm/NAME`` stands for a family.
        data: Named data sets, each with a line that describes it; folders are accepted as well.
        options: The further options.
        path: Where the class is, as ``module:class``, or ``file.py:class`` for a task of the user's own.
        check: Refuses data, model and options that are wrong or do not go together, at once; None for no such check.
        training: Defaults of the training settings (see `switch_ema.bench.settings.Settings`) that suit the task.
    """

    summary: str
    default_data: str
    default_model: str
    models: Mapping[str, str]
    data: Mapping[str, str]
    options: Mapping[str, Option]
    path: str
    check: Callable[[str, str, Mapping[str, Any]], object] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
