"""Epochs to a target: crossings, who is called faster, and what is said of ties, rates and single seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from switch_ema.bench.request import request
from switch_ema.bench.settings import Settings
from switch_ema.bench.studies.convergence import SHARES, STUDY
from switch_ema.bench.studies.pace import END, crossing, paces
from switch_ema.bench.studies.trained import Trained
from tests.bench.sample import build
from tests.bench.studies.readings import methods, per_seed, reading


def ramp(top: float, length: float, epochs: int = 10) -> list[float | None]:
    """Rise straight, through the top after a length in epochs."""
    return [top * epoch / length for epoch in range(1, epochs + 1)]


PLAIN = ("baseline", 0.1, per_seed(3, lambda seed: ramp(0.9 + seed / 100, 10)))
SOONER = ("sema", 0.1, per_seed(3, lambda seed: ramp(0.9 + seed / 100, 5 + seed / 10)))


def test_crossing_is_straight_between_epochs() -> None:
    assert crossing({1: 0.2, 2: 0.4, 4: 0.8}, 0.6, True) == pytest.approx(3.0)
    assert crossing({1: 3.0, 2: 1.0}, 2.0, False) == pytest.approx(1.5)
    assert crossing({1: 0.7, 2: 0.1}, 0.6, True) == 1
    assert crossing({1: 0.2, 2: 0.4}, 0.6, True) is None
    assert crossing({1: None, 2: 0.8}, 0.6, True) == 2


def test_targets_are_shares_of_plain_trainings_way() -> None:
    found = paces(reading(methods(PLAIN)).trained, 0.5)[0]
    assert found.times == pytest.approx({0: 5.5, 1: 5.5, 2: 5.5})  # from epoch 1 to epoch 10, straight
    falling = reading(methods(("baseline", 0.1, per_seed(3, lambda seed: [0.9, 0.8, 0.7])))).trained
    assert paces(falling, 0.9)[0].times == {}
    assert paces(falling, END)[0].times == {0: 1, 1: 1, 2: 1}


def test_the_faster_method_is_named_with_epochs_and_steps() -> None:
    said = STUDY.findings([reading(methods(PLAIN, SOONER))]).sentences[0]
    assert "sema gets to where plain training ends in 5.1 epochs instead of 10.0" in said
    assert "51 instead of 100 optimizer steps: −4.9, 95 % interval −5.1 to −4.7" in said


def test_a_tie_is_not_first() -> None:
    said = STUDY.findings([reading(methods(PLAIN, ("swa", 0.1, PLAIN[2])))]).sentences[0]
    assert "no method gets to where plain training ends (10.0 epochs) sooner, beyond noise" in said
    assert "swa" not in said


def test_who_misses_the_target_with_one_seed_is_not_faster() -> None:
    curves = dict(methods(PLAIN, SOONER)) | {("sema", 0.1, 2): (ramp(0.5, 9), ramp(0.5, 9))}
    said = STUDY.findings([reading(curves)]).sentences[0]
    assert "no method gets" in said
    assert "sema gets there with only 2 of 3 seeds" in said


def test_a_switching_method_that_is_slower_is_said_to_be() -> None:
    flat = ("baseline", 0.1, per_seed(3, lambda seed: [0.1, 0.5, 0.9, *[0.9] * 7]))
    slow = ("sema", 0.1, per_seed(3, lambda seed: ramp(0.9, 8 + seed / 10)))
    said = STUDY.findings([reading(methods(flat, slow))]).sentences[0]
    assert "sema is slower: 8.1 epochs (+5.1, 95 % interval +4.9 to +5.3)" in said
    later = ("ema", 0.1, per_seed(3, lambda seed: ramp(0.9 + seed / 100, 4 + seed / 10)))
    said = STUDY.findings([reading(methods(PLAIN, later, ("sema", 0.1, PLAIN[2])))]).sentences[0]
    assert said.startswith("net on data: ema gets to")
    assert "sema is no different beyond noise: 10.0 epochs" in said


def test_plain_training_at_another_rate_may_be_as_fast() -> None:
    worse_on_validation = {seed: ([0.1] * 10, pair[1]) for seed, pair in SOONER[2].items()}
    slower = {seed: ([0.1] * 10, ramp(0.9 + seed / 100, 9)) for seed in range(3)}
    both = methods(
        PLAIN,
        ("baseline", 0.3, worse_on_validation),
        ("baseline", 0.2, slower),
        ("sema", 0.2, slower),
        SOONER,
        ("sema", 0.3, worse_on_validation),
    )
    said = STUDY.findings([reading(both)]).sentences[0]
    assert "Baseline at rate 0.3 is as fast within noise (5.1 epochs" in said


def test_one_seed_and_divergence() -> None:
    one = STUDY.findings([reading({("baseline", 0.1, 0): (ramp(0.9, 10),) * 2, ("ema", 0.1, 0): (ramp(0.9, 4),) * 2})])
    assert "one seed cannot tell who is faster" in one.sentences[0]
    dead = STUDY.findings(
        [
            reading(
                methods(
                    ("baseline", 0.1, per_seed(2, lambda seed: [None, None])),
                )
            )
        ]
    )
    assert "no finite value" in dead.sentences[0]


def test_the_table_has_every_target_and_the_seconds() -> None:
    found = STUDY.findings([reading(methods(PLAIN, SOONER), sheets={"seconds": {"baseline": 2.0, "sema": 3.0}})])
    table = found.panels[0].table
    assert table
    head, rows = table
    assert list(head)[2:6] == list(SHARES.values())
    assert rows[1][0] == "sema"
    assert rows[1][-1] == f"{3.0 * 5.1:.2f}"
    assert rows[0][-1] == "20.00"


def test_lower_is_better() -> None:
    def fall(seed: int, length: float) -> list[float | None]:
        return [3.0 - 2 * epoch / (length + seed / 10) for epoch in range(1, 11)]

    curves = methods(
        ("baseline", 0.1, per_seed(3, lambda seed: fall(0, 10))), ("ema", 0.1, per_seed(3, lambda seed: fall(seed, 5)))
    )
    assert (
        "ema gets to where plain training ends in 5.1" in STUDY.findings([reading(curves, higher=False)]).sentences[0]
    )


def test_arms_follow_what_is_asked() -> None:
    arms = STUDY.arms(request("classification", {"lr": "0.1", "epochs": "2"}, {}))
    assert [arm.name for arm in arms] == ["as-asked", "wrong-labels"]
    trained = [arm.settings for arm in arms if arm.settings]
    assert all(each.lr == (0.01, 0.03, 0.1, 0.3, 1.0) and each.epochs == 2 for each in trained)
    assert [each.task_options.get("label_noise") for each in trained] == [None, 0.4]
    given = STUDY.arms(request("classification", {}, {"label_noise": "0.2"}))
    assert [arm.settings.task_options["label_noise"] for arm in given if arm.settings] == [0.2]
    assert len(STUDY.arms(request("regression", {}, {}))) == 1


def test_seconds_of_an_epoch(tmp_path: Path) -> None:
    run, rows = build({("baseline", 0.1, s): ((0.1, 0.2), (0.1, 0.2)) for s in range(2)})
    whole = {"task": "t", "data": "d", "model": "m", "step": 1, "higher_is_better": True}
    timed = [row | whole | {"seconds": row["epoch"] * (1.0 + row["seed"])} for row in rows]
    (tmp_path / "run.json").write_text(json.dumps({"format": 1} | run))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in timed))
    settings = Settings.of(task="classification", data="digits", model="mlp", epochs=2)
    assert Trained(tmp_path, settings).seconds_per_epoch() == {"baseline": 1.5}
