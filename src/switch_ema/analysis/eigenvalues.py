"""The largest eigenvalues of a curvature matrix, with their eigenvectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from switch_ema.analysis.curvature import Curvature
from switch_ema.errors import FieldError, InputError

_SMALLEST_BASIS = 40  # vectors; a matrix of no more rows is diagonalised whole


@final
@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """The largest eigenvalues of a curvature matrix.

    Attributes:
        values: From the largest on, by sign (not by magnitude), each as often as it is repeated.
        vectors: Eigenvectors of norm 1 by parameter name, for `Objective.along`; the largest entry is positive.
        residuals: |A v - value v|; there is an eigenvalue at most this far from the value.
        num_matvecs: Products spent.
    """

    values: tuple[float, ...]
    vectors: tuple[dict[str, Tensor], ...]
    residuals: tuple[float, ...]
    num_matvecs: int


def top_eigenvalues(
    curvature: Curvature, k: int = 1, *, num_matvecs: int = 500, tol: float = 1e-4, seed: int = 0
) -> Eigenpairs:
    """Find the k largest eigenvalues and their eigenvectors.

    Block Lanczos with thick restarts: the residuals A v - theta v of the k best approximations widen the space in which
    the next ones are sought, until |A v - theta v| <= tol max |theta| for all k. The error of an eigenvalue is of the
    order of its squared residual. A block finds repeated eigenvalues, some of which Lanczos from one vector may miss
    (scipy's `eigsh` does). Matrices of at most max(40, 4 k) rows are diagonalised whole, for one product a row.

    Args:
        curvature: The matrix.
        k: Number of eigenvalues, from 1 to the number of parameters.
        num_matvecs: The most products to spend.
        tol: Residual to reach, relative to the largest magnitude seen; about 1e-6 is the least for float32.
        seed: Draws the first vectors, on the CPU.

    Returns:
        Eigenvalues, vectors and residuals.

    Raises:
        InputError: An argument is out of range, or `num_matvecs` are not enough.

    Example:
        >>> from torch import nn
        >>> from switch_ema.analysis.hessian import hessian
        >>> from switch_ema.analysis.objective import Objective, supervised
        >>> batches = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.zeros(2, 1))]  # the loss is (a^2 + 9 b^2) / 2
        >>> objective = Objective(nn.Linear(2, 1, bias=False), supervised(nn.functional.mse_loss), batches)
        >>> top = top_eigenvalues(hessian(objective), k=2)
        >>> top.values, top.vectors[0]["weight"].tolist()
        ((9.0, 1.0), [[0.0, 1.0]])

    References:
        Wu, Simon: Thick-Restart Lanczos Method for Large Symmetric Eigenvalue Problems, SIAM Journal on Matrix Analysis
        and Applications 22(2), 2000.
    """
    if not 1 <= k <= curvature.dim:
        raise InputError(
            f"k {k}: the {curvature.name} has {curvature.dim} eigenvalues, one for each parameter; "
            f"write a number from 1 to {curvature.dim}"
        )
    if not 0 < tol < 1:
        raise InputError(f"tol {tol:g}: write a number between 0 and 1, such as 1e-4")
    most = max(_SMALLEST_BASIS, 4 * k)
    if curvature.dim <= most:
        values, vectors, residuals, spent = _whole(curvature, k, num_matvecs)
    else:
        values, vectors, residuals, spent = _lanczos(curvature, k, most, num_matvecs, tol, seed)
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    return Eigenpairs(
        tuple(values.tolist()),
        tuple(curvature.direction(vector) for vector in (vectors * signs).T),
        tuple(residuals.tolist()),
        spent,
    )


def _whole(curvature: Curvature, k: int, num_matvecs: int) -> tuple[Tensor, Tensor, Tensor, int]:
    if num_matvecs < curvature.dim:
        raise FieldError(
            "num_matvecs",
            f"{num_matvecs}: a {curvature.name} of {curvature.dim} rows is diagonalised whole; "
            f"write at least {curvature.dim}",
        )
    matrix = curvature.dense().double()
    values, vectors = torch.linalg.eigh(matrix)
    wanted, best = values.flip(0)[:k], vectors.flip(1)[:, :k]
    return wanted, best.to(curvature.dtype), (matrix @ best - best * wanted).norm(dim=0), curvature.dim


def _lanczos(
    curvature: Curvature, k: int, most: int, num_matvecs: int, tol: float, seed: int
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return values (k,), vectors (dim, k), residuals (k,) and the number of products."""
    start = torch.randn(curvature.dim, k + 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis = products = torch.empty(curvature.dim, 0, device=curvature.device, dtype=curvature.dtype)
    new = torch.linalg.qr(start.to(basis))[0]  # two more than wanted, for eigenvalues that are close to the last
    spent, reached = 0, "none was tried"
    while spent + new.shape[1] <= num_matvecs:
        basis, products = torch.cat([basis, new], 1), torch.cat([products, curvature @ new], 1)
        spent += new.shape[1]
        inner = (basis.T @ products).double()
        values, mixes = torch.linalg.eigh((inner + inner.T) / 2)
        wanted, mixes = values.flip(0)[:k], mixes.flip(1).to(basis)
        best = basis @ mixes[:, :k]
        differences = products @ mixes[:, :k] - best * wanted.to(basis)
        residuals, scale = differences.norm(dim=0), values.abs().max()
        missing = residuals > tol * scale
        if not missing.any():
            return wanted, best, residuals, spent
        reached = (
            f"{k - int(missing.sum())} of {k} were found, the largest residual is {float(residuals.max() / scale):.1e}"
        )
        if basis.shape[1] + k > most:
            basis, products = basis @ mixes[:, : most // 2], products @ mixes[:, : most // 2]
        new = _outside(basis, (differences / residuals)[:, missing])
    raise FieldError(
        "num_matvecs",
        f"{num_matvecs}: not enough for the top {k} of the {curvature.name} to tol {tol:g} ({reached}); "
        f"write {2 * max(num_matvecs, most)}, or ask for less by k or tol",
    )


def _outside(basis: Tensor, vectors: Tensor) -> Tensor:
    """Return orthonormal vectors that are orthogonal to the basis as well; twice, for rounding."""
    for _ in range(2):
        vectors = torch.linalg.qr(vectors - basis @ (basis.T @ vectors))[0]
    return vectors
