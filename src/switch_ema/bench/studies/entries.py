"""The studies that come with the bench. The standard library suffices to read this."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from switch_ema.errors import unknown

if TYPE_CHECKING:
    from switch_ema.bench.studies.study import Study

FILE = "study.json"
"""The record of a study, in its folder."""

STUDIES: Mapping[str, str] = {
    "convergence": "how many epochs each method needs to a target",
    "landscape": "how deep and how wide the minima are that each method finds",
    "boundary": "how smooth the decision boundaries are, on circles and moons with 50 labels",
    "switch-interval": "how often to switch",
    "decay-window": "decay and interval together, each at its own learning rate, with the learning-rate control",
    "contradiction": "when switching helps and when it hurts: the settings of both papers side by side, all tuned",
    "theory": "a noisy quadratic: variances against closed forms, contraction, stability",
    "noisy-labels": "averages under wrong labels, and how many of these are learned by heart",
    "calibration": "whether confidence matches accuracy, before and after temperature scaling",
    "consistency": "how much two trainings with different seeds disagree",
    "transfer": "what frozen features are worth on other data",
    "early": "performance early in training, and early stopping",
    "lr-decay": "averaging instead of decaying the learning rate",
    "lr-sensitivity": "the final value over a grid of learning rates",
    "batchnorm": "BatchNorm statistics: online, averaged, re-estimated",
    "optimizers": "optimizers and methods crossed",
    "post-hoc": "the width of the average, chosen after training",
}
"""Every study, with what it is about."""


def find_study(name: str) -> Study:
    """Return a study.

    Raises:
        InputError: There is none of that name.
    """
    if name not in STUDIES:
        raise unknown("study", name, STUDIES)
    study: Study = import_module(f"switch_ema.bench.studies.{name.replace('-', '_')}").STUDY
    return study
