"""Averaging in the place of decay, on last values with known winners."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from switch_ema.bench.request import request
from switch_ema.bench.studies.lr_decay import SCHEDULES, STUDY
from switch_ema.bench.studies.study import Reading
from tests.bench.studies.readings import methods, per_seed, reading

METHODS = ("baseline", "ema", "swa", "sema")
Ends = dict[tuple[str, str], float]


def arms(ends: Ends, seeds: int = 3, lrs: tuple[float, ...] = (0.1,)) -> list[Reading]:
    """Make four arms whose methods end at 0.9 but where told otherwise; seeds differ by a little."""

    def test(schedule: str, label: str) -> dict[int, tuple[Sequence[float | None], Sequence[float | None]]]:
        ends_at = ends.get((schedule, label), 0.9)
        wobble = random.Random(f"{schedule} {label}")
        return per_seed(seeds, lambda seed: [0.5, ends_at + wobble.uniform(0, 0.002)])

    return [
        reading(methods(*((label, lr, test(schedule, label)) for label in METHODS for lr in lrs)), name=schedule)
        for schedule in SCHEDULES
    ]


def test_a_constant_rate_with_an_average_that_equals_cosine() -> None:
    found = STUDY.findings(arms({("constant", "baseline"): 0.8, ("constant", "ema"): 0.902}))
    assert "Plain training at a constant rate is worse than plain training with cosine decay (−0." in found.sentences[0]
    assert (
        "A constant rate with ema, the best on validation, shows no difference beyond noise from plain training"
        in found.sentences[1]
    )
    within = " ".join(found.sentences)
    assert "With the schedule constant, ema is better than plain training (+0.1" in within
    assert "With the schedule step, " in within
    assert "shows no difference beyond noise from plain training" in within


def test_the_average_is_chosen_on_validation() -> None:
    flattered = arms({("constant", "swa"): 0.95})
    results = flattered[0].trained
    cells = {
        c: ({s: {1: 0.1, 2: 0.1} for s in v} if c[:1] + c[2:3] == ("swa", "val") else v)
        for c, v in results.cells.items()
    }
    object.__setattr__(results, "cells", cells)
    assert "With the schedule constant, swa" not in " ".join(STUDY.findings(flattered).sentences)


def test_what_switching_does_without_decay_is_always_said() -> None:
    said = STUDY.findings(arms({("constant", "ema"): 0.95, ("constant", "sema"): 0.7})).sentences
    assert any(text.startswith("A constant rate with sema is worse than plain training with cosine") for text in said)


def test_one_seed_edges_and_divergence() -> None:
    found = STUDY.findings(arms({}, seeds=1, lrs=(0.1, 0.2, 0.4)))
    assert "cannot be told from" in found.sentences[0]
    assert "Best at the lowest or highest rate tried" in found.notes[-1]
    dead = arms({})
    dead[0] = reading(methods(*((m, 0.1, per_seed(3, lambda seed: [0.5, None])) for m in METHODS)), name="constant")
    assert "no common seed" in STUDY.findings(dead).sentences[0]


def test_every_cell_of_the_table_tells_its_rate() -> None:
    table = STUDY.findings(arms({})).panels[0].table
    assert table
    head, rows = table
    assert list(head) == ["Method", *SCHEDULES]
    assert len(rows) == len(METHODS)
    assert all(" at 0.1" in str(cell) for row in rows for cell in row[1:])


def test_arms_scale_with_the_epochs() -> None:
    planned = STUDY.arms(request("classification", {"epochs": "200", "lr": "1"}, {}))
    settings = {arm.name: arm.settings for arm in planned if arm.settings}
    assert [each.schedule for each in settings.values()] == list(SCHEDULES)
    assert settings["step"].milestones == pytest.approx((60, 120, 160))
    assert settings["step"].step_factor == 0.2
    assert settings["cosine"].lr == (0.1, 0.3, 1.0, 3.0, 10.0)
    assert settings["cosine"].milestones == ()
