"""The plane through three inputs of a classifier, such as images of three classes, and what it says there.

References:
    Somepalli, Fowl, Bansal, Yeh-Chiang, Dar, Baraniuk, Goldblum, Goldstein: Can Neural Nets Learn the Same Model Twice?
    Investigating Reproducibility and Double Descent from the Decision Boundary Perspective, arXiv:2203.08124, 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from switch_ema.analysis.boundary import Regions, decision_grid
from switch_ema.errors import InputError

_FLAT = "inputs lie on one line, or two are the same; give three that span a plane"


class Plane(NamedTuple):
    """The plane through three inputs.

    The point (x, y) stands for the input ``origin + x * right + y * up``, where right and up are orthogonal and equally
    long: as long as the first two inputs are apart. So distances keep their proportions, and the first input lies at
    (0, 0), the second at (1, 0) and the third at (a, b) with b > 0.

    Attributes:
        origin: The first input, float64 of the inputs' shape, as are the next two.
        right: What a step of 1 in x adds.
        up: What a step of 1 in y adds.
        places: Where the three inputs lie, float64 (3, 2), on the CPU.
    """

    origin: Tensor
    right: Tensor
    up: Tensor
    places: Tensor

    def at(self, points: Tensor) -> Tensor:
        """Return the inputs at some points: (n, 2) to (n, *shape), in float64."""
        x, y = (part.to(self.origin).view(-1, *[1] * self.origin.dim()) for part in points.unbind(1))
        return self.origin + x * self.right + y * self.up


class ImagePlane(NamedTuple):
    """What a classifier says on the plane through three inputs.

    Attributes:
        regions: Its answers.
        places: Where the three inputs lie on the plane, float64 (3, 2).
    """

    regions: Regions
    places: Tensor


def plane_through(inputs: Tensor | Sequence[Tensor]) -> Plane:
    """Return the plane through three inputs.

    With v2 and v3 the differences of the second and third input to the first, and a = v2 v3 / |v2|^2,

        right = v2    up = (v3 - a v2) |v2| / |v3 - a v2|    b = |v3 - a v2| / |v2|

    Args:
        inputs: Three inputs of one shape, such as images (3, channels, height, width).

    Returns:
        The plane, on the inputs' device.

    Raises:
        InputError: They are not three of one shape, not finite, or lie on one line.

    Example:
        >>> plane_through(torch.tensor([[0.0, 0.0, 5.0], [2.0, 0.0, 5.0], [2.0, 4.0, 5.0]])).places.tolist()
        [[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]
    """
    shapes = [tuple(one.shape) for one in inputs]
    if len(shapes) != 3 or len(set(shapes)) != 1:
        raise InputError(f"inputs of shapes {shapes}: a plane goes through three of one shape; give three")
    first, second, third = (one.detach().double() for one in inputs)
    right, v3 = second - first, third - first
    length, distance = float(right.norm()), float(v3.norm())
    if not math.isfinite(length + distance):
        raise InputError("inputs are not finite; give three without nan or infinity")
    if not length:
        raise InputError(_FLAT)
    a = float((right * v3).sum()) / length**2
    across = v3 - a * right
    height = float(across.norm())
    if height <= 1e-6 * max(length, distance):
        raise InputError(_FLAT)
    places = torch.tensor([[0.0, 0.0], [1.0, 0.0], [a, height / length]], dtype=torch.float64)
    return Plane(first, right, across * (length / height), places)


def image_plane(
    model: nn.Module,
    inputs: Tensor | Sequence[Tensor],
    *,
    resolution: int = 51,
    margin: float = 0.1,
    chunk: int = 256,
) -> ImagePlane:
    """Ask a classifier about the plane through three inputs, such as images of three classes.

    The grid covers the three inputs (see `Plane` for the coordinates) and a margin around them.

    Args:
        model: Any classifier (see `decision_grid`).
        inputs: Three inputs of one shape, as the model takes them but for the batch.
        resolution: Points of each axis, at least 2.
        margin: Width of the margin as a share of the triangle's extent along each axis, at least 0.
        chunk: Inputs in a batch, at least 1.

    Returns:
        The answers, and where the three inputs lie.

    Raises:
        InputError: As for `decision_grid` and `plane_through`, or resolution or margin are out of range.

    Example:
        >>> images = torch.eye(3).view(3, 1, 1, 3)
        >>> plane = image_plane(nn.Flatten(), images, resolution=5)
        >>> plane.regions.classes.shape, plane.places.shape
        (torch.Size([5, 5]), torch.Size([3, 2]))
    """
    if resolution < 2:
        raise InputError(f"resolution {resolution}: write at least 2 points of each axis")
    if not 0 <= margin < math.inf:
        raise InputError(f"margin {margin:g}: write a share of at least 0, such as 0.1")
    plane = plane_through(inputs)
    low, high = plane.places.amin(0), plane.places.amax(0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    xs, ys = (torch.linspace(float(low[axis]), float(high[axis]), resolution, dtype=torch.float64) for axis in range(2))
    return ImagePlane(decision_grid(model, xs, ys, at=plane.at, chunk=chunk), plane.places)
