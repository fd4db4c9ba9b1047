"""Weights by name, compared: differences, distances, and where a solution lies beside a plane.

Weights are a model's state dict, or `Objective.parameters`. Where two are compared, the names of the second one, the
centre, decide: pass parameters there to leave the statistics of BatchNorm out, or a state dict to have them take part.
Integers are always left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switch_ema.analysis.objective import Direction
from switch_ema.errors import InputError, suggestion


@dataclass(frozen=True)
class Projection:
    """Where weights lie beside a plane.

    Attributes:
        coordinates: Of the nearest point of the plane, one for each direction.
        residual: L2 distance from that point.
    """

    coordinates: tuple[float, ...]
    residual: float


@dataclass(frozen=True)
class Distances:
    """How far weights are apart.

    Attributes:
        l2: ||a - b||.
        relative: ||a - b|| / ||b||; infinite if b is 0.
        cosine: a . b / (||a|| ||b||), in [-1, 1]; nan if one is 0.
        layers: ||a - b|| for each tensor by name.
    """

    l2: float
    relative: float
    cosine: float
    layers: dict[str, float]


def difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the direction a - b, which leads from b to a.

    Args:
        a: Weights by name, with at least the names of b.
        b: Weights by name; they decide which names take part.

    Returns:
        A difference for every floating-point tensor of b, in its type and on its device.

    Raises:
        InputError: A name of b is missing in a, or shapes differ.

    Example:
        >>> difference({"w": torch.tensor([3.0]), "steps": torch.tensor(7)}, {"w": torch.tensor([1.0])})
        {'w': tensor([2.])}
    """
    floats = {name: tensor.detach() for name, tensor in b.items() if tensor.is_floating_point()}
    return {name: named(a, name, tensor) - tensor for name, tensor in floats.items()}


def project(weights: Mapping[str, Tensor], centre: Mapping[str, Tensor], directions: Sequence[Direction]) -> Projection:
    """Return the coordinates c of the nearest point centre + sum_k c_k directions[k], by least squares in float64.

    Args:
        weights: Weights by name, with at least the names of the centre.
        centre: Origin of the plane; its names decide what takes part.
        directions: Any number of them, which need not be orthogonal or of length 1; a name that is absent counts as 0.

    Returns:
        Coordinates, and the distance out of the plane. Where directions depend on each other, the coordinates of
        smallest norm are taken.

    Raises:
        InputError: Names or shapes do not match.

    Example:
        >>> centre = {"w": torch.zeros(3)}
        >>> directions = [{"w": torch.tensor([1.0, 0.0, 0.0])}, {"w": torch.tensor([1.0, 1.0, 0.0])}]
        >>> found = project({"w": torch.tensor([3.0, 2.0, 5.0])}, centre, directions)
        >>> [round(c, 6) for c in found.coordinates], round(found.residual, 6)
        ([1.0, 2.0], 5.0)
    """
    for direction in directions:
        for name, move in direction.items():
            named(centre, name, move)
    away = difference(weights, centre)
    gram = torch.stack([torch.stack([dot(one, other) for other in directions]) for one in directions])
    inner = torch.stack([dot(one, away) for one in directions])
    coordinates = torch.linalg.pinv(gram, hermitian=True) @ inner
    rest = {name: tensor.double() for name, tensor in away.items()}
    for coordinate, direction in zip(coordinates, directions, strict=True):
        rest |= {
            name: rest[name] - coordinate * direction[name].to(rest[name]) for name in rest.keys() & direction.keys()
        }
    return Projection(tuple(coordinates.tolist()), _norm(rest))


def distances(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Distances:
    """Measure how far weights are apart, in float64.

    Args:
        a: Weights by name, with at least the names of b.
        b: Weights by name; they decide which names take part.

    Returns:
        Distances of all weights and of each tensor.

    Raises:
        InputError: A name of b is missing in a, or shapes differ.

    Example:
        >>> found = distances({"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([0.0, 4.0])})
        >>> found.l2, found.relative, found.cosine
        (5.0, 1.25, 0.0)
    """
    ours, theirs = _doubles({name: named(a, name, tensor) for name, tensor in b.items()}), _doubles(b)
    apart = difference(ours, theirs)
    layers = {name: float(torch.linalg.vector_norm(tensor)) for name, tensor in apart.items()}
    l2, length = _norm(apart), _norm(theirs)
    product = length * _norm(ours)
    cosine = max(-1.0, min(1.0, float(dot(ours, theirs)) / product)) if product else math.nan
    return Distances(l2, l2 / length if length else math.inf, cosine, layers)


def named(weights: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """Return the weight of a name, on the device of another tensor of the same shape.

    Raises:
        InputError: There is none, or its shape differs.
    """
    if name not in weights:
        raise InputError(f"no weight is named {name!r}{suggestion(name, weights)}; compare weights of the same model")
    weight = weights[name].detach()
    if weight.shape != like.shape:
        raise InputError(
            f"{name} has shape {tuple(weight.shape)} in one and {tuple(like.shape)} in the other; "
            "compare weights of the same model"
        )
    return weight.to(like.device)


def dot(a: Direction, b: Direction) -> Tensor:
    """Return the inner product over the names that both have, in float64."""
    products = [
        torch.dot(a[name].double().flatten(), b[name].to(a[name].device).double().flatten()) for name in a if name in b
    ]
    return torch.stack(products).sum() if products else torch.zeros((), dtype=torch.float64)


def _norm(weights: Mapping[str, Tensor]) -> float:
    lengths = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in weights.values()]
    return float(torch.linalg.vector_norm(torch.stack(lengths)))


def _doubles(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().double() for name, tensor in weights.items() if tensor.is_floating_point()}
