"""Profiles: closed forms against quadrature, and least squares against what it must give."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from switch_ema.averaging.decay import gamma_from_sigma_rel, sigma_rel_from_gamma
from switch_ema.averaging.profiles import Fit, Power, per_step, solve

TRACKED = (16.97, 6.94)
GAMMAS = st.floats(0, 60)


def density(profile: Power, x: Tensor) -> Tensor:
    inside = (profile.gamma + 1) * (x / profile.step) ** profile.gamma / profile.step
    return torch.where(x <= profile.step, inside, torch.zeros(()).double())


def integral(a: Power, b: Power, points: int = 200_000) -> float:
    """Midpoint rule over the shorter of the two."""
    end = min(a.step, b.step)
    x = (torch.arange(points, dtype=torch.float64) + 0.5) * end / points
    return float((density(a, x) * density(b, x)).sum()) * end / points


def grid(count: int, step: int = 1000, gammas: tuple[float, ...] = TRACKED) -> list[Power]:
    return [Power(g, step * (i + 1) // count) for i in range(count) for g in gammas]


def inner(a: Power, b: Power) -> float:
    """The inner product as `solve` has it: of one profile with another, from how badly it replaces it.

    With one profile the coefficient is 1, so the error is `||a - b|| / ||b||`.
    """

    def squared(p: Power) -> float:
        return (p.gamma + 1) ** 2 / (2 * p.gamma + 1) / p.step

    error = solve([a], b).relative_error
    return (squared(a) + squared(b) - error**2 * squared(b)) / 2


@pytest.mark.parametrize(
    ("a", "b"),
    list(product([Power(0, 70), Power(2.5, 100), Power(6.94, 100)], [Power(0, 100), Power(6.94, 55), Power(17, 200)])),
    ids=str,
)
def test_inner_products_are_the_integrals(a: Power, b: Power) -> None:
    assert inner(a, b) == pytest.approx(integral(a, b), rel=1e-6, abs=1e-9)
    assert inner(b, a) == pytest.approx(integral(a, b), rel=1e-6, abs=1e-9)


@given(GAMMAS)
def test_sigma_rel_goes_there_and_back(gamma: float) -> None:
    assert gamma_from_sigma_rel(sigma_rel_from_gamma(gamma)) == pytest.approx(gamma, rel=1e-9, abs=1e-9)


@given(st.floats(1e-9, 12**-0.5))
def test_sigma_rel_comes_back(sigma_rel: float) -> None:
    assert sigma_rel_from_gamma(gamma_from_sigma_rel(sigma_rel)) == pytest.approx(sigma_rel, rel=1e-9)


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.10, 6.94), (0.25, 0.72), (12**-0.5, 0.0)])
def test_sigma_rel_has_the_values_of_the_paper(sigma_rel: float, gamma: float) -> None:
    assert gamma_from_sigma_rel(sigma_rel) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 6.94, 16.97])
def test_sigma_rel_and_mean_are_those_of_the_profile(gamma: float) -> None:
    step = 20_000
    weights = Power(gamma, step).weights()
    x = (torch.arange(step, dtype=torch.float64) + 0.5) / step
    mean = float(weights @ x)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    assert mean == pytest.approx((gamma + 1) / (gamma + 2), rel=1e-6)
    assert math.sqrt(float(weights @ (x - mean) ** 2)) == pytest.approx(sigma_rel_from_gamma(gamma), rel=1e-6)


@pytest.mark.parametrize("sigma_rel", [0, -0.1, 0.289, 1, math.nan, math.inf, True, "0.1", None, 5e-324])
def test_sigma_rel_out_of_range_is_refused(sigma_rel: float) -> None:
    with pytest.raises(ValueError, match=r"sigma_rel .* above 0 and at most 0\.2886 .*write e\.g\. 0\.1"):
        gamma_from_sigma_rel(sigma_rel)


@given(
    st.lists(st.tuples(GAMMAS, st.integers(1, 10**7)), min_size=1, max_size=30, unique=True),
    st.tuples(GAMMAS, st.integers(1, 10**7)),
)
def test_coefficients_sum_to_one_and_do_as_well_as_any_single_profile(
    stored: list[tuple[float, int]], target: tuple[float, int]
) -> None:
    profiles = [Power(*p) for p in stored]
    fit = solve(profiles, Power(*target))
    assert math.fsum(fit.coefficients) == pytest.approx(1, abs=1e-9 * fit.amplification)
    assert all(map(math.isfinite, fit.coefficients))
    best = min(solve([p], Power(*target)).relative_error for p in profiles)
    assert fit.relative_error <= best * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize("count", [1, 4, 64, 256])
@pytest.mark.parametrize("gamma", TRACKED)
def test_a_tracked_profile_is_given_back(gamma: float, count: int) -> None:
    profiles = grid(count)
    for target in (Power(gamma, 1000), Power(gamma, profiles[len(profiles) // 2].step)):
        fit = solve(profiles, target)
        wanted = [1.0 if p == target else 0.0 for p in profiles]
        assert fit.coefficients == pytest.approx(wanted, abs=1e-6)
        assert fit.relative_error < 1e-7


@pytest.mark.parametrize(("count", "most"), [(8, 3e-2), (16, 1e-2), (64, 1e-3), (256, 1e-4)])
def test_the_fit_improves_with_snapshots(count: int, most: float) -> None:
    """Measured for gamma 4 and 10: 2.7e-2, 7.2e-3, 4.7e-4, 2.9e-5 and less."""
    for gamma in (4, 10):
        fit = solve(grid(count), Power(gamma, 1000))
        assert fit.relative_error < most
        assert fit.amplification < 2


def test_the_reported_error_is_that_of_the_profile() -> None:
    profiles, target = grid(8, 10_000), Power(3.0, 8000)
    fit = solve(profiles, target)
    made = torch.zeros(10_000, dtype=torch.float64)
    for profile, coefficient in zip(profiles, fit.coefficients, strict=True):
        made[: profile.step] += coefficient * profile.weights()
    wanted = torch.zeros_like(made)
    wanted[:8000] = target.weights()
    assert float((made - wanted).norm() / wanted.norm()) == pytest.approx(fit.relative_error, rel=1e-3)
    nudged = torch.tensor(fit.coefficients).double()
    for i in range(0, len(nudged) - 1, 3):  # a minimum: any move that keeps the sum is a change for the worse
        for sign in (1, -1):
            other = made.clone()
            other[: profiles[i].step] += sign * 1e-3 * profiles[i].weights()
            other[: profiles[i + 1].step] -= sign * 1e-3 * profiles[i + 1].weights()
            assert (other - wanted).norm() > (made - wanted).norm()


def test_a_profile_by_steps_is_the_power_function_it_equals() -> None:
    profiles = grid(8, 4000)
    by_steps = solve(profiles, Power(4.0, 4000).weights())
    closed = solve(profiles, Power(4.0, 4000))
    assert by_steps.coefficients == pytest.approx(closed.coefficients, abs=1e-4)
    assert by_steps.relative_error == pytest.approx(closed.relative_error, rel=1e-2)
    early = solve(profiles, Power(4.0, 1500).weights())
    assert early.coefficients == pytest.approx(solve(profiles, Power(4.0, 1500)).coefficients, abs=1e-3)


def test_an_exponential_average_is_made_from_many_snapshots() -> None:
    target = per_step(lambda step: 0.99 ** (1000 - step), 1000)
    assert float(target.sum()) == pytest.approx(1)
    assert float(target[-1] / target[-2]) == pytest.approx(1 / 0.99)
    errors = [solve(grid(count), target).relative_error for count in (8, 32, 128)]
    assert errors[0] > 10 * errors[1]
    assert errors[1] > errors[2]
    assert errors[2] < 5e-4  # what is left is the difference between a curve and its steps


def test_nearly_equal_profiles_do_not_blow_up() -> None:
    profiles = [Power(6.94, 1000), Power(6.94 * (1 + 1e-15), 1000), Power(6.94, 999)]
    fit = solve(profiles, Power(6.0, 1000))
    assert fit.amplification < 1e3
    assert sum(fit.coefficients) == pytest.approx(1)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ([1.0, 2.0], r"has shape \(2,\); give 3 numbers"),
        ([[1.0, 2.0, 3.0]], "has shape"),
        ([1.0, math.nan, 1.0], "finite and their sum above 0"),
        ([1.0, -2.0, 1.0], "finite and their sum above 0"),
        (lambda step: math.inf, "finite and their sum above 0"),
        (lambda step: "a", "one number for each step"),
        (["a", "b", "c"], "one number for each step"),
    ],
)
def test_a_profile_that_is_none_is_refused(profile: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        per_step(profile, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [(-1.0, 5), (math.nan, 5), (1.0, 0), (1.0, 2.5), (1.0, True)])
def test_a_power_function_out_of_range_is_refused(arguments: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match=r"gamma must be|step of a profile"):
        Power(*arguments)


def test_nothing_makes_nothing() -> None:
    with pytest.raises(ValueError, match="there are no profiles"):
        solve([], Power(1.0, 5))


def test_a_fit_reads_well() -> None:
    assert str(Fit((Power(0, 10), Power(0, 5)), (2.0, -1.0), 0.25)) == (
        "2 stored averages, relative error of the profile 0.25, rounding times 3"
    )
    assert str(Power(6.94, 500)) == "gamma 6.94 (sigma_rel 0.1000) at step 500"
