"""Decision regions: which class a classifier names at every point of a plane, and what their borders look like.

A plane is a grid of coordinates: the plane of 2-D inputs itself, or one through three inputs of any shape (see
`switch_ema.analysis.image_plane`). Numbers drawn from it depend on the part of the plane and on the grid, so compare
models on the same one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from switch_ema.errors import InputError


@dataclass(frozen=True)
class Regions:
    """What a classifier says on a grid of points.

    Attributes:
        xs: First coordinate of each column, float64 (columns,), rising.
        ys: Second coordinate of each row, float64 (rows,), rising.
        probabilities: Of each class at each point, float64 (rows, columns, classes), on the CPU.
    """

    xs: Tensor
    ys: Tensor
    probabilities: Tensor

    @property
    def classes(self) -> Tensor:
        """The most probable class at each point, int64 (rows, columns)."""
        return self.probabilities.argmax(-1)

    @property
    def confidence(self) -> Tensor:
        """The probability of that class, float64 (rows, columns)."""
        return self.probabilities.amax(-1)

    @property
    def margin(self) -> Tensor:
        """By how much that probability exceeds the next one, float64 (rows, columns) from 0 on a border to 1."""
        first, second = self.probabilities.topk(2, -1).values.unbind(-1)
        return first - second


class RegionMeasures(NamedTuple):
    """Numbers drawn from the regions of one classifier; see `measure_regions`.

    Attributes:
        boundary_share: Share of neighbouring pairs of grid points with different classes, 0 to 1; half as large on a
            grid twice as fine.
        boundary_length: Length of the borders in the area shown, divided by that area, in 1 / unit of the coordinates.
        class_shares: Share of the area that belongs to each class, float64 (classes,).
        mean_margin: Mean over the area of the margin of probability, 0 to 1.
        squared_gradient: Mean over the area of the squared gradient of the probability; large where it is abrupt.
    """

    boundary_share: float
    boundary_length: float
    class_shares: Tensor
    mean_margin: float
    squared_gradient: float


def decision_grid(
    model: nn.Module,
    xs: Tensor | Sequence[float],
    ys: Tensor | Sequence[float],
    *,
    at: Callable[[Tensor], Tensor] | None = None,
    chunk: int = 8192,
) -> Regions:
    """Ask a classifier about every point (x, y) of a grid.

    A copy of the model is asked, in evaluation mode: the model given, and torch's random generators, are not touched.
    Probabilities are the softmax of the model's outputs (n, classes); a single output, (n,) or (n, 1), is taken for the
    logit of class 1 of two.

    Args:
        model: Any classifier; on one device, its parameters of one floating type.
        xs: Coordinates of the columns, at least 2, rising.
        ys: Coordinates of the rows, at least 2, rising.
        at: Maps points, float64 (n, 2) on the model's device, to the model's inputs; None where the points are the
            inputs. What it returns is converted to the type of the model's parameters.
        chunk: Points asked about at once, at least 1.

    Returns:
        Probabilities at each point, and the classes and margins that follow from them.

    Raises:
        InputError: Coordinates are too few or do not rise, the chunk is below 1, or the outputs are not finite or of
            another shape.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[4.0, 0.0]]), "bias": torch.zeros(1)})
        >>> decision_grid(model, [-1.0, 1.0, 2.0], [0.0, 1.0]).classes.tolist()
        [[0, 1, 1], [0, 1, 1]]
    """
    columns, rows = _coordinates("xs", xs), _coordinates("ys", ys)
    if chunk < 1:
        raise InputError(f"chunk {chunk}: write at least 1")
    home = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    asked = copy.deepcopy(model).eval()
    points = torch.cartesian_prod(rows, columns).flip(1).to(home.device)
    with torch.random.fork_rng(devices=[home.device] if home.is_cuda else []), torch.no_grad():
        said = [
            _probabilities(asked((at(part) if at else part).to(home.dtype)), len(part)) for part in points.split(chunk)
        ]
    probabilities = torch.cat(said).cpu()
    bad = int((~probabilities.isfinite()).any(1).sum())
    if bad:
        raise InputError(f"the model's outputs are not finite at {bad} of {len(points)} points; check its weights")
    return Regions(columns, rows, probabilities.view(len(rows), len(columns), -1))


def measure_regions(regions: Regions) -> RegionMeasures:
    """Measure borders, areas and smoothness of decision regions.

    With N_x of the pairs of neighbours in x and N_y of those in y of different classes, n_x and n_y the numbers of
    these pairs, and c_x, c_y how often a line along x or y of length 1 crosses a border,

        boundary_share = (N_x + N_y) / (n_x + n_y)
        boundary_length = (c_x + c_y) pi / 4                             (Cauchy and Crofton)
        squared_gradient = mean of 1/2 sum_k |grad p_k|^2

    The length is exact for borders that run in all directions alike; that of a straight one is 21 % too short along an
    axis and 11 % too long along a diagonal. A border crossed twice between neighbours is not seen. Gradients are
    central differences, one-sided at the edges; with two classes the last line is that of either probability.

    Args:
        regions: What `decision_grid` returned.

    Returns:
        The numbers.

    Example:
        >>> halves = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
        >>> measure_regions(Regions(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]), halves)).boundary_share
        0.5
    """
    classes = regions.classes
    (across, n_x), (upward, n_y) = ((differ.sum(), differ.numel()) for differ in _differing(classes))
    width, height = (float(axis[-1] - axis[0]) for axis in (regions.xs, regions.ys))
    crossings = float(across) / (len(regions.ys) * width) + float(upward) / (len(regions.xs) * height)
    slopes = torch.gradient(regions.probabilities, spacing=(regions.ys, regions.xs), dim=(0, 1))
    return RegionMeasures(
        boundary_share=float(across + upward) / (n_x + n_y),
        boundary_length=crossings * math.pi / 4,
        class_shares=classes.flatten().bincount(minlength=regions.probabilities.shape[-1]).double() / classes.numel(),
        mean_margin=float(regions.margin.mean()),
        squared_gradient=float(torch.stack(slopes).square().sum((0, -1)).mean() / 2),
    )


def agreement(first: Regions, second: Regions) -> float:
    """Return the share of the area in which two classifiers name the same class.

    Its mean over many image planes is the reproducibility score of Somepalli et al.

    Args:
        first: Regions of one classifier.
        second: Regions of the other, on the same grid.

    Raises:
        InputError: The grids differ.

    Example:
        >>> regions = decision_grid(nn.Identity(), [0.0, 1.0], [0.0, 0.5])
        >>> agreement(regions, regions)
        1.0

    References:
        Somepalli et al., "Can Neural Nets Learn the Same Model Twice?", arXiv:2203.08124, 2022 (section 4).
    """
    if not (first.xs.equal(second.xs) and first.ys.equal(second.ys)):
        raise InputError("the two regions lie on different grids; ask both models with the same xs and ys")
    return float((first.classes == second.classes).double().mean())


def _coordinates(name: str, values: Tensor | Sequence[float]) -> Tensor:
    axis = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if axis.dim() != 1 or len(axis) < 2 or not axis.isfinite().all() or not (axis.diff() > 0).all():
        raise InputError(f"{name} of shape {tuple(axis.shape)}: write at least 2 finite numbers that rise")
    return axis


def _probabilities(outputs: Tensor, count: int) -> Tensor:
    """Return probabilities (n, classes) in float64; one logit stands for two classes."""
    if isinstance(outputs, Tensor) and outputs.shape in ((count,), (count, 1)):
        logit = outputs.reshape(count).double()
        return torch.stack([-logit, logit], 1).sigmoid()
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != count:
        got = f"a tensor of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(f"the model returns {got} for {count} points; it should be ({count}, classes)")
    return outputs.double().softmax(1)


def _differing(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Say for which pairs of neighbours, in x and in y, the classes differ."""
    return classes[:, 1:] != classes[:, :-1], classes[1:] != classes[:-1]
