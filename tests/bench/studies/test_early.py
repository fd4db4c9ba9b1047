"""Early performance and early stopping on curves with known winners."""

from __future__ import annotations

import pytest

from switch_ema.bench.request import request
from switch_ema.bench.studies.early import STUDY
from switch_ema.bench.studies.stopping import stops
from tests.bench.studies.readings import methods, per_seed, reading

EPOCHS = 20


def rise(pace: float, top: float = 0.9, slip: float = 0.0, epochs: int = EPOCHS) -> list[float | None]:
    """Rise to the top at a pace, and slip down again after half of the epochs."""
    half = epochs // 2
    return [round(top * min(1.0, epoch / pace) - slip * max(0, epoch - half), 6) for epoch in range(1, epochs + 1)]


PLAIN = ("baseline", 0.1, per_seed(4, lambda seed: rise(10, 0.9 + seed / 1000, slip=0.01 + seed / 1000)))
EMA = ("ema:decay=window 1 epochs", 0.1, per_seed(4, lambda seed: rise(5, slip=0.01 + seed / 1000)))


def test_an_average_that_is_ahead_early_and_equal_late() -> None:
    early, stopped = STUDY.findings([reading(methods(PLAIN, EMA))]).sentences
    assert "ema is better than plain training, beyond noise, at 5 % (+0.0" in early
    assert "100 %" not in early.split("; ")[0]
    assert "by stopping early" in stopped


def test_another_rate_of_plain_training_takes_the_lead_away() -> None:
    slow_at_the_end = per_seed(4, lambda seed: rise(5, slip=0.02 + seed / 1000))
    quick = ("baseline", 0.3, slow_at_the_end)
    arm = reading(methods(PLAIN, quick, EMA, (EMA[0], 0.3, slow_at_the_end)))
    said = STUDY.findings([arm]).sentences[0]
    tuned, same = said.split("On the run of plain training, ")
    assert "ema is no different beyond noise at 5 %" in tuned
    assert "ema is better than plain training, beyond noise, at 5 %" in same


def test_the_decay_is_chosen_on_validation_not_on_test() -> None:
    bad_on_validation = {seed: ([0.01] * EPOCHS, pair[1]) for seed, pair in EMA[2].items()}
    arm = reading(methods(PLAIN, ("ema", 0.1, PLAIN[2]), (EMA[0], 0.1, bad_on_validation)))
    assert "ema is better" not in STUDY.findings([arm]).sentences[0]


def test_stopping_by_the_metric_and_by_the_loss() -> None:
    accuracy = methods(PLAIN)
    loss = methods(("baseline", 0.1, per_seed(4, lambda seed: [1.0, 0.5, 0.2, *[0.4] * (EPOCHS - 3)])))
    by_metric, by_loss = stops(reading(accuracy, loss=loss).trained, "baseline", 0.1)
    assert by_metric.epochs == {0: 10, 1: 10, 2: 10, 3: 10}
    assert by_loss.by == "loss"
    assert set(by_loss.epochs.values()) == {3}
    assert by_loss.test[0] == pytest.approx(0.27)
    assert by_metric.gain.mean == pytest.approx(10 * (0.01 + 1.5 / 1000))
    assert by_metric.gain.judge(True) == "better"


def test_the_sentences_of_stopping() -> None:
    said = STUDY.findings([reading(methods(PLAIN, EMA))]).sentences[1]
    assert "plain training gains by stopping early" in said
    assert "at 50 % of the budget in the mean, before three quarters of it with 4 of 4 seeds" in said
    rising = ("baseline", 0.1, per_seed(4, lambda seed: rise(20 + seed)))
    said = STUDY.findings([reading(methods(rising))]).sentences[1]
    assert "gains nothing beyond noise by stopping early" in said
    assert "with 0 of 4 seeds" in said


def test_the_epoch_is_chosen_on_validation_not_on_test() -> None:
    curves = {("baseline", 0.1, seed): ((0.1, 0.9, 0.5), (0.8, 0.3, 0.5)) for seed in range(2)}
    found = stops(reading(curves).trained, "baseline", 0.1)[0]
    assert found.epochs == {0: 2, 1: 2}
    assert found.test == {0: 0.3, 1: 0.3}


def test_one_seed_two_epochs_and_divergence() -> None:
    tiny = {("baseline", 0.1, 0): ((0.5, 0.6),) * 2, ("ema", 0.1, 0): ((0.4, 0.7),) * 2}
    early, stopped = STUDY.findings([reading(tiny)]).sentences
    assert "not to be told from plain training at 5 % (−0.1000), 100 % (+0.1000)" in early
    assert "cannot be told from its last epoch" in stopped
    dead = {("baseline", 0.1, s): ((None, None),) * 2 for s in range(2)}
    assert "nothing to stop at" in STUDY.findings([reading(dead)]).sentences[1]


def test_arms_keep_windows_in_epochs_and_rates_as_factors() -> None:
    settings = STUDY.arms(request("classification", {"lr": "0.2", "epochs": "4"}, {}))[0].settings
    assert settings
    assert settings.lr == (0.02, 0.06, 0.2, 0.6, 2.0)
    assert settings.epochs == 4
    assert "ema:decay=window 8 epochs" in [method.label for method in settings.parsed_methods()]
