"""One course of training in double precision, and what every framework must make of it.

A linear layer is trained by SGD on a loss that is linear in its weights, so that gradients are the data's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.averaging.reference import ExponentialTwin

RATE = 0.25
STEPS_PER_EPOCH = 6
EPOCHS = 4
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """An average as it is asked for, and as the twin is told."""

    name: str
    decay: float | str = 0.9
    update_every: int = 1
    update_after_step: int = 0
    switch_every: int | str | None = None
    rule: Callable[[int], float] | None = None
    switch_at_steps: Collection[int] = ()
    switch_at_epochs: Collection[int] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that a framework's own transformation takes."""
        return {
            "decay": self.decay,
            "update_every": self.update_every,
            "update_after_step": self.update_after_step,
            "switch_every": self.switch_every,
            "steps_per_epoch": STEPS_PER_EPOCH,
        }


CASES = [
    Case("ema"),
    Case("often", switch_every=5, switch_at_steps=range(5, 25, 5)),
    Case("sparse and late", decay=0.95, update_every=4, update_after_step=3),
    Case("out of step", decay=0.8, update_every=3, switch_every=7, switch_at_steps=(7, 14, 21)),
    Case("by the epoch", switch_every="1 epoch", switch_at_epochs=(1, 2, 3, 4)),
    Case("within epochs", switch_every="0.5 epoch", switch_at_steps=(3, 9, 15, 21), switch_at_epochs=(1, 2, 3, 4)),
    Case(
        "thirds",
        decay=0.7,
        switch_every="2/5 epoch",
        switch_at_steps=(3, 5, 8, 10, 15, 17, 20, 22),
        switch_at_epochs=(2, 4),
    ),
    Case("for a while", switch_every="1 epoch after 1 until 3", switch_at_epochs=(2, 3)),
    Case(
        "warm-up",
        decay="warmup 0.9",
        update_every=2,
        switch_every=9,
        switch_at_steps=(9, 18),
        rule=lambda n: min(0.9, (1 + n) / (10 + n)),
    ),
    Case("no memory", decay=0.0, switch_every=4, switch_at_steps=range(4, 25, 4)),
    Case("quick", decay=0.3, update_every=1, switch_every=6, switch_at_steps=range(6, 25, 6)),
]


def start() -> dict[str, Array]:
    """The weights at first."""
    generator = np.random.default_rng(0)
    return {"kernel": generator.integers(-8, 8, (3, 2)) / 8, "bias": generator.integers(-8, 8, 2) / 8}


def data() -> tuple[Array, Array]:
    """Inputs and the signs that their outputs have in the loss `sum(y * (x @ kernel + bias))`, one step in a row."""
    generator = np.random.default_rng(1)
    steps = STEPS_PER_EPOCH * EPOCHS
    return generator.integers(-8, 8, (steps, 3)) / 8, generator.integers(-8, 8, (steps, 2)) / 8


def gradients(x: Array, y: Array) -> dict[str, Array]:
    """The loss's gradients in one step."""
    return {"kernel": np.outer(x, y), "bias": y}


@dataclass(frozen=True)
class Course:
    """The weights when training has ended, their average, and how often there was an update and a switch."""

    weights: dict[str, Array]
    average: dict[str, Array]
    n_averaged: int
    n_switches: int


def course(case: Case) -> Course:
    """Train, with the float64 twin."""
    live: dict[str, Tensor] = {name: torch.from_numpy(value) for name, value in start().items()}
    twin = ExponentialTwin(
        live,
        (),
        case.rule or (lambda n: float(case.decay)),
        every=case.update_every,
        after=case.update_after_step,
        switch_at_steps=case.switch_at_steps,
        switch_at_epochs=case.switch_at_epochs,
    )
    for x, y in zip(*data(), strict=True):
        gradient = gradients(x, y)
        live = {name: value - RATE * torch.from_numpy(gradient[name]) for name, value in live.items()}
        if twin.step(live):
            live = dict(twin.average)
        if twin.steps % STEPS_PER_EPOCH == 0 and twin.epoch(live):
            live = dict(twin.average)
    return Course(_arrays(live), _arrays(twin.average), twin.n_averaged, twin.n_switches)


def check(case: Case, weights: Any, average: Any, n_averaged: int, n_switches: int) -> None:
    """Fail unless a framework has come to what the twin has, to float32's rounding."""
    expected = course(case)
    assert (n_averaged, n_switches) == (expected.n_averaged, expected.n_switches)
    for name in expected.weights:
        np.testing.assert_allclose(
            np.asarray(weights[name]), expected.weights[name], rtol=2e-6, atol=2e-6, err_msg=name
        )
        np.testing.assert_allclose(
            np.asarray(average[name]), expected.average[name], rtol=2e-6, atol=2e-6, err_msg=name
        )


def _arrays(weights: dict[str, Tensor]) -> dict[str, Array]:
    return {name: value.numpy() for name, value in weights.items()}
