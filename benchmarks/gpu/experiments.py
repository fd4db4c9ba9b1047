"""What is trained on a GPU, and why so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from switch_ema.bench.request import request
from switch_ema.bench.settings import Settings

DECAYS = (0.9, 0.99, 0.998, 0.999, 0.9995)
"""Of the EMAs on CIFAR-10: they look back 10 to 2,000 steps, where an epoch has 351."""

GRID = [(decay, every) for decay in (0.9, 0.99, 0.999) for every in ("100 steps", "1 epoch", "5 epochs")]
"""Decay and interval of Switch EMA: from 90 % of the progress kept by a switch down to 5 %."""

PASSIVE = ["baseline", *(f"ema:decay={decay}" for decay in DECAYS), "swa"]
THREE = ["baseline", "ema", "sema"]

SMALL = {"epochs": 1, "seeds": 1, "accelerator": "cpu", "precision": "32-true"}
"""What a trial on a CPU changes everywhere."""


@dataclass(frozen=True)
class Experiment:
    """One comparison.

    Attributes:
        spec: A task or a recipe.
        asked: Settings that differ from it.
        small: Settings for a trial on a CPU.
        small_options: Options of the task for a trial, in place of the recipe's where they have the same name.
        small_spec: Task or recipe of the trial, where the recipe cannot be made small; by default `spec`.
    """

    spec: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    small_options: Mapping[str, str] = field(default_factory=dict)
    small_spec: str = ""


def _cifar10(methods: list[str], *rates: float) -> Experiment:
    """ResNet-18 with a 3 x 3 stem, SGD, cosine after one epoch of warm-up, crop with reflected padding and flip.

    In float32, with convolutions in TF32, which the Ampere generation and later ones do by default: at this size a step
    waits for kernels to start, and autocast starts more of them.
    """
    whole = {"data": "cifar10", "model": "resnet18", "epochs": 30, "seeds": 3, "batch_size": 128}
    return Experiment(
        "classification",
        {**whole, "methods": methods, "lr": rates, "precision": "32-true"},
        {"data": "digits", "model": "mlp", "batch_size": 32, "lr": rates, "methods": methods},
        {"train_size": "320"},
    )


def _moving(recipe: str, model: str) -> Experiment:
    """A tenth of OpenSTL's 200 epochs on Moving-MNIST."""
    return Experiment(
        recipe, {"methods": THREE, "epochs": 20, "eval_every": 5},
        {"methods": THREE, "model": model}, {"train_size": "32", "test_size": "16"}, small_spec="video",
    )  # fmt: skip


EXPERIMENTS: dict[str, Experiment] = {
    "cifar10-resnet18-main": _cifar10(
        [
            *PASSIVE,
            "lookahead",
            *(f"sema:decay={decay},switch_every={every}" for decay, every in GRID),
            "sam",
            "sam+ema:decay=0.99",
        ],
        0.1,
    ),
    "cifar10-resnet18-rates": _cifar10(PASSIVE, 0.025, 0.05, 0.2),
    "bccd-faster-rcnn": Experiment(
        "gpu-bccd", {"methods": THREE},
        {"methods": THREE, "batch_size": 4}, {"train_size": "8"}, small_spec="detection",
    ),
    "cifar10-ddpm": Experiment(
        "cifar10-ddpm",
        {"methods": [*THREE, "posthoc:snapshot_every=5 epochs"], "epochs": 40, "eval_every": 10, "warmup_epochs": 4},
        {"methods": [*THREE, "posthoc"]}, {"train_size": "64", "samples": "16", "sampling_steps": "10"},
        small_spec="generation",
    ),
    "moving-mnist-convlstm": _moving("mmnist-convlstm", "convlstm"),
    "moving-mnist-simvp": _moving("mmnist-simvp-gsta", "simvp-gsta"),
    "shakespeare-gpt": Experiment(
        "gpu-shakespeare", {"methods": THREE},
        {"methods": THREE, "model": "gpt"}, {"train_size": "32"}, small_spec="language",
    ),
}  # fmt: skip
"""The experiments by name, under which their results are kept."""


def settings(name: str, *, smoke: bool = False) -> Settings:
    """Return what is asked of the bench.

    Args:
        name: One of `EXPERIMENTS`.
        smoke: Whether to train something small for one epoch instead, on the CPU, to try the script.

    Raises:
        InputError: The data are missing.
    """
    found = EXPERIMENTS[name]
    if smoke:
        return request(found.small_spec or found.spec, {**found.small, **SMALL}, found.small_options)
    return request(found.spec, {"accelerator": "cuda", **found.asked}, {})


def folder(root: Path, name: str) -> Path:
    """Return the run folder of an experiment."""
    return root / name
