"""`sema analyze`: saved models measured side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from switch_ema.analysis.consistency import churn, js_divergence
from switch_ema.analysis.landscape import barrier, interpolation
from switch_ema.analysis.objective import Objective
from switch_ema.analysis.weights import distances, dot
from switch_ema.bench.drawn import measured_batches
from switch_ema.bench.loading import load_weights
from switch_ema.bench.measures import (
    measure_calibration,
    measure_flatness,
    measure_hessian,
    measure_landscape,
    measure_sharpness,
)
from switch_ema.bench.question import LABELLED, Question
from switch_ema.bench.request import make_task
from switch_ema.bench.task import SPLITS, Part, Task
from switch_ema.bench.timing import Estimate
from switch_ema.errors import InputError


class _Subject(NamedTuple):
    """A model to be measured: itself, its loss as a function of the weights, and its outputs where they are logits."""

    model: nn.Module
    objective: Objective
    outputs: tuple[Tensor, Tensor] | None


def analyze(question: Question, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure saved models.

    Args:
        question: What is asked.
        tell: Is told of each model that is measured, where there are several.

    Returns:
        Plain data: what was measured on; under `models` the metrics, values, sentences and details of each file; under
        `pairs` how far every two of them are apart.

    Raises:
        InputError: A file does not fit the model, or something cannot be measured on this task.
    """
    use_cuda = question.settings.accelerator in ("auto", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if use_cuda else "cpu")
    task = make_task(question.settings, question.seed)
    batches, described = measured_batches(
        task, question.surface, device, question.num_batches, question.settings.batch_size
    )
    subjects = {name: _subject(name, task, question, batches, device) for name in question.checkpoints}
    models, estimate = {}, Estimate(len(subjects))
    for number, (name, subject) in enumerate(subjects.items(), start=1):
        models[name] = _of_one(subject, task, question, device)
        estimate.count(1)
        if len(subjects) > 1:
            tell(f"[{number}/{len(subjects)}] {name} ({estimate.times()})")
    return {
        "task": task.name,
        "data": task.data,
        "model": task.model,
        "options": question.settings.task_options,
        "seed": question.seed,
        "split": question.split,
        "batches": described,
        "batchnorm": question.batchnorm,
        "models": models,
        "pairs": [
            {"models": [*names], **_of_two(*(subjects[name] for name in names))} for names in combinations(subjects, 2)
        ],
    }


def _subject(name: str, task: Task, question: Question, batches: list[Any], device: torch.device) -> _Subject:
    path = question.checkpoints[name]
    with torch.random.fork_rng(devices=[]):
        model = task.build_model()
    load_weights(path, model, question.key)
    model.to(device).eval()
    try:
        objective = Objective(model, task.loss, batches, batchnorm=question.batchnorm)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    outputs = _outputs(model, task, question.split, device) if question.settings.task == LABELLED else None
    return _Subject(model, objective, outputs)


@torch.no_grad()
def _outputs(model: nn.Module, task: Task, part: Part, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return logits (n, classes) and labels (n,) of a part of the data."""
    pairs = [(model(inputs), labels) for inputs, labels in task.fixed_batches(part, device)]
    return torch.cat([logits for logits, _ in pairs]).float(), torch.cat([labels for _, labels in pairs])


def _of_one(subject: _Subject, task: Task, question: Question, device: torch.device) -> dict[str, Any]:
    metrics: dict[str, float] = {}
    if question.split in SPLITS:
        measured = task.evaluate(subject.model, question.split, device)
        metrics = {metric.name: measured[metric.name] for metric in task.metrics}
    objective = subject.objective
    ways = {
        "sharpness": partial(measure_sharpness, objective),
        "flatness": partial(measure_flatness, objective),
        "hessian": partial(measure_hessian, objective, question.num_matvecs),
        "calibration": partial(measure_calibration, *(subject.outputs or ())),
        "landscape": partial(measure_landscape, objective),
    }
    return {
        "metrics": metrics,
        "loss": objective.value(),
        "weight_norm": math.sqrt(dot(objective.parameters, objective.parameters)),
        "measures": {name: asdict(ways[name]()) for name in question.measures},
    }


def _of_two(one: _Subject, other: _Subject) -> dict[str, float]:
    """Measure how far two models are apart: in the weights, in what they say, and by the loss between them."""
    weights, others = one.model.state_dict(), other.model.state_dict()
    apart = distances(others, one.objective.parameters)
    between = interpolation(one.objective, weights, others)
    found = {"distance": apart.l2, "relative_distance": apart.relative, "barrier": barrier(between.losses)}
    if one.outputs and other.outputs:
        first, second = one.outputs[0].softmax(1), other.outputs[0].softmax(1)
        found |= {"churn": churn(first, second), "js_divergence": js_divergence(first, second).mean().item()}
    return found


def plain(found: Any) -> Any:
    """Return what was found as JSON can hold it: None for what is not finite."""
    if isinstance(found, Mapping):
        return {name: plain(part) for name, part in found.items()}
    if isinstance(found, list | tuple):
        return [plain(part) for part in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found
