"""Boundaries: what is said of made-up measurements, and real networks measured at the smallest size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from switch_ema.bench.compare import compare
from switch_ema.bench.progress import Silent
from switch_ema.bench.request import request
from switch_ema.bench.stats import Results
from switch_ema.bench.studies.boundary import STUDY
from switch_ema.bench.studies.boundary_measures import Decisions
from switch_ema.bench.studies.study import Arm, Reading, vary
from switch_ema.bench.studies.trained import Trained
from switch_ema.errors import InputError
from tests.bench.sample import build, same

LABELS = ("baseline", "sema", "swa")
METRICS = ("boundary-length", "squared-gradient", "margin", "calibration-error")
Value = Callable[[str, int], float | None]


def level(**values: float | None) -> Value:
    """Give every method a value, 1 if it is not told, with a little of each seed's own."""

    def value(label: str, seed: int) -> float | None:
        of = values.get(label, 1.0)
        return None if of is None else of + LABELS.index(label) * (seed - 1) / 1000

    return value


def decided(
    values: Mapping[str, Value],
    seeds: int = 3,
    score: Value | None = None,
    agreement: Mapping[str, float] | None = None,
) -> Reading:
    """Make the reading of an arm; what is not given is 1 for all methods."""
    told = score or (lambda label, seed: 0.8)
    run, rows = build({(label, 0.1, seed): same(told(label, seed)) for label in LABELS for seed in range(seeds)})
    rows += [
        {"method": label, "lr": 0.1, "seed": seed, "split": "test", "metric": metric, "epoch": 1,
         "value": values.get(metric, level())(label, seed)}
        for metric in METRICS for label in LABELS for seed in range(seeds)
    ]  # fmt: skip
    matrices = {
        label: [[1.0 if i == j else share - (i + j) * k / 1000 for j in range(seeds)] for i in range(seeds)]
        for k, (label, share) in enumerate((agreement or dict.fromkeys(LABELS, 0.9)).items())
    }
    return Reading("circles", "circles", run, Results.from_rows(run, rows), rows, {"agreement": matrices})


def said(reading: Reading) -> str:
    return STUDY.findings([reading]).panels[0].sentence


def test_the_answer_is_short_and_in_percent() -> None:
    (answer,) = STUDY.findings([decided({"squared-gradient": level(sema=0.4)})]).sentences
    assert answer == (
        "Circles, against plain training at the same rate: squared gradient smoother with sema (−60.0 %); boundary "
        "length no different beyond noise with any method; score no different beyond noise with any method."
    )


def test_a_shorter_and_smoother_boundary_is_said_to_be() -> None:
    found = said(decided({"boundary-length": level(sema=0.5), "squared-gradient": level(sema=0.4)}))
    assert found.startswith(
        "Circles, against plain training at the same rate: score no different beyond noise with any method; "
    )
    assert "boundary length shorter with sema (−0.5000, 95 % interval −0.5025 to −0.4975);" in found
    assert "squared gradient smoother with sema (−0.6" in found
    assert "margin no different beyond noise with any method" in found


def test_both_directions_are_said_with_their_own_methods() -> None:
    measured = {"boundary-length": level(sema=1.5, swa=0.5), "margin": level(sema=0.5, swa=2.0)}
    found = said(
        decided(
            measured,
            score=lambda label, seed: {"sema": 0.9, "swa": 0.7}.get(label, 0.8) + seed / 1000 * (label != "baseline"),
        )
    )
    assert "score worse with swa (−0.0990, 95 % interval" in found
    assert "and better with sema (+0.1010" in found
    assert "boundary length shorter with swa" in found
    assert "and longer with sema" in found
    assert "margin narrower with sema" in found
    assert "and wider with swa" in found


def test_agreement_is_compared_over_pairs_of_seeds() -> None:
    found = said(decided({}, agreement={"baseline": 0.7, "sema": 0.9}))
    assert "agreement between seeds more with sema (+0.1980, 95 % interval" in found
    assert "swa" not in found


def test_what_the_rate_alone_does_is_told() -> None:
    reading = decided({"squared-gradient": level(sema=0.5)})
    worse = [
        {**row, "lr": 0.3, "value": 7.0 if row["metric"] == "squared-gradient" else 0.1}
        for row in reading.measured
        if row["method"] == "baseline"
    ]
    results = Results.from_rows(reading.run, [*reading.measured, *worse])
    findings = STUDY.findings([replace(reading, results=results)])
    assert findings.sentences[0].endswith("squared gradient of plain training is 1.0000 at 0.1, 7.0000 at 0.3.")
    assert (
        "squared gradient smoother with sema (−0.5" in findings.panels[0].sentence
    )  # at the rate that is best on validation
    _, rows = findings.panels[0].table or ((), ())
    assert [row[:2] for row in rows] == [*((label, "0.1") for label in LABELS), ("baseline", "0.3")]


def test_one_seed_and_diverged_seeds_claim_nothing() -> None:
    assert said(decided({}, seeds=1)) == "Circles: one seed cannot tell whose boundaries are smoother."
    lost = {metric: level(sema=None) for metric in METRICS}
    reading = decided(lost, agreement={"baseline": 0.7, "swa": 0.7})
    assert "sema" not in said(reading)
    short = {"agreement": {"baseline": [[1.0]], "swa": reading.sheets["agreement"]["swa"]}}
    assert "agreement between seeds no different beyond noise with any method" in said(replace(reading, sheets=short))


def test_arms_scale_with_what_is_asked() -> None:
    base = request("points", {"epochs": 80, "seeds": 6, "lr": 0.1}, {"noise": 0.3})
    arms = STUDY.arms(base)
    assert [arm.name for arm in arms] == ["circles", "moons", "digits"]
    circles, moons, digits = (arm.settings for arm in arms)
    assert circles
    assert moons
    assert digits
    assert circles.methods.startswith(
        "baseline,ema:decay=window 8 epochs,sema,sema:decay=window 8 epochs,switch_every=8"
    )
    assert (moons.data, moons.lr, moons.task_options["noise"]) == ("moons", (0.01, 0.03, 0.1, 0.3), 0.3)
    assert (digits.task, digits.seeds, digits.epochs, len(digits.lr)) == ("classification", 5, 20, 1)
    factor = STUDY.arms(request("points", {}, {"factor": 0.3}))
    assert [arm.name for arm in factor] == ["circles", "digits"]
    images = STUDY.arms(request("classification", {"model": "mlp"}, {}))
    assert [arm.name for arm in images] == ["images"]
    with pytest.raises(InputError, match="name no classes"):
        STUDY.arms(request("regression", {}, {}))


def trained(folder: Path, task: str, **given: Any) -> Trained:
    base = request(task, {"epochs": 1, "seeds": 2, **given}, {})
    settings = vary(base, methods="baseline,ema", keep_weights="last")
    compare(settings, folder, "", Silent())
    return Trained(folder, settings)


def test_points_are_measured_on_one_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trained(tmp_path, "points")
    line = nn.Linear(2, 2)
    line.load_state_dict({"weight": torch.tensor([[0.0, 0.0], [9.0, 0.0]]), "bias": torch.zeros(2)})
    monkeypatch.setattr(Trained, "model", lambda *_: line)  # the border is the upright line through the origin
    measured = Decisions(found).measure()
    maps = measured.sheets["maps"]
    width = maps["xs"][-1] - maps["xs"][0]
    lengths = [row.value for row in measured.rows if row.metric == "boundary-length"]
    assert len(lengths) == 4
    assert lengths[0] == pytest.approx(torch.pi / 4 / width, rel=1e-3)  # as if it ran in all directions alike
    assert measured.sheets["agreement"] == {"baseline": [[1.0, 1.0]] * 2, "ema": [[1.0, 1.0]] * 2}
    assert len(maps["points"]) == 50
    assert {point[2] for point in maps["points"]} == {0, 1}
    middle = [row[0] for row in maps["grids"]["ema"]], [row[-1] for row in maps["grids"]["ema"]]
    assert max(middle[0]) < 0.01
    assert min(middle[1]) > 0.99


def test_images_are_measured_on_planes_through_three(tmp_path: Path) -> None:
    found = trained(tmp_path, "classification", model="mlp")
    state = torch.random.get_rng_state()
    measured = STUDY.measure(Arm("digits", "digits", found.settings), found) if STUDY.measure else None
    assert torch.equal(state, torch.random.get_rng_state())
    assert measured
    maps = measured.sheets["maps"]
    assert maps["classes"] == 10
    assert len(maps["grids"]["ema"]) == 41
    assert len({point[2] for point in maps["points"]}) == 3
    assert {row.metric for row in measured.rows} == set(METRICS)
    (first, second), (again, other) = measured.sheets["agreement"]["baseline"]
    assert first == other == 1
    assert 0 < second == again < 1
    rows = [vars(row) for row in measured.rows]
    reading = Reading("digits", "digits", found._run, found.results, rows, measured.sheets)
    (panel,) = STUDY.findings([reading]).panels
    assert panel.plots[0].layout["meta"]["panels"] == ["baseline", "ema"]
    assert "planes through three held-out images" in panel.text


def test_a_network_that_diverged_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trained(tmp_path, "points")
    lost = nn.Linear(2, 2)
    nn.init.constant_(lost.weight, torch.nan)
    monkeypatch.setattr(Trained, "model", lambda *_: lost)
    measured = Decisions(found).measure()
    assert (measured.rows, measured.sheets) == ([], {"agreement": {}, "maps": {}})
