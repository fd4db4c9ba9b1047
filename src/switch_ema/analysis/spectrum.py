"""Trace and spectral density of a curvature matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from switch_ema.analysis.curvature import Curvature
from switch_ema.errors import InputError, unknown


@final
@dataclass(frozen=True)
class Trace:
    """An estimate of the trace of a curvature matrix.

    Attributes:
        value: The estimate.
        standard_error: Of the value, over the random vectors; 0 where the trace is exact.
        num_matvecs: Products spent.
    """

    value: float
    standard_error: float
    num_matvecs: int


@final
@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """How the eigenvalues of a curvature matrix are spread: a probability measure, each eigenvalue counting 1 / dim.

    Attributes:
        nodes: Places (probes, steps) of point masses, in float64 on the CPU.
        weights: Their masses, which sum to 1 for each probe.
        num_matvecs: Products spent.
    """

    nodes: Tensor
    weights: Tensor
    num_matvecs: int

    @property
    def mean(self) -> float:
        """The mean eigenvalue, trace / dim: the first moment."""
        return float((self.nodes * self.weights).sum() / len(self.nodes))

    def smooth(self, width: float | None = None, num_points: int = 1024) -> tuple[Tensor, Tensor]:
        """Draw the measure as a curve, each point mass as a normal density.

        Args:
            width: Standard deviation of the normal densities, in units of the eigenvalues; if not given, one percent of
                the range of the nodes.
            num_points: Points of the curve, at equal distances, from 2 on.

        Returns:
            Places (num_points,), up to 6 widths beyond the nodes, and densities (num_points,), which integrate to 1.

        Raises:
            InputError: The points are farther apart than the width, or an argument is out of range.
        """
        low, high = float(self.nodes.min()), float(self.nodes.max())
        if width is None:
            width = (high - low) / 100 or max(abs(low), 1.0) / 100
        if not 0 < width < math.inf:
            raise InputError(f"width {width:g}: write a number above 0")
        span = high - low + 12 * width
        if num_points < 2 or span / (num_points - 1) > width:
            enough = math.ceil(span / width) + 1
            raise InputError(f"num_points {num_points}: too few for a width of {width:g}; write at least {enough}")
        places = torch.linspace(low - 6 * width, high + 6 * width, num_points, dtype=torch.float64)
        distances = (places - self.nodes.reshape(-1, 1)) / width
        bumps = torch.exp(-distances.square() / 2) / (width * math.sqrt(2 * math.pi))
        return places, self.weights.reshape(-1) @ bumps / len(self.nodes)


def trace(
    curvature: Curvature,
    *,
    num_matvecs: int = 100,
    method: Literal["hutch++", "hutchinson"] = "hutch++",
    seed: int = 0,
) -> Trace:
    """Estimate the trace, which is the sum of all eigenvalues.

    Hutchinson: the mean of g^T A g over random signs g, E[g g^T] = I. Hutch++ spends a third of the products on an
    orthonormal basis Q of A S, S random signs, a third on the trace in its span, and leaves only the rest to chance:

        tr(A) = tr(Q^T A Q) + E[g^T (I - Q Q^T) A (I - Q Q^T) g]

    Both are unbiased. With as many products as rows the trace is summed exactly instead. (curvlinops has both as well,
    without the standard error and from the global random generator.)

    Args:
        curvature: The matrix.
        num_matvecs: The most products to spend: at least 6, or 2 for Hutchinson.
        method: ``hutch++``, better where few eigenvalues are large, or ``hutchinson``, which keeps fewer vectors.
        seed: Draws the random vectors, on the CPU.

    Returns:
        The trace with its standard error over the random vectors g.

    Raises:
        InputError: The method is unknown, or the products are too few.

    Example:
        >>> from torch import nn
        >>> from switch_ema.analysis.hessian import hessian
        >>> from switch_ema.analysis.objective import Objective, supervised
        >>> batches = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.zeros(2, 1))]  # the loss is (a^2 + 9 b^2) / 2
        >>> objective = Objective(nn.Linear(2, 1, bias=False), supervised(nn.functional.mse_loss), batches)
        >>> trace(hessian(objective))
        Trace(value=10.0, standard_error=0.0, num_matvecs=2)

    References:
        Hutchinson: A Stochastic Estimator of the Trace of the Influence Matrix for Laplacian Smoothing Splines,
        Communications in Statistics - Simulation and Computation 18(3), 1989.
        Meyer, Musco, Musco, Woodruff: Hutch++: Optimal Stochastic Trace Estimation, arXiv:2010.09649, 2020.
    """
    if method not in ("hutch++", "hutchinson"):
        raise unknown("method", method, ("hutch++", "hutchinson"))
    least = 6 if method == "hutch++" else 2
    if num_matvecs >= curvature.dim:
        return Trace(float(curvature.dense().double().trace()), 0.0, curvature.dim)
    if num_matvecs < least:
        raise InputError(f"num_matvecs {num_matvecs}: {method} needs at least {least}")
    generator = torch.Generator().manual_seed(seed)
    rank = num_matvecs // 3 if method == "hutch++" else 0
    basis = (
        torch.linalg.qr(curvature @ _signs(curvature, rank, generator))[0] if rank else _signs(curvature, 0, generator)
    )
    inside = (basis * (curvature @ basis)).double().sum() if rank else 0.0
    probes = _signs(curvature, num_matvecs - 2 * rank, generator)
    probes -= basis @ (basis.T @ probes)
    outside = (probes * (curvature @ probes)).double().sum(0)
    error = outside.std() / math.sqrt(len(outside))
    return Trace(float(inside + outside.mean()), float(error), num_matvecs)


def spectral_density(
    curvature: Curvature, *, num_matvecs: int = 200, num_probes: int = 4, seed: int = 0
) -> SpectralDensity:
    """Approximate the density of the eigenvalues, p(x) = 1 / dim sum_i delta(x - lambda_i).

    Stochastic Lanczos quadrature: from a random unit vector v, m steps of Lanczos give a tridiagonal matrix T. Its
    eigenvalues are the nodes theta_j, the squared first entries of its eigenvectors the weights w_j of a Gauss
    quadrature: sum_j w_j f(theta_j) = v^T f(A) v for every polynomial f of degree up to 2 m - 1, and the mean of that
    over v is tr(f(A)) / dim. All probes go on together.

    Args:
        curvature: The matrix.
        num_matvecs: The most products to spend; each probe makes num_matvecs // num_probes steps, at most dim.
        num_probes: Number of random vectors, from 1 on. More probes lessen the noise, more steps resolve more detail.
        seed: Draws the random vectors, on the CPU.

    Returns:
        Nodes and weights; `SpectralDensity.smooth` makes a curve of them.

    Raises:
        InputError: There is not a product for each probe, or there are no probes.

    References:
        Ghorbani, Krishnan, Xiao: An Investigation into Neural Net Optimization via Hessian Eigenvalue Density,
        arXiv:1901.10159, 2019.
        Papyan: Traces of Class/Cross-Class Structure Pervade Deep Learning Spectra, arXiv:2008.11865, 2020
        (algorithm 2).
    """
    if num_probes < 1:
        raise InputError(f"num_probes {num_probes}: write at least 1")
    if num_matvecs < num_probes:
        raise InputError(f"num_matvecs {num_matvecs}: write at least one for each of the {num_probes} probes")
    steps = min(num_matvecs // num_probes, curvature.dim)
    start = torch.randn(curvature.dim, num_probes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    diagonal, beside = _tridiagonal(curvature, (start / start.norm(dim=0)).to(curvature.device, curvature.dtype), steps)
    matrices = torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    nodes, vectors = torch.linalg.eigh(matrices)
    return SpectralDensity(nodes, vectors[:, 0].square(), steps * num_probes)


def _tridiagonal(curvature: Curvature, vectors: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return diagonals (probes, steps) and off-diagonals (probes, steps - 1) in float64 on the CPU, by Lanczos.

    Without reorthogonalisation: rounding repeats nodes, with the weight shared among them, and the density stays.
    """
    diagonal, beside = [], []
    before, norms = torch.zeros_like(vectors), vectors.new_zeros(vectors.shape[1])
    for _ in range(steps):
        after = curvature @ vectors - norms * before
        overlaps = (after * vectors).sum(0)
        after -= overlaps * vectors
        norms = after.norm(dim=0)
        diagonal.append(overlaps)
        beside.append(norms)
        before, vectors = vectors, torch.where(norms > 0, after / norms, 0.0)  # an exhausted space adds no weight
    return torch.stack(diagonal, 1).double().cpu(), torch.stack(beside[:-1], 1).double().cpu()


def _signs(curvature: Curvature, columns: int, generator: torch.Generator) -> Tensor:
    """Draw random signs (dim, columns)."""
    bits = torch.randint(0, 2, (curvature.dim, columns), generator=generator)
    return (2 * bits - 1).to(curvature.device, curvature.dtype)
