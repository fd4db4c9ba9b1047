"""Where methods stand with kept weights, and how they are compared in words."""

from __future__ import annotations

import pytest
import torch

from switch_ema.bench.request import request
from switch_ema.bench.stats import Difference
from switch_ema.bench.studies.standing import averages, check_classes, gaps, logits, standing, values, verdicts
from switch_ema.errors import InputError
from tests.bench.studies.kept import measured, told

DIGITS = request("classification", {"epochs": "10"}, {})


def test_every_judgement_has_its_words() -> None:
    found = {
        "a": Difference(3, -0.2, -0.3, -0.1),
        "b": Difference(3, 0.2, 0.1, 0.3),
        "c": Difference(3, 0.2, -0.1, 0.3),
        "d": Difference(1, 0.2, None, None),
        "e": Difference(0, None, None, None),
    }
    assert verdicts(found, False, 1, ("lower", "higher")) == (
        "lower beyond noise: a (−0.2, 95 % interval −0.3 to −0.1); higher beyond noise: b (+0.2, 95 % interval "
        "+0.1 to +0.3); no difference beyond noise: c; cannot be told: d (+0.2), e (no common seed)"
    )
    assert verdicts(found, True, 1).startswith("better beyond noise: b")
    assert verdicts({"b": found["c"], "c": found["c"]}, True, 1) == "none differs beyond noise"


def test_measurements_at_both_points() -> None:
    arm = measured(
        {
            "ece": {"baseline": [0.4, 0.5], "ema": [0.3, 0.4]},
            "ece@lowest-loss": {"baseline": [0.1, 0.2], "ema": [0.15, 0.26]},
        }
    ).trained
    assert values(arm, "ema", "ece", "lowest-loss") == {0: 0.15, 1: 0.26}
    assert gaps(arm, "ece")["ema"].mean == pytest.approx(-0.1)
    assert gaps(arm, "ece", "lowest-loss")["ema"].mean == pytest.approx(0.055)
    assert gaps(arm, "ece", "lowest-loss", "last")["ema"].mean == pytest.approx(-0.245)
    assert list(gaps(arm, "ece")) == ["ema"]


def test_a_run_that_diverged_has_but_its_last_weights() -> None:
    part = torch.tensor([[1.0, float("nan")]]), torch.tensor([0])
    trained = told(DIGITS, {("last", "baseline", 0): {"test": part}})
    (kept,) = standing(trained)
    assert kept.which == "last"
    assert logits(trained, kept, "test") is None


def test_no_last_weights_are_an_error() -> None:
    with pytest.raises(InputError, match="none"):
        list(standing(told(DIGITS, {("lowest-loss", "baseline", 0): {}})))


def test_the_long_window_is_a_part_of_training() -> None:
    assert "window 2 epochs" in averages(DIGITS)


def test_tasks_without_classes_are_refused() -> None:
    check_classes(DIGITS)
    with pytest.raises(InputError, match="task regression: its models name no classes; write one of classification"):
        check_classes(request("regression", {}, {}))
