"""The tasks that come with the bench. The standard library suffices to read this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from switch_ema.data.catalog import DATASETS, Source, locate
from switch_ema.data.detection.catalog import DATASETS as DETECTION_SETS
from switch_ema.data.numbers import NUMBER_SETS
from switch_ema.data.pictures import PICTURE_SETS
from switch_ema.data.points import POINT_SETS
from switch_ema.data.text.catalog import DATASETS as TEXT_SETS
from switch_ema.data.text.labelled import DATASETS as LABELLED_TEXTS
from switch_ema.data.video.catalog import DATASETS as VIDEO_SETS
from switch_ema.tasks import classification_options, points_options, regression_options
from switch_ema.tasks.detection import options as detection_options
from switch_ema.tasks.entry import TaskEntry
from switch_ema.tasks.generation import options as generation_options
from switch_ema.tasks.language import options as language_options
from switch_ema.tasks.models.names import MODELS
from switch_ema.tasks.selfsup import options as selfsup_options
from switch_ema.tasks.textclass import options as textclass_options
from switch_ema.tasks.video import options as video_options
from switch_ema.tasks.video.models.names import MODELS as VIDEO_MODELS


def _check_selfsup(data: str, model: str, options: Mapping[str, Any]) -> Source:
    selfsup_options.check(options)
    return locate(data)


_DETECTION_TRAINING: Mapping[str, Any] = {
    "optimizer": "adamw", "lr": 0.003, "weight_decay": 0.01, "batch_size": 8, "epochs": 12, "clip_norm": 5.0
}  # fmt: skip

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
    "points": TaskEntry(
        summary="name the class of a point in the plane",
        default_data="circles",
        default_model="points-mlp",
        models=points_options.MODELS,
        data=POINT_SETS,
        options=points_options.OPTIONS,
        path="switch_ema.tasks.points:PointClasses",
        check=points_options.check,
        training={"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.01, "batch_size": 10, "epochs": 60},
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
    "generation": TaskEntry(
        summary="make images from noise, by denoising diffusion",
        default_data="digits",
        default_model="unet-small",
        models=generation_options.MODELS,
        data=PICTURE_SETS,
        options=generation_options.OPTIONS,
        path="switch_ema.tasks.generation.task:Generation",
        check=generation_options.check,
        training={"optimizer": "adamw", "lr": 0.002, "weight_decay": 0.0, "batch_size": 32},
    ),
    "video": TaskEntry(
        summary="predict the frames that follow those given",
        default_data="moving-digits",
        default_model="simvp-gsta",
        models=VIDEO_MODELS,
        data=VIDEO_SETS,
        options=video_options.OPTIONS,
        path="switch_ema.tasks.video.task:Video",
        check=video_options.check,
        training={
            "optimizer": "adam",
            "lr": 0.004,
            "weight_decay": 0.0,
            "schedule": "onecycle",
            "batch_size": 16,
            "epochs": 20,
        },
    ),
    "textclass": TaskEntry(
        summary="name the class of a text",
        default_data="pydoc-topics",
        default_model="auto",
        models=textclass_options.MODELS,
        data=LABELLED_TEXTS,
        options=textclass_options.OPTIONS,
        path="switch_ema.tasks.textclass.task:TextClass",
        check=textclass_options.check,
        training={"optimizer": "adamw", "lr": 0.001, "weight_decay": 0.01, "batch_size": 16, "epochs": 10},
    ),
    "language": TaskEntry(
        summary="tell the next byte or word of a text",
        default_data="pydoc",
        default_model="lstm",
        models=language_options.MODELS,
        data=TEXT_SETS,
        options=language_options.OPTIONS,
        path="switch_ema.tasks.language.task:Language",
        check=language_options.check,
        training={
            "optimizer": "adamw",
            "lr": 0.01,
            "weight_decay": 0.01,
            "batch_size": 16,
            "epochs": 10,
            "clip_norm": 1.0,
        },
    ),
    "detection": TaskEntry(
        summary="find the objects in an image: classes and boxes",
        default_data=detection_options.DEFAULT_DATA,
        default_model="fcos",
        models=detection_options.DETECTORS,
        data=DETECTION_SETS,
        options=detection_options.OPTIONS,
        path="switch_ema.tasks.detection.task:Detection",
        check=detection_options.check_detection,
        training=_DETECTION_TRAINING,
    ),
    "segmentation": TaskEntry(
        summary="find the objects in an image: classes, boxes and masks",
        default_data=detection_options.DEFAULT_DATA,
        default_model="mask-rcnn",
        models=detection_options.SEGMENTERS,
        data=DETECTION_SETS,
        options=detection_options.OPTIONS,
        path="switch_ema.tasks.detection.task:Segmentation",
        check=detection_options.check_segmentation,
        training=_DETECTION_TRAINING,
    ),
}
"""All tasks by name."""
