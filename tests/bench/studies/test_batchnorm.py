"""BatchNorm statistics: the sentences follow the intervals against statistics that are measured anew."""

from __future__ import annotations

from typing import Any

import pytest

from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import Results
from switch_ema.bench.studies.batchnorm import STUDY, WINDOWS
from switch_ema.bench.studies.study import Reading

EPOCHS = 4
SEEDS = (0.50, 0.52, 0.54)
NOISE = (0.001, -0.001, 0.0)


def reading(
    online: dict[float, float], averaged: dict[float, float], *, seeds: int = 3, epochs: int = EPOCHS, anew: bool = True
) -> Reading:
    """Make an arm; `online` and `averaged` say by window what statistics lose, the last epoch twice the middle one."""
    rows: list[dict[str, Any]] = []

    def add(label: str, seed: int, epoch: int, value: float, metric: str = "accuracy") -> None:
        row = {"method": label, "lr": 0.1, "seed": seed, "epoch": epoch, "metric": metric, "value": value}
        rows.extend({**row, "split": split} for split in ("val", "test"))

    methods = ["baseline", "sema:use_buffers=true", "sema:use_buffers=false"]
    methods += [f"ema:decay=window {w:g} epochs,use_buffers={use}" for w in WINDOWS for use in ("true", "false")]
    for seed in range(seeds):
        for epoch in range(1, epochs + 1):
            for label in methods[:3]:
                add(label, seed, epoch, SEEDS[seed])
            for window in WINDOWS:
                for use, lost in (("true", averaged), ("false", online)):
                    label = f"ema:decay=window {window:g} epochs,use_buffers={use}"
                    less = lost.get(window, 0.0) * epoch / epochs
                    add(label, seed, epoch, SEEDS[seed] - less + NOISE[seed])
                    if anew:
                        add(label, seed, epoch, SEEDS[seed], "accuracy_bn_reestimated")
    run = {
        "asked": {"epochs": epochs},
        "model": "small-resnet",
        "metrics": [{"name": "accuracy", "higher_is_better": True}],
        "methods": [{"label": label} for label in methods],
    }
    return Reading("statistics", "small-resnet on digits", run, Results.from_rows(run, rows), [], {})


def test_the_sentences_say_from_which_window_on_statistics_misfit() -> None:
    found = STUDY.findings([reading({2: 0.05, 4: 0.2}, {4: 0.04})])
    online, averaged = found.sentences[:2]
    assert online.startswith(
        "Statistics of training lose to new ones with a window of 2 and 4 epochs, most with 4 (\N{MINUS SIGN}0.2000, "
    )
    assert averaged.startswith("Statistics averaged lose to new ones with a window of 4 epochs")
    assert "Halfway, after epoch 2: Statistics of training lose" in found.sentences[2]
    assert "shows no difference" in found.sentences[-1] or "cannot be told" in found.sentences[-1]
    last, middle, _ = found.panels
    assert last.table is not None
    assert middle.table is not None
    assert len(last.table[1]) == len(WINDOWS)
    assert [trace["name"] for trace in last.plots[0].traces if "name" in trace] == [
        "statistics measured anew", "statistics averaged", "statistics of training"
    ]  # fmt: skip
    assert last.plots[0].traces[-1]["y"][-1] == pytest.approx(0.32)  # 0.52 less 0.2
    assert middle.plots[0].traces[-1]["y"][-1] == pytest.approx(0.42)  # halfway half of it


def test_no_misfit_is_said_to_be_none() -> None:
    found = STUDY.findings([reading({}, {})])
    assert (
        found.sentences[0] == "Statistics of training show no difference beyond noise from new ones, with any window."
    )


def test_better_statistics_are_not_hidden() -> None:
    found = STUDY.findings([reading({1: -0.1}, {})])
    assert found.sentences[0] == "Statistics of training are better than new ones with a window of 1 epoch."


def test_one_seed_claims_nothing_and_one_epoch_has_no_middle() -> None:
    found = STUDY.findings([reading({4: 0.2}, {}, seeds=1, epochs=1)])
    assert found.sentences[0] == "Statistics of training cannot be told from new ones: there is no interval."
    assert [panel.title for panel in found.panels] == ["After the last epoch", "Switching"]


def test_a_network_without_batchnorm_has_nothing_to_misfit() -> None:
    found = STUDY.findings([reading({}, {}, anew=False)])
    assert "has no BatchNorm" in found.sentences[0]
    assert found.panels == []


def test_the_arm_rides_on_one_training_run_beside_two_that_switch() -> None:
    (arm,) = STUDY.arms(Settings.of(task="classification", data="digits", model="small-resnet", lr="0.1"))
    assert arm.settings is not None
    methods = arm.settings.parsed_methods()
    assert [method.label for method in methods if method.switches] == [
        "sema:use_buffers=true",
        "sema:use_buffers=false",
    ]
    assert len(methods) == 3 + 2 * len(WINDOWS)
    assert arm.settings.lr == (0.1,)
