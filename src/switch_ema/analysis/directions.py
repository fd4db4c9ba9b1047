"""Directions in weight space: random ones, and those of a trajectory.

They are chosen once, from given weights, so that one plane can hold the solutions of several methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from switch_ema.analysis.objective import Direction
from switch_ema.analysis.weights import Distances as Distances
from switch_ema.analysis.weights import Projection, named
from switch_ema.analysis.weights import difference as difference
from switch_ema.analysis.weights import distances as distances
from switch_ema.analysis.weights import project as project
from switch_ema.errors import InputError, unknown

Normalization = Literal["filter", "none"]

_SMALLEST_SHARE = 1e-10  # of the largest variance: below it is the rounding of the products


@dataclass(frozen=True)
class PrincipalDirections:
    """The directions along which a trajectory extends most.

    Attributes:
        directions: Orthonormal, the most important one first.
        explained_variance: Share of the squared distances from the centre that each of them explains, in [0, 1].
        projections: Where every snapshot of the trajectory lies.
    """

    directions: tuple[dict[str, Tensor], ...]
    explained_variance: tuple[float, ...]
    projections: tuple[Projection, ...]


def random_direction(
    weights: Mapping[str, Tensor],
    *,
    seed: int,
    normalization: Normalization = "filter",
    biases_and_norms: bool = False,
) -> dict[str, Tensor]:
    """Draw a direction of independent standard normal numbers, drawn on the CPU so that devices agree.

    Args:
        weights: Weights by name, such as `Objective.parameters`.
        seed: Decides the direction; torch's global random generator is left alone.
        normalization: ``filter`` (see `filter_normalized`) or ``none``.
        biases_and_norms: Whether biases and the parameters of normalisation layers (all tensors of at most one
            dimension) move too; left out by default, as in the paper ("xignore biasbn" in its code).

    Returns:
        Tensors like the weights' by name.

    Raises:
        InputError: The normalization is unknown, or no weight can move.

    References:
        Li, Xu, Taylor, Studer, Goldstein: Visualizing the Loss Landscape of Neural Nets, arXiv:1712.09913, 2017.

    Example:
        >>> drawn = random_direction({"weight": torch.full((2, 8), 3.0), "bias": torch.ones(2)}, seed=0)
        >>> list(drawn), torch.linalg.vector_norm(drawn["weight"], dim=1).tolist()  # sqrt(8 * 3^2)
        (['weight'], [8.485280990600586, 8.485280990600586])
    """
    if normalization not in ("filter", "none"):
        raise unknown("normalization", normalization, ("filter", "none"))
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randn(weight.shape, generator=generator).to(weight)
        for name, weight in weights.items()
        if weight.is_floating_point() and (biases_and_norms or weight.dim() > 1)
    }
    if not drawn:
        raise InputError("no weight has more than one dimension; write biases_and_norms=True to move the others")
    return filter_normalized(drawn, weights) if normalization == "filter" else drawn


def filter_normalized(direction: Direction, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scale every filter of a direction to the norm of the same filter of the weights.

    d_ij <- d_ij / ||d_ij|| * ||w_ij|| for filter j of layer i, which is w_i[j]: what makes one output channel of a
    convolution, or one output of a linear layer. An element of a bias or norm parameter is a filter of its own. This
    takes out the scale of the weights, to which the loss of a network with normalisation layers is blind.

    Args:
        direction: Tensors by name.
        weights: Weights with at least these names, in the same shapes.

    Returns:
        The scaled direction; filters that are 0 stay 0.

    Raises:
        InputError: A name of the direction is not among the weights.

    References:
        Li, Xu, Taylor, Studer, Goldstein: Visualizing the Loss Landscape of Neural Nets, arXiv:1712.09913, 2017
        (section 4).

    Example:
        >>> weights = {"weight": torch.tensor([[3.0, 4.0], [0.0, 1.0]])}
        >>> filter_normalized({"weight": torch.tensor([[0.0, 2.0], [2.0, 0.0]])}, weights)["weight"].tolist()
        [[0.0, 5.0], [1.0, 0.0]]
    """
    scaled = {}
    for name, move in direction.items():
        weight = named(weights, name, move)
        length, wanted = _filter_norms(move), _filter_norms(weight)
        scaled[name] = move * torch.where(length > 0, wanted / length, 0.0).to(move)
    return scaled


def principal_directions(
    trajectory: Sequence[Mapping[str, Tensor]], centre: Mapping[str, Tensor] | None = None, *, num_directions: int = 2
) -> PrincipalDirections:
    """Return the directions along which snapshots extend most from a centre (principal component analysis about it).

    The right singular vectors of the matrix of rows w_t - centre; usual principal components are about the mean.

    Args:
        trajectory: Snapshots of the weights by name, with at least the names of the centre.
        centre: Origin of the plane; the last snapshot if not given.
        num_directions: From 1 to the number of snapshots that differ from the centre.

    Returns:
        Directions, the share of each, and where the snapshots lie. The sign of a direction makes the coordinate of
        largest size positive.

    Raises:
        InputError: The snapshots do not extend in so many directions, or names or shapes do not match.

    References:
        Li, Xu, Taylor, Studer, Goldstein: Visualizing the Loss Landscape of Neural Nets, arXiv:1712.09913, 2017
        (section 7).

    Example:
        >>> walk = [{"w": torch.tensor([4.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}, {"w": torch.zeros(2)}]
        >>> found = principal_directions(walk)
        >>> found.explained_variance, [snapshot.coordinates for snapshot in found.projections]
        ((0.8, 0.2), [(4.0, 0.0), (0.0, 2.0), (0.0, 0.0)])
    """
    if not trajectory:
        raise InputError("the trajectory is empty; give the weights at several times")
    centre = trajectory[-1] if centre is None else centre
    away = [difference(snapshot, centre) for snapshot in trajectory]
    gram = torch.stack([rows @ rows.T for rows in _matrices(away).values()]).sum(0)
    variances, vectors = (part.flip(-1) for part in torch.linalg.eigh(gram))  # the largest first
    extent = int((variances > _SMALLEST_SHARE * variances[0]).sum())
    if not 1 <= num_directions <= extent:
        raise InputError(f"num_directions {num_directions}: the trajectory extends in {extent} directions")
    vectors = vectors[:, :num_directions]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))  # its sign is arbitrary
    mix = (vectors * largest.sign() / variances[:num_directions].sqrt()).T
    mixed = {name: mix @ rows for name, rows in _matrices(away).items()}
    rest = torch.linalg.cholesky(torch.stack([rows @ rows.T for rows in mixed.values()]).sum(0))  # all but the identity
    exact = {name: torch.linalg.solve_triangular(rest, rows, upper=False) for name, rows in mixed.items()}
    directions = tuple(
        {name: exact[name][k].reshape(like.shape).to(like.dtype) for name, like in away[0].items()}
        for k in range(num_directions)
    )
    explained = (variances[:num_directions] / variances.clamp(min=0).sum()).tolist()
    projections = tuple(project(snapshot, centre, directions) for snapshot in trajectory)
    return PrincipalDirections(directions, tuple(explained), projections)


def _matrices(away: Sequence[Direction]) -> dict[str, Tensor]:
    """Return (snapshots, elements) in float64 for every tensor by name."""
    return {name: torch.stack([each[name].double().flatten() for each in away]) for name in away[0]}


def _filter_norms(tensor: Tensor) -> Tensor:
    """Return the norm of each filter, to be multiplied with the tensor."""
    if tensor.dim() < 2:
        return tensor.detach().double().abs()
    dims = tuple(range(1, tensor.dim()))
    norms: Tensor = torch.linalg.vector_norm(tensor.detach(), dim=dims, keepdim=True, dtype=torch.float64)
    return norms
