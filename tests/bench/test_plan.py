from __future__ import annotations

import pytest

from switch_ema.bench.methods import Method, parse_methods
from switch_ema.bench.plan import plan, with_controls


def test_passive_methods_ride_on_one_run() -> None:
    trajectories = plan(parse_methods("ema:decay=0.9,ema:decay=0.99,swa,lawa,power_ema"), [0.1], [0])
    assert [[rider.label for rider in t.riders] for t in trajectories] == [
        ["baseline", "ema:decay=0.9", "ema:decay=0.99", "swa", "lawa", "power_ema"]
    ]


@pytest.mark.parametrize(("lrs", "seeds"), [([0.1], 1), ([0.1, 0.2, 0.4], 2)])
def test_no_more_runs_than_one_plus_active_methods_plus_controls(lrs: list[float], seeds: int) -> None:
    asked = parse_methods("ema,sema,sema:decay=0.5,lookahead,swa")
    active = sum(method.switches for method in asked)
    assert len(plan(asked, lrs, range(seeds))) == seeds * len(lrs) * (1 + active)
    controlled = plan(with_controls(asked, 10, 20), lrs, range(seeds))
    assert len(controlled) <= seeds * len(lrs) * (1 + 2 * active)


def test_every_method_is_measured_once_per_seed_and_rate() -> None:
    methods = with_controls(parse_methods("ema,sema,lookahead,baseline:lr_scale=0.5"), 10, 20)
    measured = [(t.seed, t.lr, rider.label) for t in plan(methods, [0.1, 0.2], [0, 1]) for rider in t.riders]
    assert sorted(measured) == sorted((s, lr, m.label) for s in (0, 1) for lr in (0.1, 0.2) for m in methods)


def test_names_of_runs_are_unique_and_fit_for_files() -> None:
    methods = with_controls(parse_methods("sema,sema:decay=0.5,switch_every=2 epochs,lookahead"), 10, 20)
    names = [t.name for t in plan(methods, [0.1, 0.25], range(3))]
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") for name in names)


def test_a_control_trains_at_the_rate_that_the_switches_leave() -> None:
    methods = {m.label: m for m in with_controls(parse_methods("sema:decay=0.9"), 10, 20)}
    retained = methods["sema:decay=0.9"].retained_fraction(10, 20)
    assert retained == pytest.approx(0.6048, abs=1e-3)
    assert list(methods) == ["baseline", "sema:decay=0.9", "baseline:lr_scale=0.6", "ema:decay=0.9,lr_scale=0.6"]
    assert methods["baseline:lr_scale=0.6"].control_for == ("sema:decay=0.9",)


def test_one_control_can_serve_two_methods() -> None:
    methods = with_controls([Method("lookahead"), Method("lookahead", (("k", "7"),))], 10, 20)
    control = next(m for m in methods if m.label == "baseline:lr_scale=0.5")
    assert control.control_for == ("lookahead", "lookahead:k=7")
