"""What `sema analyze` measures of one model: numbers, and what they mean in one plain sentence for each measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from switch_ema.analysis.calibration import calibration
from switch_ema.analysis.directions import random_direction
from switch_ema.analysis.eigenvalues import top_eigenvalues
from switch_ema.analysis.flatness import average_flatness, width
from switch_ema.analysis.hessian import hessian
from switch_ema.analysis.landscape import plane
from switch_ema.analysis.objective import Objective
from switch_ema.analysis.sharpness import worst_case_sharpness
from switch_ema.analysis.spectrum import trace
from switch_ema.bench.wording import decimals_for, show

_RHOS, _ADAPTIVE_RHOS, _STEPS = (0.05, 0.1), (0.5, 1.0), 5
_RADII, _DIRECTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5), 10
_SHOWN = 0.05  # the radius that tables and sentences show
_RISE = 0.1  # of the loss, which ends a minimum
_EIGENVALUES, _TOLERANCE = 3, 0.1  # the error of an eigenvalue is of the order of the tolerance squared
_FEWEST = 6  # products that a trace takes at least
_SIDE = 15  # points along a side of the landscape, from -1 to 1


@dataclass(frozen=True)
class Measured:
    """What a measure found in a model.

    Attributes:
        values: The numbers for a table, by what they are; the first is the headline, and lower is better.
        sentence: What they mean.
        details: All that was found, as plain data.
    """

    values: Mapping[str, float]
    sentence: str
    details: Mapping[str, Any]


def measure_sharpness(objective: Objective) -> Measured:
    """Measure the largest rise of the loss near the weights (see `switch_ema.analysis.sharpness`)."""
    plain = worst_case_sharpness(objective, _RHOS, num_steps=_STEPS)
    adaptive = worst_case_sharpness(objective, _ADAPTIVE_RHOS, adaptive=True, num_steps=_STEPS)
    near, relative = plain[0], adaptive[0]
    return Measured(
        {
            f"worst rise, rho {near.rho:g}": near.increase,
            f"worst rise, adaptive rho {relative.rho:g}": relative.increase,
        },
        f"within a distance of {near.rho:g} of the weights the loss of {number(near.loss)} rises by "
        f"{number(near.increase)} at worst; by {number(relative.increase)} within {relative.rho:g} when each weight "
        "moves in proportion to its size (adaptive).",
        {"plain": [*map(asdict, plain)], "adaptive": [*map(asdict, adaptive)]},
    )


def measure_flatness(objective: Objective) -> Measured:
    """Measure the mean rise of the loss under random perturbations (see `switch_ema.analysis.flatness`)."""
    gaussian = average_flatness(objective, _RADII, num_directions=_DIRECTIONS)
    by_filter = average_flatness(objective, _RADII, perturbation="filter", num_directions=_DIRECTIONS)
    near = next(each for each in gaussian if each.radius == _SHOWN)
    relative = next(each for each in by_filter if each.radius == _SHOWN)
    wide = width(gaussian, _RISE)
    ends = f"it reaches {_RISE:g} at" if wide.reached else f"it stays below {_RISE:g} at least up to"
    return Measured(
        {
            f"mean rise, {_SHOWN:.0%} noise": near.increase,
            f"mean rise, {_SHOWN:.0%} noise by filter": relative.increase,
            f"width{'' if wide.reached else ' (at least)'}, rise of {_RISE:g}": wide.radius,
        },
        f"random noise of {_SHOWN:.0%} of the weights' norm raises the loss by {number(near.increase)} ± "
        f"{number(near.standard_error)} on average; {ends} {wide.radius:.1%}.",
        {"gaussian": [*map(asdict, gaussian)], "filter": [*map(asdict, by_filter)], "width": asdict(wide)},
    )


def measure_hessian(objective: Objective, num_matvecs: int) -> Measured:
    """Measure the largest eigenvalues and the trace of the Hessian."""
    curvature = hessian(objective)
    top = top_eigenvalues(curvature, min(_EIGENVALUES, curvature.dim), num_matvecs=num_matvecs, tol=_TOLERANCE)
    total = trace(curvature, num_matvecs=max(_FEWEST, num_matvecs // 4))
    largest = top.values[0]
    stable = (
        f", so that gradient descent is stable up to a learning rate of {number(2 / largest)}" if largest > 0 else ""
    )
    return Measured(
        {"largest Hessian eigenvalue": largest, "Hessian trace": total.value},
        f"along the steepest direction the loss curves with {number(largest)}{stable}; the sum over all "
        f"{curvature.dim:,} directions (the trace) is {number(total.value)} ± {number(total.standard_error)}.",
        {
            "eigenvalues": [*top.values],
            "residuals": [*top.residuals],
            "trace": total.value,
            "trace_standard_error": total.standard_error,
            "num_matvecs": top.num_matvecs + total.num_matvecs,
        },
    )


def measure_calibration(logits: Tensor, labels: Tensor) -> Measured:
    """Measure whether a classifier is as often right as it says (see `switch_ema.analysis.calibration`)."""
    found = calibration(logits, labels)
    gap = found.confidence - found.accuracy
    says = "overconfident" if gap > 0 else "underconfident"
    bins = {
        name: {part: values.tolist() for part, values in asdict(diagram).items()}
        for name, diagram in (("by_width", found.by_width), ("by_mass", found.by_mass))
    }
    names = ("accuracy", "confidence", "nll", "brier", "ece", "ece_mass", "adaptive_ece")
    return Measured(
        {"calibration error (ECE)": found.ece, "negative log-likelihood": found.nll, "Brier score": found.brier},
        f"{found.accuracy:.1%} of the predictions are right, and on average they claim {found.confidence:.1%}: "
        f"{says} by {abs(gap):.1%}; in bins of equal confidence the two differ by {found.ece:.1%} (ECE).",
        {name: getattr(found, name) for name in names} | bins,
    )


def measure_landscape(objective: Objective) -> Measured:
    """Measure the loss over a plane of two random directions (see `switch_ema.analysis.landscape`)."""
    places = [2 * k / (_SIDE - 1) - 1 for k in range(_SIDE)]
    directions = [random_direction(objective.parameters, seed=seed) for seed in (0, 1)]
    found = plane(objective, directions, places, places)
    centre = objective.value()
    losses = [loss for row in found.losses for loss in row]
    rises = [loss - centre if math.isfinite(loss) else math.inf for loss in losses]
    low, mean = (sum(each) / len(rises) for each in ([rise < _RISE for rise in rises], rises))
    return Measured(
        {"mean rise over a plane": mean},
        f"over a plane of two random directions, up to as far as each filter is long, the loss is less than {_RISE:g} "
        f"above that of the weights on {low:.0%} of the area; on average it is {number(mean)} above.",
        asdict(found),
    )


def number(value: float) -> str:
    """Write a number with as many decimals as suit its size."""
    return "without bound" if value == math.inf else show(value, decimals_for([value]))
