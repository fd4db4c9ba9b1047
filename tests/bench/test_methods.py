from __future__ import annotations

import inspect

import pytest
from torch import nn

import switch_ema
from switch_ema.averaging.options import AverageOptions
from switch_ema.bench.kinds import KINDS
from switch_ema.bench.methods import Method, parse_methods
from switch_ema.errors import InputError


def labels(text: str) -> list[str]:
    return [method.label for method in parse_methods(text)]


def test_a_list_is_read_with_options_that_hold_commas_and_spaces() -> None:
    text = "baseline,ema:decay=0.99,sema:decay=0.99,switch_every=2 epochs after 1,swa,baseline:lr_scale=0.2"
    assert labels(text) == [
        "baseline",
        "ema:decay=0.99",
        "sema:decay=0.99,switch_every=2 epochs after 1",
        "swa",
        "baseline:lr_scale=0.2",
    ]


def test_labels_do_not_depend_on_how_options_are_ordered_or_spaced() -> None:
    assert labels("sema: switch_every=2 epochs , decay=0.9") == labels("sema:decay=0.9,switch_every=2 epochs")


def test_plain_training_is_always_compared_with() -> None:
    assert labels("ema") == ["baseline", "ema"]
    assert labels("baseline:lr_scale=0.5") == ["baseline", "baseline:lr_scale=0.5"]


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.builder])
def test_every_option_is_an_argument_of_the_method_it_builds(name: str) -> None:
    kind = KINDS[name]
    arguments = inspect.signature(getattr(switch_ema, kind.builder)).parameters
    measured = {"sigma_rel"} if name == "posthoc" else set()  # an argument of its rider
    assert set(kind.options) <= set(arguments) | set(AverageOptions.__annotations__) | measured
    assert set(kind.defaults) <= set(kind.options)


def test_every_public_method_can_be_compared() -> None:
    methods = {"EMA", "SwitchEMA", "SWA", "Lookahead", "LAWA", "PowerEMA", "PostHocEMA"}
    assert methods <= set(switch_ema.__all__)
    assert {kind.builder for kind in KINDS.values() if kind.builder} == methods


@pytest.mark.parametrize(
    "text", ["ema", "sema", "swa", "lawa:window=2", "lookahead:k=3,alpha=0.8", "power_ema:gamma=3"]
)
@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_every_method_is_built_for_short_and_long_training(text: str, epochs: int) -> None:
    method = parse_methods(text)[1]
    assert method.build(nn.Linear(2, 1), epochs, steps_per_epoch=9) is not None


def test_swa_averages_the_last_quarter_by_default() -> None:
    averager = Method("swa").build(nn.Linear(1, 1), epochs=8, steps_per_epoch=3)
    assert averager is not None
    for _ in range(8):
        averager.end_epoch()
    assert averager.n_averaged == 2


def test_the_default_decay_follows_the_length_of_an_epoch() -> None:
    retained = [Method("sema").retained_fraction(10, steps) for steps in (10, 100, 1000)]
    assert retained == pytest.approx([0.37, 0.37, 0.37], abs=0.05)


def test_retained_fraction_knows_interval_and_kind() -> None:
    assert Method("ema").retained_fraction(10, 100) is None
    assert Method("lookahead", (("k", "7"), ("alpha", "0.3"))).retained_fraction(10, 100) == pytest.approx(0.3)
    two = Method("sema", (("decay", "0.99"), ("switch_every", "2 epochs"))).retained_fraction(10, 50)
    half = Method("sema", (("decay", "0.99"), ("switch_every", "0.5 epoch"))).retained_fraction(10, 200)
    assert two == half == Method("sema", (("decay", "0.99"),)).retained_fraction(10, 100)


def test_an_option_that_does_not_fit_the_run_is_refused_with_the_method_named() -> None:
    method = parse_methods("ema:decay=window 0.01 epoch")[1]
    with pytest.raises(InputError, match=r"method 'ema:decay=window 0.01 epoch': a window is at least one step"):
        method.build(nn.Linear(1, 1), epochs=2, steps_per_epoch=10)
