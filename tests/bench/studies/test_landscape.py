"""Depth and width: what is said of made-up minima, what is drawn, and real minima measured at the smallest size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from switch_ema.bench.compare import compare
from switch_ema.bench.progress import Silent
from switch_ema.bench.request import request
from switch_ema.bench.stats import Results
from switch_ema.bench.studies import landscape_measures
from switch_ema.bench.studies.landscape import STUDY
from switch_ema.bench.studies.landscape_quantities import (
    DEPTHS,
    PAIRS,
    RADII,
    RHOS,
    TEST_LOSS,
    TRAIN_LOSS,
    WIDTH,
    WIDTHS,
    barrier_to,
    mean_rise,
    worst,
)
from switch_ema.bench.studies.study import Arm, Findings, Reading, vary
from switch_ema.bench.studies.trained import Trained
from tests.bench.sample import build, same

LABELS = ("baseline", "ema", "sema", "swa", "sam")
Value = Callable[[str, int], float | None]


def level(**values: float | None) -> Value:
    """Give every method a value, plain training 1 if it is not told, with a little of each seed's own."""

    def value(label: str, seed: int) -> float | None:
        of = values.get(label, 1.0)
        return None if of is None else of + seed / 1000 + LABELS.index(label) * (seed % 2) / 10_000

    return value


def minima(values: Mapping[str, Value], seeds: int = 3, sheets: Mapping[str, Any] | None = None) -> Reading:
    """Make the reading of an arm; what is not given is 1 for all methods."""
    run, rows = build({(label, 0.1, seed): same(0.5) for label in LABELS for seed in range(seeds)})
    barriers = {barrier_to(one): [other for first, other in PAIRS if first == one] for one, _ in PAIRS}
    splits = {each.metric: each.split for each in (*DEPTHS, *WIDTHS)}
    rows += [
        {"method": label, "lr": 0.1, "seed": seed, "split": splits.get(metric, "train"), "metric": metric, "epoch": 1,
         "value": values.get(metric, level())(label, seed)}
        for metric in (*splits, *barriers, *map(worst, RHOS), *map(mean_rise, RADII))
        for label in barriers.get(metric, LABELS)
        for seed in range(seeds)
    ]  # fmt: skip
    return Reading("as-asked", "net on data", run, Results.from_rows(run, rows), (), sheets or {})


def said(reading: Reading) -> list[str]:
    return [*STUDY.findings([reading]).sentences]


def test_wider_and_deeper_is_said_with_both_intervals() -> None:
    reading = minima(
        {TRAIN_LOSS.metric: level(sema=0.5), WIDTH.metric: level(sema=1.5), TEST_LOSS.metric: level(sema=0.4)}
    )
    plain, ema, widths, _ = said(reading)
    assert plain.startswith("net on data: sema is wider and deeper than plain training; its test loss is lower (")
    assert "training loss −0.4999, 95 % interval" in plain
    assert "width +0.5001" in plain
    assert "test loss −0.5999" in plain
    assert "sema is wider and deeper than ema" in ema
    assert "sema 1 and 0 of 7; swa 0 and 0 of 7" in widths


@pytest.mark.parametrize(
    ("loss", "width", "verdict"),
    [
        (0.5, 0.5, "is narrower but deeper than plain training"),
        (2.0, 1.5, "is wider but shallower than plain training"),
        (2.0, 0.5, "is narrower and shallower than plain training"),
        (2.0, 1.0, "is no wider or narrower but shallower, beyond noise, than plain training"),
        (1.0, 1.0, "is no wider or narrower and no deeper or shallower, beyond noise, than plain training"),
    ],
)
def test_every_other_outcome_is_said_as_it_is(loss: float, width: float, verdict: str) -> None:
    def value(level_of_sema: float) -> Value:
        def of(label: str, seed: int) -> float:
            if label == "sema" and level_of_sema == 1.0:  # the seeds disagree on who is better
                return 1.0 + (0.01 if seed % 2 else -0.02)
            return (level_of_sema if label == "sema" else 1.0) + seed * 1e-4 * (label == "sema")

        return of

    assert verdict in said(minima({TRAIN_LOSS.metric: value(loss), WIDTH.metric: value(width)}))[0]


def test_one_seed_tells_nothing_apart() -> None:
    findings = STUDY.findings([minima({TRAIN_LOSS.metric: level(sema=0.5)}, seeds=1)])
    assert "One seed cannot tell sema from plain training (training loss −0.5" in findings.sentences[0]
    assert findings.sentences[2].endswith("One seed cannot tell who is wider by the other measures.")
    assert findings.panels[0].sentence == "One seed cannot tell who is deeper."


def test_a_method_that_diverged_is_not_judged() -> None:
    lost = {each.metric: level(sema=None) for each in (*DEPTHS, *WIDTHS)}
    findings = STUDY.findings([minima({**lost, barrier_to("baseline"): level(sema=None)})])
    assert "sema cannot be told in both depth and width from plain training" in findings.sentences[0]
    assert "sema" not in findings.sentences[2]
    assert "baseline to sema" not in findings.sentences[3]


def test_measures_of_width_are_counted_in_their_own_direction() -> None:
    narrower = {each.metric: level(swa=0.5 if each.higher else 2.0) for each in WIDTHS}
    assert "swa 0 and 7 of 7" in said(minima(narrower))[2]


def test_barriers_come_with_the_highest_seed() -> None:
    found = said(minima({barrier_to("baseline"): lambda _, seed: float(seed), barrier_to("ema"): lambda *_: 0.0}))[3]
    assert "baseline to ema 1.0000 (highest seed 2.0000)" in found
    assert "ema to sema 0.0000 (highest seed 0.0000)" in found


def test_arms_scale_with_what_is_asked() -> None:
    base = request("classification", {"model": "mlp", "epochs": 100, "lr": 0.2, "seeds": 4}, {})
    clean, wrong, paths = STUDY.arms(base)
    assert clean.settings
    assert wrong.settings
    assert paths.settings
    assert clean.settings.lr == wrong.settings.lr == (0.02, 0.06, 0.2, 0.6, 2.0)
    assert (clean.settings.keep_weights, clean.settings.seeds) == ("last", 4)
    assert wrong.settings.task_options["label_noise"] == 0.4
    assert (paths.settings.keep_weights, paths.settings.seeds, paths.settings.lr) == ("every", 1, (0.2,))
    assert paths.settings.eval_every == 7  # at most 16 files for each method
    assert paths.settings.methods == clean.settings.methods


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Findings, dict[str, Any], Results]:
    """Train, measure and read the smallest study there is."""
    base = request("classification", {"model": "mlp", "epochs": 2, "seeds": 1, "batch_size": 512}, {})
    folder = tmp_path_factory.mktemp("landscape")
    settings = vary(base, methods="baseline,ema,sema", lr=base.lr, keep_weights="every")
    compare(settings, folder, "", Silent())
    trained = Trained(folder, settings)
    assert STUDY.measure
    state = torch.random.get_rng_state()
    with pytest.MonkeyPatch.context() as small:
        for name, value in {
            "_BATCHES": 1,
            "_SIDE": 5,
            "_FINE": 5,
            "_BETWEEN": 3,
            "_STEPS": 1,
            "_DIRECTIONS": 2,
        }.items():
            small.setattr(landscape_measures, name, value)
        minima = STUDY.measure(Arm("as-asked", "mlp on digits", settings), trained)
        paths = STUDY.measure(Arm("paths", "paths", settings), trained)
    assert torch.equal(state, torch.random.get_rng_state())
    run, rows = trained._run, [vars(row) for row in minima.rows]
    results = Results.from_rows(run, [*_rows(folder), *rows])
    readings = [
        Reading("as-asked", "mlp on digits", run, results, rows, minima.sheets),
        Reading("paths", "paths", run, trained.results, [], paths.sheets),
    ]
    return STUDY.findings(readings), {**minima.sheets, **paths.sheets}, results


def _rows(folder: Path) -> list[dict[str, Any]]:
    from switch_ema.bench.results import read_run

    return read_run(folder)[1]


def test_landscapes_meet_the_losses_at_the_solutions(measured: tuple[Findings, dict[str, Any], Results]) -> None:
    _, sheets, results = measured
    (lr,) = results.lrs
    for label in results.methods:
        depth = results.at(label, lr, "train", metric=TRAIN_LOSS.metric)[0]
        assert sheets["surfaces"]["losses"][label][2][2] == pytest.approx(depth, rel=1e-4)
        assert sheets["lines"]["losses"][label][2] == pytest.approx(depth, rel=1e-4)
    for way in sheets["between"]:
        for end, label in zip((0, -1), way["names"], strict=True):
            depth = results.at(label, lr, "train", metric=TRAIN_LOSS.metric)[0]
            assert way["train"][end] == pytest.approx(depth, rel=1e-4)
    assert {len(walk[0]) for walk in sheets["walks"].values()} == {2}
    assert [axis[-1] for axis in sheets["walks"]["baseline"]] == pytest.approx([0, 0], abs=1e-5)
    assert sheets["off"]["baseline"] == pytest.approx(0, abs=1e-5)


def test_every_quantity_is_measured_of_every_method(measured: tuple[Findings, dict[str, Any], Results]) -> None:
    findings, _, results = measured
    for each in (*DEPTHS, *WIDTHS):
        for label in results.methods:
            assert results.at(label, results.lrs[0], each.split, metric=each.metric)[0] is not None
    names = [panel.title.partition(":")[0] for panel in findings.panels]
    assert names == ["Depth", "Width", "Surfaces", "Between the solutions", "Paths of training"]
    kinds = {
        trace["type"] for panel in findings.panels for plot in panel.plots for trace in plot.traces if "type" in trace
    }
    assert kinds == {"bar", "surface", "contour"}
