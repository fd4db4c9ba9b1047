"""Temperature scaling: one number that makes a classifier as sure as it should be, without changing what it names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from switch_ema.analysis.predictions import checked_logits
from switch_ema.errors import InputError
from switch_ema.libraries import require

_WIDEST = 1e6  # times the range of the logits, or its inverse: beyond, the scaled softmax is a step, or flat


@final
@dataclass(frozen=True)
class Temperature:
    """A fitted temperature, and the mean negative log-likelihood in nats of the data it was fitted on."""

    temperature: float
    """To divide logits by. Above 1: the classifier was too sure."""
    nll_before: float
    nll_after: float


def fit_temperature(logits: Tensor, labels: Tensor) -> Temperature:
    """Find the temperature T that gives held-out labels the highest likelihood.

        T = argmin mean_i [log sum_k exp(z_ik / T) - z_iy / T]

    In b = 1/T this is convex, with the derivative mean_i [sum_k p_ik z_ik - z_iy], which grows with b; its root is
    found by Brent's method in float64, to twelve digits. There is a root above 0 only if some example is wrong (else T
    falls to 0) and the label's logit is on average above the mean of all classes' (else T grows to infinity).

    Args:
        logits: Finite floats (n, classes), of data that the classifier was not trained on and that the calibration
            error is not measured on. With wrong labels among them the fit answers to the wrong labels too.
        labels: True classes, integers (n,) from 0 to classes - 1.

    Returns:
        The temperature, and the likelihood without and with it.

    Raises:
        InputError: Logits or labels are no such thing, or the temperature does not converge.

    Example:
        Sure by 0.95 but right in three of four: at temperature log(19) / log(3) it says 0.75.

        >>> import math
        >>> logits = torch.tensor([[0.0, math.log(19)]]).expand(4, 2)
        >>> round(fit_temperature(logits, torch.tensor([1, 1, 1, 0])).temperature, 4)
        2.6801

    References:
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, arXiv:1706.04599, 2017.
    """
    require("temperature scaling", "scipy")
    from scipy.optimize import brentq

    logits = checked_logits(logits, labels)
    labels = labels.long()
    below = logits - logits.amax(1, keepdim=True)  # at most 0: no exponential overflows, and all right gives exactly 0
    of_label = below.gather(1, labels[:, None])[:, 0].mean()
    spread = -below.min().item()

    def slope(log_inverse: float) -> float:
        probabilities = (below * math.exp(log_inverse)).softmax(1)
        return ((probabilities * below).sum(1).mean() - of_label).item()

    if spread == 0:
        raise _no_root("all logits of every example are equal, any temperature gives the same", "check the classifier")
    low, high = (math.log(width / spread) for width in (1 / _WIDEST, _WIDEST))
    if slope(high) <= 0:
        raise _no_root(
            "every example is named right, so it falls to 0", "fit it on more held-out data, never on training data"
        )
    if slope(low) >= 0:
        raise _no_root(
            "logits say no more of the labels than chance, so it grows to infinity",
            "check that logits and labels belong together, and that the classifier is trained",
        )
    inverse = math.exp(brentq(slope, low, high, xtol=1e-12))
    before, after = cross_entropy(logits, labels), cross_entropy(logits * inverse, labels)
    return Temperature(1 / inverse, *torch.stack([before, after]).tolist())


def _no_root(why: str, advice: str) -> InputError:
    return InputError(f"temperature does not converge: {why}; {advice}")
