"""The tasks that come with the bench. The standard library suffices to read this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from switch_ema.data.catalog import DATASETS, Source, locate
from switch_ema.data.numbers import NUMBER_SETS
from switch_ema.tasks import classification_options, regression_options
from switch_ema.tasks.entry import TaskEntry
from switch_ema.tasks.models.names import MODELS
from switch_ema.tasks.selfsup import options as selfsup_options


def _check_selfsup(data: str, model: str, options: Mapping[str, Any]) -> Source:
    selfsup_options.check(options)
    return locate(data)


TASKS: Mapping[str, TaskEntry] = {
    "classification": TaskEntry(
        summary="name the class of an image",
        default_data="digits",
        default_model="small-resnet",
        models=MODELS,
        data=DATASETS,
        options=classification_options.OPTIONS,
        path="switch_ema.tasks.classification:Classification",
        check=classification_options.check,
    ),
    "regression": TaskEntry(
        summary="predict a number from an image or a vector",
        default_data="digits-rotated",
        default_model="auto",
        models={**regression_options.AUTO_MODEL, **MODELS},
        data=NUMBER_SETS,
        options=regression_options.OPTIONS,
        path="switch_ema.tasks.regression:Regression",
        check=regression_options.check,
        training={"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.01, "batch_size": 32, "epochs": 10},
    ),
    "selfsup": TaskEntry(
        summary="learn features from images without labels",
        default_data="digits",
        default_model="auto",
        models={**selfsup_options.AUTO_MODEL, **MODELS},
        data=DATASETS,
        options=selfsup_options.OPTIONS,
        path="switch_ema.tasks.selfsup.task:SelfSup",
        check=_check_selfsup,
        training={"optimizer": "adamw", "lr": 0.002, "weight_decay": 0.01, "batch_size": 128},
    ),
}
"""All tasks by name."""
