"""Profiles of averages: how much each step of training counts, and how to make one profile out of others.

An average is a sum of the weights that training went through, each times its share; the shares by step are its profile.
What is linear in profiles is linear in averages: coefficients that make one profile from stored ones make its average.

References:
    Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696, 2024
    (Section 3 and Appendix C).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switch_ema.averaging.decay import PowerFunction, sigma_rel_from_gamma

_INDEPENDENT = 1e-13  # profiles that are closer than this to a sum of the others add nothing but rounding

PerStep = Callable[[int], float] | Sequence[float] | Tensor


@dataclass(frozen=True)
class Power:
    """The profile of a power-function average at a step: density `(gamma + 1) x^gamma / step^(gamma + 1)` on (0, step].

    Step i counts with the integral from i - 1 to i; a run that updates every k steps lets one step stand for k.

    Args:
        gamma: Exponent, at least 0; 0 is the plain mean.
        step: The last step that is averaged, at least 1.

    Raises:
        ValueError: If gamma or step is out of range.
    """

    gamma: float
    step: int

    def __post_init__(self) -> None:
        PowerFunction(self.gamma)
        if isinstance(self.step, bool) or not isinstance(self.step, int) or self.step < 1:
            raise ValueError(f"the step of a profile is a whole number of at least 1, got {self.step!r}")

    def weights(self) -> Tensor:
        """Return the share of each step from 1 to `step`, in float64; their sum is 1."""
        edges = torch.arange(self.step + 1, dtype=torch.float64) / self.step
        return torch.diff(edges ** (self.gamma + 1))

    def __str__(self) -> str:
        return f"gamma {self.gamma:g} (sigma_rel {sigma_rel_from_gamma(self.gamma):.4f}) at step {self.step}"


@dataclass(frozen=True)
class Fit:
    """How stored averages are summed to one with another profile.

    Attributes:
        profiles: The profiles of the stored averages.
        coefficients: What each is multiplied by; their sum is 1.
        relative_error: Distance of the resulting profile from the one asked for, relative to the latter (both as
            root mean square over training). Below 1e-8 it is rounding.
    """

    profiles: tuple[Power, ...]
    coefficients: tuple[float, ...]
    relative_error: float

    @property
    def amplification(self) -> float:
        """Sum of the coefficients' sizes, at least 1: by how much rounding in the stored averages may grow."""
        return math.fsum(map(abs, self.coefficients))

    def __str__(self) -> str:
        return (
            f"{len(self.profiles)} stored averages, relative error of the profile {self.relative_error:.2g}, "
            f"rounding times {self.amplification:.3g}"
        )


def per_step(profile: PerStep, step: int) -> Tensor:
    """Return a profile of any shape as the shares of the steps from 1 to `step`, in float64, with sum 1.

    Args:
        profile: A function from the number of a step (1 is the first) to how much it counts; or the numbers themselves.
        step: The last step that is averaged.

    Raises:
        ValueError: If there is not one finite number a step, or their sum is not above 0.

    Example:
        >>> per_step(lambda step: 0.5 ** (3 - step), 3) * 7
        tensor([1., 2., 4.], dtype=torch.float64)
    """
    values = [profile(i) for i in range(1, step + 1)] if callable(profile) else profile
    try:
        weights = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise ValueError("a profile gives one number for each step; write e.g. lambda step: step ** 3") from None
    if weights.shape != (step,):
        raise ValueError(
            f"the profile has shape {tuple(weights.shape)}; give {step} numbers, one for each step until {step}"
        )
    total = weights.sum()
    if not weights.isfinite().all() or not 0 < total < math.inf:
        raise ValueError("the numbers of a profile must be finite and their sum above 0")
    return weights / total


def solve(profiles: Sequence[Power], target: Power | Tensor) -> Fit:
    """Find the sum of profiles, with coefficients that sum to 1, that is nearest to another in least squares.

    Minimizes `||sum_i c_i p_i - q||^2` subject to `sum_i c_i = 1`, from inner products in closed form, in float64.

    Args:
        profiles: The profiles to sum, at least one.
        target: The profile to make; as a tensor, the shares of the steps from 1 on, with sum 1 (see `per_step`).

    Returns:
        The coefficients and how well they do.

    Raises:
        ValueError: If there are no profiles.

    Example:
        >>> fit = solve([Power(6.94, 500), Power(6.94, 1000), Power(16.97, 500), Power(16.97, 1000)], Power(12, 1000))
        >>> f"{sum(fit.coefficients):.6f} {fit.relative_error:.3f}"
        '1.000000 0.046'
    """
    if not profiles:
        raise ValueError("there are no profiles to make another one from; take at least one snapshot")
    gram, with_target, of_target = _inner_products(profiles, target)
    scale = gram.diagonal().rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, None] * gram * scale)
    kept = values > _INDEPENDENT * values[-1]
    values, vectors = values[kept], vectors[:, kept]

    def inverse(v: Tensor) -> Tensor:
        solved: Tensor = scale * (vectors @ ((vectors.T @ (scale * v)) / values))
        return solved

    free, ones = inverse(with_target), inverse(torch.ones_like(with_target))
    coefficients = free + ones * ((1 - free.sum()) / ones.sum())
    coefficients /= coefficients.sum()
    if isinstance(target, Power):
        squared = coefficients @ gram @ coefficients - 2 * coefficients @ with_target + of_target
        error = math.sqrt(max(0.0, float(squared / of_target)))
    else:
        error = _error_by_steps(profiles, coefficients, target)
    return Fit(tuple(profiles), tuple(coefficients.tolist()), error)


def _inner_products(profiles: Sequence[Power], target: Power | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inner products of the profiles with each other, with the target, and of the target with itself."""
    gammas = torch.tensor([p.gamma for p in profiles], dtype=torch.float64)
    steps = torch.tensor([p.step for p in profiles], dtype=torch.float64)
    gram = _inner(gammas[:, None], steps[:, None], gammas, steps)
    if isinstance(target, Power):
        gamma, step = torch.tensor([target.gamma, target.step], dtype=torch.float64)
        return gram, _inner(gammas, steps, gamma, step), _inner(gamma, step, gamma, step)
    rows = []
    for profile in profiles:
        length = min(profile.step, len(target))
        rows.append(profile.weights()[:length] @ target[:length])
    return gram, torch.stack(rows), target @ target


def _error_by_steps(profiles: Sequence[Power], coefficients: Tensor, target: Tensor) -> float:
    """Return the relative error step by step, without what the profiles do within a step, where weights stand still."""
    difference = torch.zeros(max(len(target), *(p.step for p in profiles)), dtype=torch.float64)
    difference[: len(target)] -= target
    for profile, coefficient in zip(profiles, coefficients.tolist(), strict=True):
        difference[: profile.step].add_(profile.weights(), alpha=coefficient)
    return float(difference.norm() / target.norm())


def _inner(gamma: Tensor, step: Tensor, other_gamma: Tensor, other_step: Tensor) -> Tensor:
    """Return the integral of the product of two power profiles.

    With s <= t: `(g + 1) (h + 1) / (g + h + 1) / t * (s / t)^h`, where h is the exponent of the one that ends at t.
    """
    ratio = step / other_step
    fraction: Tensor = torch.where(ratio <= 1, ratio**other_gamma, ratio**-gamma)
    late: Tensor = torch.maximum(step, other_step)
    scale: Tensor = (gamma + 1) * (other_gamma + 1) / (gamma + other_gamma + 1)
    return scale / late * fraction
