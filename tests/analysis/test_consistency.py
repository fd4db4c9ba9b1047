"""Churn and Jensen-Shannon divergence against scipy, bounds, and pairs counted by hand."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from switch_ema.analysis.consistency import churn, consistency, js_divergence
from switch_ema.errors import InputError


def softmaxes(models: int, count: int, classes: int, seed: int, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(models, count, classes, generator=generator, dtype=torch.float64)).softmax(2)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 12), scale=st.floats(1e-2, 100))
def test_the_divergence_is_that_of_scipy_symmetric_and_bounded(seed: int, classes: int, scale: float) -> None:
    p, q = softmaxes(2, 9, classes, seed, scale)
    found = js_divergence(p, q)
    with np.errstate(invalid="ignore"):  # scipy takes the root of what rounding has made less than 0
        expected = np.nan_to_num(jensenshannon(p, q, axis=1)) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-13)
    assert torch.allclose(found, js_divergence(q, p), rtol=1e-12, atol=1e-15)
    assert found.min() >= 0
    assert found.max() <= math.log(2) + 1e-12
    assert js_divergence(p, p).eq(0).all()


def test_zeros_and_opposites() -> None:
    p = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    q = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    half = 0.5 * (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(2)) + 0.5 * math.log(1 / 0.75)
    assert js_divergence(p, q).tolist() == pytest.approx([math.log(2), half])


def test_what_is_almost_equal_keeps_its_digits() -> None:
    """For p = (1 + d, 1 - d) / 2 against (1 - d, 1 + d) / 2 it is d^2 / 2 to first order."""
    d = 1e-6
    p = torch.tensor([[1 + d, 1 - d]], dtype=torch.float64) / 2
    assert js_divergence(p, p.flip(1)).item() == pytest.approx(d**2 / 2, rel=1e-6)


def test_churn_is_the_share_of_other_names() -> None:
    p = torch.eye(4)[[0, 1, 2, 3, 0]]
    q = torch.eye(4)[[0, 1, 3, 2, 0]]
    assert churn(p, q) == pytest.approx(0.4)
    assert churn(p, p) == 0


def test_all_pairs_are_compared() -> None:
    outputs = softmaxes(4, 50, 5, 0)
    found = consistency(outputs)
    assert torch.equal(found.churn, found.churn.T)
    assert torch.equal(found.js, found.js.T)
    assert found.churn.diagonal().eq(0).all()
    churns, divergences = [], []
    for i in range(4):
        for j in range(i + 1, 4):
            churns.append((outputs[i].argmax(1) != outputs[j].argmax(1)).double().mean().item())
            divergences.append(float((jensenshannon(outputs[i], outputs[j], axis=1) ** 2).mean()))
            assert found.churn[i, j].item() == churns[-1]
            assert found.js[i, j].item() == pytest.approx(divergences[-1])
    assert found.churn_mean == pytest.approx(statistics.mean(churns))
    assert found.churn_std == pytest.approx(statistics.stdev(churns))
    assert found.js_mean == pytest.approx(statistics.mean(divergences))
    assert found.js_std == pytest.approx(statistics.stdev(divergences))
    again = consistency(list(outputs))
    assert torch.equal(found.js, again.js)


def test_a_single_pair_has_no_deviation() -> None:
    found = consistency(softmaxes(2, 10, 3, 1))
    assert found.churn_std is None
    assert found.js_std is None
    assert found.js_mean == found.js[0, 1].item() > 0


def test_bad_input_is_named() -> None:
    outputs = softmaxes(2, 10, 3, 1)
    with pytest.raises(InputError, match="1 models cannot be compared"):
        consistency(outputs[:1])
    with pytest.raises(InputError, match=r"shapes \(10, 3\) and \(9, 3\) differ; predict the same examples"):
        consistency([outputs[0], outputs[1, :9]])
    with pytest.raises(InputError, match="differ"):
        churn(outputs[0], outputs[1, :, :2] / outputs[1, :, :2].sum(1, keepdim=True))
    with pytest.raises(InputError, match=r"for logits write logits.softmax\(1\)"):
        js_divergence(outputs[0], outputs[1].log())
