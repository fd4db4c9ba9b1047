"""Calibration errors against torchmetrics, scikit-learn, slow twins and sums done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from switch_ema.analysis.calibration import Norm, adaptive_ece, brier, calibration, ece, reliability
from switch_ema.errors import InputError

NORMS: tuple[Norm, ...] = ("l1", "l2", "max")


def predictions(count: int = 203, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial((0.6 * logits).softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


def slow_mass(confidences: list[float], right: list[bool], n_bins: int) -> list[list[int]]:
    """Cut the sorted confidences as numpy does, then let each example join the first part that holds its value."""
    order = np.argsort(confidences, kind="stable")
    parts = [part.tolist() for part in np.array_split(order, n_bins)]
    home: dict[float, int] = {}
    for number, part in enumerate(parts):
        for index in part:
            home.setdefault(confidences[index], number)
    return [[i for i, value in enumerate(confidences) if home[value] == number] for number in range(n_bins)]


def slow_errors(confidences: list[float], right: list[bool], n_bins: int) -> dict[str, float]:
    gaps, shares = [], []
    for part in slow_mass(confidences, right, n_bins):
        if part:
            gaps.append(abs(sum(right[i] for i in part) - sum(confidences[i] for i in part)) / len(part))
            shares.append(len(part) / len(confidences))
    square = math.sqrt(sum(share * gap**2 for share, gap in zip(shares, gaps, strict=True)))
    return {"l1": sum(np.multiply(shares, gaps)), "l2": square, "max": max(gaps)}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_bins", [1, 7, 15, 100])
def test_bins_of_equal_width_give_what_torchmetrics_gives(norm: Norm, n_bins: int) -> None:
    logits, labels = predictions()
    probabilities = logits.softmax(1)
    expected = multiclass_calibration_error(probabilities, labels, num_classes=4, n_bins=n_bins, norm=norm).item()
    assert ece(probabilities, labels, n_bins, norm=norm) == pytest.approx(expected, rel=2e-6)  # its sums are float32
    assert expected > 0.01


def test_a_sum_done_by_hand() -> None:
    """Confidences 0.5 (right), 0.7 (wrong), 0.8 (right), 0.8 (wrong); 0.5 and 0.8 lie on edges, and belong below."""
    tops = torch.tensor([0.5, 0.7, 0.8, 0.8], dtype=torch.float64)
    probabilities = torch.stack([tops, 1 - tops], 1)
    labels = torch.tensor([0, 1, 0, 1])
    found = reliability(probabilities, labels, 10)
    assert found.count.tolist() == [0, 0, 0, 0, 1, 0, 1, 2, 0, 0]
    assert found.edges.tolist() == [number / 10 for number in range(11)]
    assert found.accuracy[[4, 6, 7]].tolist() == [1, 0, 0.5]
    assert found.confidence[[4, 6, 7]].tolist() == pytest.approx([0.5, 0.7, 0.8])
    assert found.accuracy[0].isnan()
    assert found.error() == pytest.approx((0.5 + 0.7 + 2 * 0.3) / 4)
    assert found.error("l2") == pytest.approx(math.sqrt((0.25 + 0.49 + 2 * 0.09) / 4))
    assert found.error("max") == pytest.approx(0.7)
    # three parts of equal mass: 2, 1, 1; the cut between both 0.8 moves behind them
    found = reliability(probabilities, labels, 3, binning="mass")
    assert found.count.tolist() == [2, 2, 0]
    assert found.edges.tolist() == [0, 0.7, 0.8, 1]
    assert found.error() == pytest.approx((2 * 0.1 + 2 * 0.3) / 4)
    assert brier(probabilities, labels) == pytest.approx(2 * (0.25 + 0.49 + 0.04 + 0.64) / 4)


@settings(max_examples=60, deadline=None)
@given(tops=st.lists(st.tuples(st.integers(10, 20), st.booleans()), min_size=1, max_size=30), n_bins=st.integers(1, 40))
def test_bins_of_equal_mass_are_those_of_the_slow_twin(tops: list[tuple[int, bool]], n_bins: int) -> None:
    """Few values, so with many ties; with more bins than examples too."""
    confidences = [top / 20 for top, _ in tops]
    right = [good for _, good in tops]
    top = torch.tensor(confidences, dtype=torch.float64)
    probabilities = torch.stack([top, 1 - top], 1)
    labels = torch.tensor([0 if good else 1 for good in right])
    expected = slow_errors(confidences, right, n_bins)
    for norm in NORMS:
        assert ece(probabilities, labels, n_bins, binning="mass", norm=norm) == pytest.approx(expected[norm], abs=1e-12)
    shuffled = torch.arange(len(tops) - 1, -1, -1)
    once = reliability(probabilities, labels, n_bins, binning="mass")
    again = reliability(probabilities[shuffled], labels[shuffled], n_bins, binning="mass")
    assert torch.equal(once.count, again.count)
    assert once.count.sum() == len(tops)


def test_bins_of_equal_mass_without_ties_are_the_quantiles_of_sklearn() -> None:
    logits, labels = predictions(200)
    probabilities = logits.softmax(1)
    found = reliability(probabilities, labels, 8, binning="mass")
    confidences, named = probabilities.max(1)
    accuracy, confidence = calibration_curve(named == labels, confidences, n_bins=8, strategy="quantile")
    assert found.count.tolist() == [25] * 8
    np.testing.assert_allclose(found.accuracy, accuracy, atol=1e-12)
    np.testing.assert_allclose(found.confidence, confidence, atol=1e-12)


def test_the_adaptive_error_is_the_mean_over_classes_and_ranges() -> None:
    """The definition of Nixon et al. word for word, where the ranges hold equally many: 1 / (K R) of the plain sum."""
    logits, labels = predictions(200)
    probabilities = logits.softmax(1)
    total = 0.0
    for k in range(4):
        for part in np.array_split(np.argsort(probabilities[:, k].numpy()), 10):
            total += abs((labels[part] == k).double().mean() - probabilities[part, k].mean()).item()
    assert adaptive_ece(probabilities, labels, 10) == pytest.approx(total / 40, rel=1e-9)


def test_one_call_gives_all() -> None:
    logits, labels = predictions()
    probabilities = logits.softmax(1)
    found = calibration(logits.float(), labels.int(), n_bins=10)
    assert found.nll == pytest.approx(log_loss(labels, probabilities), rel=1e-5)
    truth = torch.nn.functional.one_hot(labels, 4)
    assert found.brier == pytest.approx((probabilities - truth).square().sum(1).mean().item(), rel=1e-5)
    assert found.accuracy == (logits.argmax(1) == labels).double().mean().item()
    assert found.confidence == pytest.approx(probabilities.amax(1).mean().item(), rel=1e-5)
    assert found.ece == pytest.approx(ece(probabilities, labels, 10), rel=1e-4)
    assert found.ece_mass == pytest.approx(ece(probabilities, labels, 10, binning="mass"), rel=1e-4)
    assert found.ece != found.ece_mass
    assert found.adaptive_ece == pytest.approx(adaptive_ece(probabilities, labels, 10), rel=1e-4)
    assert found.by_width.edges[3] == 0.3
    assert found.by_mass.count.tolist() == [21] * 3 + [20] * 7


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n_bins=st.integers(1, 30), binning=st.sampled_from(["width", "mass"]))
def test_norms_are_ordered_and_between_zero_and_one(seed: int, n_bins: int, binning: str) -> None:
    logits, labels = predictions(40, 3, seed)
    found = reliability(logits.softmax(1), labels, n_bins, binning=binning)  # type: ignore[arg-type]
    l1, l2, most = (found.error(norm) for norm in NORMS)
    assert 0 <= l1 <= l2 + 1e-12 <= most + 2e-12 <= 1 + 2e-12
    confidences, named = logits.softmax(1).max(1)
    assert l1 >= abs(confidences.mean() - (named == labels).double().mean()) - 1e-12  # merging bins only lowers it


def test_certain_and_right_is_calibrated() -> None:
    sure = torch.eye(3)
    assert calibration(1000 * sure, torch.arange(3)).ece == 0
    assert adaptive_ece(sure, torch.arange(3)) == 0
    assert reliability(sure, torch.arange(3), 5).count.tolist() == [0, 0, 0, 0, 3]


GOOD = torch.tensor([[0.6, 0.4], [0.3, 0.7]])
YES = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ece(GOOD, YES, 0), "n_bins 0: write at least 1"),
        (lambda: calibration(5 * GOOD, YES, n_bins=-1), "n_bins -1: write at least 1"),
        (lambda: adaptive_ece(GOOD, YES, 0), "n_bins 0"),
        (lambda: ece(GOOD, YES, binning="widths"), "did you mean 'width'"),  # type: ignore[arg-type]
        (lambda: ece(GOOD, YES, norm="l3"), "unknown norm 'l3'"),  # type: ignore[arg-type]
        (lambda: ece(5 * GOOD, YES), r"probabilities: .* write logits.softmax\(1\)"),
        (lambda: ece(GOOD - 0.4, YES), "probabilities: .* 0 or more"),
        (lambda: calibration(GOOD, YES), r"they are probabilities; write probabilities\.clamp_min"),
        (lambda: ece(GOOD[0], YES), r"floats of shape \(examples, classes\).* not float32 of shape \(2,\)"),
        (lambda: ece(GOOD[:0], YES[:0]), "at least one example"),
        (lambda: ece(YES[:, None].expand(2, 2), YES), "not int64"),
        (lambda: ece(GOOD, YES[:1]), r"labels: write integers of shape \(2,\)"),
        (lambda: ece(GOOD, YES.float()), "not float32"),
        (lambda: brier(GOOD, torch.tensor([0, 2])), "labels: 2 is no class; write 0 to 1"),
        (lambda: brier(GOOD, torch.tensor([0, -1])), "labels: -1 is no class"),
        (lambda: calibration(torch.tensor([[1.0, 2.0], [float("nan"), 0]]), YES), "not finite in row 1"),
    ],
)
def test_bad_input_is_named(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
