"""What frozen features are worth on other data: the targets, and a linear probe of every method's weights on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from switch_ema.bench.studies.standing import standing
from switch_ema.bench.studies.study import Measured
from switch_ema.data.catalog import locate
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from switch_ema.bench.settings import Settings
    from switch_ema.bench.studies.trained import Trained
    from switch_ema.bench.task import Part
    from switch_ema.tasks.classification import Classification

OTHERS: Mapping[str, tuple[str, ...]] = {
    "mnist": ("digits", "fashion-mnist"),
    "fashion-mnist": ("digits", "mnist"),
    "cifar10": ("cifar100",),
    "cifar100": ("cifar10",),
    "tiny-imagenet": ("cifar10", "cifar100"),
}
"""Other data with as many channels, by source; they are used where they are at hand."""
TURNED, RIGHT = "turned", "right-labels"
STRENGTHS = (1e-1, 1e-2, 1e-3)
FEW = 100
"""Labelled images of a target made of the embedded digits: with all, pixels and untrained features do as well."""
_PARTS: tuple[Part, ...] = ("train", "val", "test")
_READING = ("train_size", "image_size", "skip_corrupt", "stream", "workers")


def targets(settings: Settings) -> dict[str, str]:
    """Return the targets of a source with what they are: its own images turned, and data that are at hand.

    Args:
        settings: How the source is trained.
    """
    options = settings.task_options
    few = f", {FEW} labels" if settings.data == "digits" else ""
    found = {TURNED: f"{settings.data}, turned by a quarter{few}"}
    if options.get("label_noise") or options.get("label_file"):
        found[RIGHT] = f"{settings.data} with right labels{few}"
    for name in OTHERS.get(settings.data, ()):
        try:
            locate(name)
        except InputError:  # not at hand
            continue
        found[name] = name
    return found


def probe_name(target: str) -> str:
    """Return the name of a probe's accuracy in the rows."""
    return f"probe_{target}"


def measure_transfer(trained: Trained) -> Measured:
    """Probe the frozen features of every method's weights on every target.

    The features are what goes into the last linear layer. The probe is trained on the target's training part, its
    regularisation chosen on the validation part, its accuracy that on the test part; all labels are right.

    Args:
        trained: A comparison that kept its best weights.

    Returns:
        Rows of the probe's accuracy; by target what it is, and that of pixels and of untrained networks by seed.
    """
    rows: list[Any] = []
    sheets: dict[str, Any] = {}
    for target, title in targets(trained.settings).items():
        data = _Target(trained, target)
        for kept in standing(trained):
            accuracy = data.probe(trained.model(kept))
            rows.append(trained.row(kept, probe_name(target), accuracy, True))
        untrained = {str(seed): _rounded(data.probe(_untrained(trained, seed))) for seed in trained.results.seeds}
        sheets[target] = {"title": title, "pixels": _rounded(data.probe(None)), "untrained": untrained}
    return Measured(rows, {"targets": sheets})


class _Target:
    """Data to probe features on; they are the same for every seed."""

    def __init__(self, trained: Trained, name: str) -> None:
        settings, device = trained.settings, trained.device
        size = trained.batches(trained.results.seeds[0], "val")[0][0].shape[-1]
        task = _clean(settings, name, size)
        quarters = 1 if name == TURNED else 0
        self._parts = [
            list(task.changed_batches(part, device, lambda images: images.rot90(quarters, (2, 3)))) for part in _PARTS
        ]

    def probe(self, model: nn.Module | None) -> float:
        """Return the accuracy of a linear probe on a network's features, or on pixels; nan if they are not finite."""
        import torch

        from switch_ema.analysis.transfer import features, linear_probe

        found: list[tuple[Tensor, Tensor]] = []
        for batches in self._parts:
            if model is None:
                found.append((torch.cat([x.flatten(1) for x, _ in batches]), torch.cat([y for _, y in batches])))
            else:
                found.append(features(model, batches))
        if not all(rows.isfinite().all() for rows, _ in found):
            return math.nan
        train, val, test = found
        return linear_probe(train, val, test, strengths=STRENGTHS).accuracy


def _clean(settings: Settings, target: str, size: int) -> Classification:
    """Return a target as a task with right labels, its images as large as the source's."""
    from switch_ema.tasks.classification import Classification

    options = {name: value for name, value in settings.task_options.items() if name in _READING}
    if settings.data == "digits":
        options["train_size"] = min(FEW, options.get("train_size") or FEW)
    if target in (TURNED, RIGHT):
        return Classification(data=settings.data, model=settings.model, **options)
    return Classification(data=target, model=settings.model, **options | {"image_size": size})


def _untrained(trained: Trained, seed: int) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return trained.task(seed).build_model().to(trained.device)


def _rounded(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
