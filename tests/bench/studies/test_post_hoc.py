"""The width chosen after training: chosen on validation, read on test, set against decays fixed before."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import Results
from switch_ema.bench.studies.post_hoc import STUDY, WIDTHS, WINDOWS
from switch_ema.bench.studies.study import Reading
from switch_ema.bench.wording import NONE

EPOCHS = 10
SEEDS = (0.50, 0.52, 0.54)
NOISE = (0.001, -0.001, 0.0)


def reading(
    after: dict[float, tuple[float, float]],
    before: dict[float, tuple[float, float]],
    *,
    seeds: int = 3,
    rates: dict[float, float] | None = None,
) -> Reading:
    """Make an arm; both say by width what is gained on plain training, on validation and on test.

    `rates` says what plain training, with all that rides on it, loses at each rate.
    """
    rows: list[dict[str, Any]] = []
    sheet: list[list[Any]] = []
    labels = {width: f"ema:decay=window {width * EPOCHS:g} epochs" for width in WINDOWS}
    for lr, seed in product(rates or {0.1: 0.0}, range(seeds)):
        plain = SEEDS[seed] - (rates or {0.1: 0.0})[lr]
        for place, split in enumerate(("val", "test")):
            row = {"lr": lr, "seed": seed, "epoch": EPOCHS, "metric": "accuracy", "split": split}
            rows.append({**row, "method": "baseline", "value": plain})
            rows.append({**row, "method": "posthoc", "value": plain})
            for width, label in labels.items():
                gain = before.get(width, (0.0, 0.0))[place]
                rows.append({**row, "method": label, "value": plain + gain + NOISE[seed]})
            for width in WIDTHS:
                gain = after.get(width, (0.0, 0.0))[place]
                sheet.append([lr, seed, width, split, plain + gain - NOISE[seed]])
    sheet.append([0.7, 0, WIDTHS[0], "val", 9.0])  # another rate, that is not plain training's best
    run = {
        "asked": {"epochs": EPOCHS},
        "metrics": [{"name": "accuracy", "higher_is_better": True}],
        "methods": [{"label": label} for label in ("baseline", "posthoc", *labels.values())],
    }
    return Reading("widths", "mlp on digits", run, Results.from_rows(run, rows), [], {"widths": sheet})


def test_the_width_is_chosen_on_validation_and_read_on_test() -> None:
    found = STUDY.findings([reading({0.1: (0.2, 0.1), 0.2: (0.1, 0.3)}, {0.05: (0.2, 0.02), 0.25: (0.1, 0.4)})])
    (said,) = found.sentences
    assert said.startswith(
        "Plain training's best rate, 0.1: the width chosen after training (0.1 of it) is better than plain training "
        "(+0.1000, "
    )
    assert "; it is better than the best of 10 EMAs fixed before (window 0.05) (+0.0800, " in said
    assert said.endswith(
        "Of the EMAs fixed before, each for itself, the choice after training is better than those of window 0.03, "
        "0.05, 0.075, 0.1, 0.15, 0.2, 0.4, 0.6, 1; worse than those of window 0.25."
    )
    table = found.panels[0].table
    assert table is not None
    assert [row[0] for row in table[1]] == [*(f"{w:g}" + " (chosen)" * (w == 0.1) for w in WINDOWS), "plain training"]
    assert [row[1] for row in table[1]][-4:-1] == [NONE] * 3  # no width of power functions is that wide


def test_a_high_rate_is_told_beside_the_best_one() -> None:
    arm = reading({0.1: (0.2, 0.1)}, {}, rates={0.1: 0.0, 0.02: 0.1, 0.5: 0.2})
    best, high = STUDY.findings([arm]).panels
    assert (best.title, high.title) == ("Plain training's best rate, 0.1", "A high rate, 0.5")
    assert high.sentence.startswith(
        "A high rate, 0.5: the width chosen after training (0.1 of it) is better than plain"
    )
    assert best.plots[0].traces[1]["y"][0] == pytest.approx(0.52)
    assert high.plots[0].traces[1]["y"][0] == pytest.approx(0.32)


def test_a_tie_is_a_tie_and_one_seed_tells_nothing() -> None:
    tie = STUDY.findings([reading({}, {})])
    assert "shows no difference beyond noise from the best of 10 EMAs" in tie.sentences[0]
    assert tie.sentences[0].endswith("is no different beyond noise from all 10.")
    assert len(tie.notes) == 2  # equal widths: the narrowest is taken, at the edge
    one = STUDY.findings([reading({0.1: (0.2, 0.2)}, {}, seeds=1)])
    assert "cannot be told from" in one.sentences[0]
    assert "Without an interval nothing can be said" in one.sentences[0]


def test_a_width_that_diverged_is_not_chosen() -> None:
    arm = reading({0.1: (0.2, 0.2), 0.2: (0.3, 0.3)}, {})
    for row in arm.sheets["widths"]:
        if row[1:4] == [0, 0.2, "val"]:
            row[4] = None
    assert "(0.1 of it)" in STUDY.findings([arm]).sentences[0]


@pytest.mark.parametrize("epochs", [2, 20])
def test_the_fixed_decays_have_the_widths_that_are_chosen_from(epochs: int) -> None:
    (arm,) = STUDY.arms(Settings.of(task="classification", data="digits", model="mlp", epochs=epochs, lr="0.1"))
    assert arm.settings is not None
    assert arm.settings.lr == (0.002, 0.01, 0.03, 0.1)
    texts = [dict(method.options)["decay"] for method in arm.settings.parsed_methods() if method.kind == "ema"]
    assert texts == [f"window {width * epochs:g} epochs" for width in WINDOWS]
    assert not any(method.switches for method in arm.settings.parsed_methods())


def test_the_sweep_is_read_into_the_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from switch_ema.bench import sweep

    def fake(folder: Path, widths: object, progress: object) -> None:
        assert widths == WIDTHS
        line = (
            '{"method": "posthoc", "lr": 0.1, "seed": 1, "sigma_rel": 0.2, "split": "val", "values": {"accuracy": 0.5}}'
        )
        (folder / "sweep.jsonl").write_text(line + "\n")

    monkeypatch.setattr(sweep, "sweep", fake)
    trained: Any = SimpleNamespace(folder=tmp_path, results=SimpleNamespace(metric="accuracy"))
    (arm,) = STUDY.arms(Settings.of(task="classification", data="digits", model="mlp"))
    assert STUDY.measure is not None
    assert STUDY.measure(arm, trained).sheets == {"widths": [[0.1, 1, 0.2, "val", 0.5]]}
