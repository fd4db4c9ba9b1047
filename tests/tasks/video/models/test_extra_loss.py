"""TAU's loss on frame differences, against a loop and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from switch_ema.tasks.video.models.base import Predictor
from switch_ema.tasks.video.models.build import build_predictor
from switch_ema.tasks.video.models.names import MODELS
from tests.tasks.video.models.twins import Array, array


def predictor(model: str) -> Predictor:
    with torch.device("meta"):
        return build_predictor(model, channels=1, height=8, width=8, inputs=2, outputs=2, size="small")


def extra(predicted: Tensor, truth: Tensor) -> float:
    loss = predictor("tau").extra_loss(predicted, truth)
    assert loss is not None
    return float(loss)


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum())


def test_tau_equals_a_loop() -> None:
    torch.manual_seed(0)
    predicted, truth = torch.rand(2, 3, 4, 2, 4, 4, dtype=torch.float64)
    divergences = []
    for video, true_video in zip(array(predicted), array(truth), strict=True):
        for t in range(3):
            q = softmax((video[t + 1] - video[t]).ravel() / 0.1)
            p = softmax((true_video[t + 1] - true_video[t]).ravel() / 0.1)
            divergences.append(sum(a * math.log(a / b) for a, b in zip(q, p, strict=True)))
    assert extra(predicted, truth) == pytest.approx(0.1 * sum(divergences) / len(divergences) / (2 * 4 * 4))


def test_tau_in_closed_form() -> None:
    truth = torch.zeros(1, 2, 1, 1, 2, dtype=torch.float64)
    predicted = truth.clone()
    predicted[0, 1, 0, 0, 0] = 0.1 * math.log(3)  # odds of 3 to 1, against 1 to 1 in truth
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert extra(predicted, truth) == pytest.approx(0.1 * divergence / 2)


def test_tau_is_zero_for_equal_differences() -> None:
    truth = torch.rand(2, 3, 1, 4, 4, dtype=torch.float64)
    assert extra(truth, truth) == 0
    assert extra(truth + 0.5, truth) == pytest.approx(0, abs=1e-12)


def test_tau_reaches_the_predicted_frames() -> None:
    predicted = torch.rand(2, 3, 1, 4, 4, requires_grad=True)
    loss = predictor("tau").extra_loss(predicted, torch.rand(2, 3, 1, 4, 4))
    assert loss is not None
    loss.backward()
    assert predicted.grad is not None
    assert predicted.grad[:, 0].any()


def test_a_single_frame_has_no_differences() -> None:
    assert predictor("tau").extra_loss(torch.rand(2, 1, 1, 4, 4), torch.rand(2, 1, 1, 4, 4)) is None


@pytest.mark.parametrize("model", [model for model in MODELS if model != "tau"])
def test_the_others_have_none(model: str) -> None:
    assert predictor(model).extra_loss(torch.rand(2, 3, 1, 4, 4), torch.rand(2, 3, 1, 4, 4)) is None
