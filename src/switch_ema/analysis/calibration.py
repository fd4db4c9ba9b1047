"""Whether a classifier is as often right as it says: calibration errors, proper scores, reliability diagrams.

A classifier is calibrated if, of the examples to which it gives the confidence 0.8, it names four in five right.
Everything is computed in float64 where the predictions are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from switch_ema.analysis.predictions import checked_logits, checked_probabilities
from switch_ema.errors import InputError, unknown

Binning = Literal["width", "mass"]
"""Bins that are equally wide, or that hold equally many examples."""
Norm = Literal["l1", "l2", "max"]


@final
@dataclass(frozen=True)
class Reliability:
    """What a reliability diagram shows: bin b holds the examples with edges[b] < confidence <= edges[b + 1].

    The first bin also holds confidences of 0. All are float64 on the CPU but `count`, which is int64; an empty bin has
    count 0, and nan as confidence and accuracy.
    """

    edges: Tensor
    confidence: Tensor
    accuracy: Tensor
    count: Tensor

    def error(self, norm: Norm = "l1") -> float:
        """Return the calibration error. With gap_b = |accuracy_b - confidence_b| and w_b the share of examples in b:

            l1 = sum_b w_b gap_b    l2 = sqrt(sum_b w_b gap_b^2)    max = max_b gap_b

        Args:
            norm: ``l1`` gives the expected calibration error (ECE), ``l2`` the root mean square, ``max`` the maximum
                (MCE). All are too high on average by what chance does to each bin: more so with more bins.

        Raises:
            InputError: Another norm.
        """  # noqa: D415
        if norm not in get_args(Norm):
            raise unknown("norm", norm, get_args(Norm))
        return _error(self.confidence, self.accuracy, self.count, norm).item()


@final
@dataclass(frozen=True)
class Calibration:
    """What `calibration` measures; shares are from 0 to 1, `nll` is in nats, `brier` from 0 to 2."""

    accuracy: float
    confidence: float
    """Mean confidence; above the accuracy: overconfident."""
    nll: float
    brier: float
    ece: float
    """Of bins of equal width."""
    ece_mass: float
    """Of bins that hold equally many examples."""
    adaptive_ece: float
    by_width: Reliability
    by_mass: Reliability


def calibration(logits: Tensor, labels: Tensor, n_bins: int = 15) -> Calibration:
    """Measure calibration and proper scores of predictions at once.

    Args:
        logits: Unnormalised log-probabilities, finite floats (n, classes). For probabilities write
            ``probabilities.clamp_min(1e-30).log()``.
        labels: True classes, integers (n,) from 0 to classes - 1.
        n_bins: Number of bins, from 1. Guo et al. use 15 of equal width, Morales-Brotons et al. 100 of equal mass.

    Returns:
        Accuracy and mean confidence of the top label, negative log-likelihood, `brier`, `ece` with both kinds of bins,
        `adaptive_ece`, and what reliability diagrams show.

    Raises:
        InputError: Predictions or labels are no such thing, or there are fewer than 1 bins.

    Example:
        >>> found = calibration(torch.tensor([[0.0, 3.0], [0.0, 3.0]]), torch.tensor([1, 0]), n_bins=10)
        >>> found.accuracy, round(found.confidence, 4), round(found.ece, 4)
        (0.5, 0.9526, 0.4526)

    References:
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, arXiv:1706.04599, 2017.
        Morales-Brotons, Vogels, Hendrikx: Exponential Moving Average of Weights in Deep Learning: Dynamics and
        Benefits, arXiv:2411.18704, 2024.
    """
    logits = checked_logits(logits, labels)
    probabilities = logits.softmax(1)
    by_width = reliability(probabilities, labels, n_bins, binning="width")
    by_mass = reliability(probabilities, labels, n_bins, binning="mass")
    confidences, named = probabilities.max(1)
    return Calibration(
        accuracy=(named == labels).double().mean().item(),
        confidence=confidences.mean().item(),
        nll=cross_entropy(logits, labels.long()).item(),
        brier=brier(probabilities, labels),
        ece=by_width.error(),
        ece_mass=by_mass.error(),
        adaptive_ece=adaptive_ece(probabilities, labels, n_bins),
        by_width=by_width,
        by_mass=by_mass,
    )


def ece(
    probabilities: Tensor, labels: Tensor, n_bins: int = 15, *, binning: Binning = "width", norm: Norm = "l1"
) -> float:
    """Return the calibration error of the top label, `Reliability.error` of `reliability`, with the same arguments.

    With norm ``l1`` it is the expected calibration error, and equals torchmetrics' `multiclass_calibration_error` for
    bins of equal width, but for confidences that are exactly an edge: those are in the bin below it here.

    Example:
        >>> p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
        >>> round(ece(p, torch.tensor([0, 0, 1, 0]), n_bins=5), 4)
        0.1
    """
    return reliability(probabilities, labels, n_bins, binning=binning).error(norm)


def reliability(probabilities: Tensor, labels: Tensor, n_bins: int = 15, *, binning: Binning = "width") -> Reliability:
    """Sort examples into bins by their confidence, the probability of the class that has the highest.

    Bins of equal width have the edges 0, 1/n_bins, ..., 1. For bins of equal mass, sorted confidences are cut into
    n_bins parts that differ by one at most, larger ones first; a cut between equal confidences moves behind the last of
    them, so that the order of the examples never matters and bins may stay empty.

    Args:
        probabilities: Floats (n, classes) from 0 to 1 whose rows sum to 1.
        labels: True classes, integers (n,) from 0 to classes - 1.
        n_bins: Number of bins, from 1.
        binning: ``width`` or ``mass``.

    Raises:
        InputError: Predictions or labels are no such thing, there are fewer than 1 bins, or another binning.

    References:
        Kumar, Liang, Ma: Verified Uncertainty Calibration, arXiv:1909.10155, 2019 (bins of equal mass).
    """
    if binning not in get_args(Binning):
        raise unknown("binning", binning, get_args(Binning))
    probabilities = checked_probabilities(probabilities, labels)
    confidences, named = probabilities.max(1)
    return Reliability(*(part.cpu() for part in _bins(confidences, named == labels, _checked_bins(n_bins), binning)))


def adaptive_ece(probabilities: Tensor, labels: Tensor, n_bins: int = 15) -> float:
    """Return the adaptive calibration error: that of every class by itself, in bins of equal mass, averaged.

        1/classes sum_k sum_r w_kr |accuracy_kr - confidence_kr|

    Class k is taken as the question "is it k?": the confidence of all n examples is their probability of k, the
    accuracy is the share with label k, and w_kr is the share of examples in bin r. Where all bins hold equally many
    this is the 1/(classes n_bins) sum of Nixon et al.; where equal confidences make them unequal, larger ones count
    more.

    Args:
        probabilities: Floats (n, classes) from 0 to 1 whose rows sum to 1.
        labels: True classes, integers (n,) from 0 to classes - 1.
        n_bins: Number of bins, from 1.

    Raises:
        InputError: Predictions or labels are no such thing, or there are fewer than 1 bins.

    Example:
        >>> round(adaptive_ece(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1]), n_bins=2), 4)
        0.15

    References:
        Nixon, Dusenberry, Jerfel, Nguyen, Liu, Zhang, Tran: Measuring Calibration in Deep Learning,
        arXiv:1904.01685, 2019.
    """
    probabilities = checked_probabilities(probabilities, labels)
    n_bins = _checked_bins(n_bins)
    errors = [
        _error(*_bins(confidences, labels == k, n_bins, "mass")[1:], "l1")
        for k, confidences in enumerate(probabilities.T.contiguous())
    ]
    return torch.stack(errors).mean().item()


def brier(probabilities: Tensor, labels: Tensor) -> float:
    """Return the Brier score, the mean over examples of sum_k (p_k - [label = k])^2, from 0 (best) to 2.

    Args:
        probabilities: Floats (n, classes) from 0 to 1 whose rows sum to 1.
        labels: True classes, integers (n,) from 0 to classes - 1.

    Raises:
        InputError: Predictions or labels are no such thing.

    Example:
        >>> round(brier(torch.tensor([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([0, 0])), 4)
        0.37

    References:
        Brier: Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 78, 1950.
    """
    probabilities = checked_probabilities(probabilities, labels)
    of_label = probabilities.gather(1, labels.long()[:, None])[:, 0]
    return (probabilities.square().sum(1) - 2 * of_label + 1).mean().item()


def _checked_bins(n_bins: int) -> int:
    if n_bins < 1:
        raise InputError(f"n_bins {n_bins}: write at least 1")
    return n_bins


def _bins(confidences: Tensor, right: Tensor, n_bins: int, binning: Binning) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return edges, and mean confidence, accuracy and count of the bins."""
    inner = torch.arange(1, n_bins, device=confidences.device)
    if binning == "mass":
        size, longer = divmod(len(confidences), n_bins)
        last = (inner * size + inner.clamp(max=longer) - 1).clamp_min(0)
        cuts = confidences.sort().values[last]
    else:
        cuts = inner.double() / n_bins
    bins = torch.searchsorted(cuts, confidences)
    values = torch.stack([confidences, right.double(), torch.ones_like(confidences)], 1)
    confidence, accuracy, count = values.new_zeros(n_bins, 3).index_add_(0, bins, values).T
    edges = torch.cat([cuts.new_zeros(1), cuts, cuts.new_ones(1)])
    return edges, confidence / count, accuracy / count, count.long()


def _error(confidence: Tensor, accuracy: Tensor, count: Tensor, norm: Norm) -> Tensor:
    gaps = (accuracy - confidence).abs().nan_to_num(0)
    if norm == "max":
        return gaps.max()
    shares = count / count.sum().double()
    return (shares @ gaps.square()).sqrt() if norm == "l2" else shares @ gaps
