"""What is trained on CIFAR-10, and why so."""

from __future__ import annotations

from pathlib import Path

from switch_ema.bench.request import request
from switch_ema.bench.settings import Settings

DECAYS = (0.9, 0.99, 0.998, 0.999, 0.9995)
"""Of the EMAs: they look back 10 to 2,000 steps, where an epoch has 351."""

GRID = [(decay, every) for decay in (0.9, 0.99, 0.999) for every in ("100 steps", "1 epoch", "5 epochs")]
"""Decay and interval of Switch EMA: from 90 % of the progress kept by a switch down to 5 %."""

PASSIVE = ["baseline", *(f"ema:decay={decay}" for decay in DECAYS), "swa"]

METHODS = {
    "main": [
        *PASSIVE,
        "lookahead",
        *(f"sema:decay={decay},switch_every={every}" for decay, every in GRID),
        "sam",
        "sam+ema:decay=0.99",
    ],
    "rates": PASSIVE,
}
"""The parts of the experiment: every method at one learning rate, and what never switches at others beside it."""

RATES = {"main": (0.1,), "rates": (0.025, 0.05, 0.2)}


def settings(part: str, *, smoke: bool = False) -> Settings:
    """Return what is asked of the bench.

    ResNet-18 with a 3 x 3 stem, SGD with Nesterov momentum, batch 128, weight decay 5e-4, cosine after one epoch of
    warm-up, crop with reflected padding and flip. In float32, with convolutions in TF32, which the Ampere generation
    and later ones do by default: at this size a step waits for kernels to start, and autocast starts more of them.

    Args:
        part: A part of `METHODS`.
        smoke: Whether to train a small network for one epoch on 320 digits instead, on the CPU, to try the script.

    Raises:
        InputError: The data are missing.
    """
    small = {"data": "digits", "model": "mlp", "epochs": 1, "seeds": 1, "accelerator": "cpu", "batch_size": 32}
    whole = {"data": "cifar10", "model": "resnet18", "epochs": 30, "seeds": 3, "accelerator": "cuda", "batch_size": 128}
    asked = {**(small if smoke else whole), "methods": METHODS[part], "lr": RATES[part], "precision": "32-true"}
    return request("classification", asked, {"train_size": "320"} if smoke else {})


def title(part: str) -> str:
    """Return the name that results are kept under."""
    return f"cifar10-resnet18-{part}"


def folder(root: Path, part: str) -> Path:
    """Return the run folder of a part."""
    return root / title(part)
