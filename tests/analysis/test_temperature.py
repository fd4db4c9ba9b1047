"""Temperatures against other minimisers, known answers, and what has none."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from switch_ema.analysis.calibration import calibration
from switch_ema.analysis.temperature import fit_temperature
from switch_ema.errors import InputError
from tests.analysis.test_calibration import predictions


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(-2, 2))
def test_it_is_the_minimum_that_scipy_and_a_grid_find(seed: int, scale: float) -> None:
    logits, labels = predictions(80, 3, seed)
    logits = logits * 10**scale
    found = fit_temperature(logits, labels)

    def nll(log_temperature: float) -> float:
        return cross_entropy(logits / 10**log_temperature, labels).item()

    best = minimize_scalar(nll, bounds=(-4, 5), method="bounded", options={"xatol": 1e-9})
    assert torch.tensor(found.temperature).log10().item() == pytest.approx(best.x, abs=1e-4)
    assert found.nll_after <= best.fun + 1e-12
    assert found.nll_after <= min(nll(point / 20) for point in range(-80, 101)) + 1e-12
    assert found.nll_before == pytest.approx(nll(0))


def test_the_slope_is_zero_there() -> None:
    logits, labels = predictions(500)
    inverse = torch.tensor(1 / fit_temperature(logits, labels).temperature, dtype=torch.float64, requires_grad=True)
    cross_entropy(logits * inverse, labels).backward()
    assert inverse.grad is not None
    assert abs(inverse.grad.item()) < 1e-10


@pytest.mark.parametrize("factor", [0.01, 0.5, 1.0, 3.0, 1e4])
def test_a_known_factor_is_found_again(factor: float) -> None:
    """Labels drawn from the softmax of logits that are then scaled: the factor is the temperature, but for chance."""
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(10_000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    found = fit_temperature(factor * logits, labels)
    assert found.temperature == pytest.approx(factor, rel=0.05)
    exact = fit_temperature(logits, labels).temperature
    assert found.temperature == pytest.approx(factor * exact, rel=1e-5)  # scaled logits: the scaled temperature
    assert calibration(factor * logits / found.temperature, labels).ece < 0.02


def test_what_is_named_and_the_logits_stay() -> None:
    logits, labels = predictions()
    before = logits.clone()
    found = fit_temperature(logits.requires_grad_(), labels)
    assert torch.equal(logits, before)
    assert torch.equal((logits / found.temperature).argmax(1), logits.argmax(1))
    assert found.nll_after < found.nll_before


def test_one_wrong_in_many_by_a_little_still_converges() -> None:
    logits = torch.tensor([[0.0, 5.0]]).repeat(1000, 1)
    logits[0] = torch.tensor([0.01, 0.0])
    found = fit_temperature(logits, torch.ones(1000, dtype=torch.long))
    assert 0 < found.temperature < 1
    assert found.nll_after < found.nll_before


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[0.0, 3.0], [4.0, 0.0]], [1, 0], "every example is named right, so it falls to 0; fit it on more held-out"),
        ([[0.0, 3.0], [0.0, 0.0]], [1, 0], "falls to 0"),  # ties are no mistakes
        ([[0.0, 3.0], [4.0, 0.0]], [0, 1], "no more of the labels than chance, so it grows to infinity; check"),
        ([[0.0, 3.0], [0.0, 3.0]], [0, 1], "grows to infinity"),
        ([[1.0, 1.0], [2.0, 2.0]], [0, 1], "all logits of every example are equal"),
    ],
)
def test_what_has_no_temperature_is_refused(logits: list[list[float]], labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=f"temperature does not converge: .*{message}"):
        fit_temperature(torch.tensor(logits), torch.tensor(labels))


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="they are probabilities"):
        fit_temperature(torch.tensor([[0.5, 0.5], [0.1, 0.9]]), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="not finite in row 0"):
        fit_temperature(torch.tensor([[float("-inf"), 0.5], [0.1, 0.9]]), torch.tensor([0, 1]))
