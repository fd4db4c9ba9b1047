"""Is switching a learning-rate cut in disguise? A rule with one number, fitted on some problems and tested on others.

A switch keeps a share `f` of the progress. The rule says that Switch EMA at the rate `lr` ends where plain training at
`lr * f ** power` ends: with power 0 switching does nothing, with power 1 it is a cut of the rate by the share. So
switching helps where plain training gains from a lower rate, and hurts where it loses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

POWERS = tuple(round(0.05 * k, 2) for k in range(41))


@dataclass(frozen=True)
class Case:
    """Switch EMA with one setting at one rate of one problem, as means over seeds.

    Attributes:
        problem: Name of the problem.
        curve: Value of plain training by learning rate; higher is better.
        lr: The learning rate.
        kept: Share of the progress that a switch keeps.
        value: Value of Switch EMA; higher is better.
        clear: Whether it differs from plain training at the same rate beyond noise.
    """

    problem: str
    curve: Mapping[float, float]
    lr: float
    kept: float
    value: float
    clear: bool


@dataclass(frozen=True)
class Tested:
    """How the rule fares on a problem that it was not fitted on.

    Attributes:
        problem: The problem.
        power: The power fitted on the other problems.
        clear: Cases of it that differ from plain training at the same rate beyond noise.
        right: Those of them whose direction the rule says.
        helped: Those of them in which switching helped.
        error: Mean absolute error of the rule, as a share of the range of plain training over the rates.
        error_unchanged: The same of saying that switching does nothing.
    """

    problem: str
    power: float
    clear: int
    right: int
    helped: int
    error: float
    error_unchanged: float


def plain_at(curve: Mapping[float, float], lr: float) -> float:
    """Return the value of plain training at a rate, interpolated over its logarithm; beyond the ends, of the end."""
    rates = sorted(curve)
    return float(np.interp(math.log(lr), [math.log(rate) for rate in rates], [curve[rate] for rate in rates]))


def fit(cases: Sequence[Case]) -> float:
    """Return the power with the least mean absolute error; of equals the smallest."""
    return min(POWERS, key=lambda power: _error(cases, power))


def leave_one_out(cases: Sequence[Case]) -> list[Tested]:
    """Fit the rule on all problems but one and test it on that, for every problem; nothing with fewer than two."""
    problems = list(dict.fromkeys(case.problem for case in cases))
    if len(problems) < 2:
        return []
    tested = []
    for problem in problems:
        power = fit([case for case in cases if case.problem != problem])
        own = [case for case in cases if case.problem == problem]
        clear = [case for case in own if case.clear]
        helped = [case.value > plain_at(case.curve, case.lr) for case in clear]
        says = [_says(case, power) > plain_at(case.curve, case.lr) for case in clear]
        right = sum(a == b for a, b in zip(helped, says, strict=True))
        tested.append(Tested(problem, power, len(clear), right, sum(helped), _error(own, power), _error(own, 0)))
    return tested


def _says(case: Case, power: float) -> float:
    return plain_at(case.curve, case.lr * case.kept**power)


def _error(cases: Sequence[Case], power: float) -> float:
    errors = []
    for case in cases:
        size = max(case.curve.values()) - min(case.curve.values())
        errors.append(abs(case.value - _says(case, power)) / (size or 1.0))
    return float(np.mean(errors))
