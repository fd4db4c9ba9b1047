"""Post-hoc EMA in the bench: measured in training at one width, and at any width after it."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
import torch

from switch_ema.averaging.synthesis import Snapshots
from switch_ema.bench.compare import compare
from switch_ema.bench.request import request
from switch_ema.bench.results import read_run
from switch_ema.bench.sweep import sweep
from switch_ema.bench.widths import read_sweep, summarize_widths
from switch_ema.errors import InputError
from switch_ema.tasks.catalog import create
from tests.bench.sample import Watched
from tests.conftest import Sema

pytestmark = pytest.mark.filterwarnings("ignore:the stored averages miss this profile")

OPTIONS = ("--model", "small-resnet", "--train-size", 96, "--batch-size", 24, "--epochs", 4, "--seeds", 2)
METHODS = "baseline,posthoc:sigma_rel=0.15,power_ema:gamma=6.94"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posthoc") / "run"
    names = [str(option).removeprefix("--").replace("-", "_") for option in OPTIONS[::2]]
    values = dict(zip(names, map(str, OPTIONS[1::2]), strict=True))
    train_size = values.pop("train_size")
    asked = request("classification", {**values, "methods": METHODS}, {"train_size": train_size})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of profiles that so few snapshots cannot give
        compare(asked, folder, "test", Watched())
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_the_width_of_a_tracked_average_is_that_average(folder: Path) -> None:
    """At sigma_rel = 0.1 nothing has to be fitted: the average is the power function of exponent 6.94."""
    sweep(folder, [0.10003], lambda text: None)
    _, rows = read_run(folder)
    swept = {(row["seed"], row["split"]): row["values"]["loss"] for row in read_sweep(folder)}
    tracked = {
        (row["seed"], row["split"]): row["value"]
        for row in rows
        if row["method"] == "power_ema:gamma=6.94" and row["metric"] == "loss" and row["epoch"] == 4
        and row["split"] != "train"
    }  # fmt: skip
    assert swept.keys() == tracked.keys()
    for key, value in tracked.items():
        assert swept[key] == pytest.approx(value, rel=1e-3)


def test_the_measured_width_is_the_one_that_is_swept(folder: Path) -> None:
    sweep(folder, [0.15, 0.15], lambda text: None)
    assert len(read_sweep(folder)) == 2 * 2  # seeds, splits
    _, rows = read_run(folder)
    measured = {
        (row["seed"], row["split"], row["metric"]): row["value"]
        for row in rows
        if row["method"].startswith("posthoc") and row["epoch"] == 4 and row["split"] != "train"
        and not row["metric"].endswith("_bn_reestimated")
    }  # fmt: skip
    swept = {
        (row["seed"], row["split"], name): value for row in read_sweep(folder) for name, value in row["values"].items()
    }
    assert swept == measured
    task = create("classification", seed=0, options={"train_size": 96})
    model = task.build_model()
    path = next((folder / "snapshots").glob("seed0*")) / "posthoc-sigma-rel-0.15"
    Snapshots(path).synthesize(sigma_rel=0.15).copy_to(model)
    assert task.evaluate(model.eval(), "test", torch.device("cpu"))["loss"] == swept[0, "test", "loss"]


def test_one_command_sweeps_prints_and_reports(folder: Path, sema: Sema) -> None:
    answer = sema("sweep", folder, "--sigma-rel", "0.05,0.1,0.2")
    assert answer.code == 0
    assert answer.out.count("best on validation") == 1
    assert [line.split()[1] for line in answer.out.splitlines()[1:4]] == ["0.05", "0.1", "0.2"]
    assert "chosen after training" in (folder / "report.html").read_text()
    again = sema("sweep", folder, "--sigma-rel", "0.05,0.1,0.2")
    assert "sigma_rel 0.05" in answer.err
    assert "sigma_rel" not in again.err  # nothing is measured twice


def test_the_best_width_is_chosen_on_validation() -> None:
    def row(width: float, split: str, value: float) -> dict[str, object]:
        named = {"method": "posthoc", "lr": 0.1, "seed": 0, "sigma_rel": width, "fit_error": 0.0}
        return {**named, "split": split, "values": {"loss": value}}

    rows = [row(0.1, "val", 1.0), row(0.1, "test", 9.0), row(0.2, "val", 2.0), row(0.2, "test", 0.0)]
    run = {"metrics": [{"name": "loss", "higher_is_better": False}]}
    found = summarize_widths(rows, run, {"posthoc": 0.1})
    assert [(width.sigma_rel, width.best) for width in found] == [(0.1, True), (0.2, False)]
    assert summarize_widths(rows, run, {"posthoc": 0.3}) == []


def test_what_cannot_be_swept_is_refused(folder: Path, sema: Sema) -> None:
    for widths, words in (("0.5", "0.2886"), ("wide", "a number is needed")):
        answer = sema("sweep", folder, "--sigma-rel", widths)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert words in answer.err
    shutil.rmtree(folder / "snapshots")
    with pytest.raises(InputError, match="snapshots were removed"):
        sweep(folder, [0.1], lambda text: None)
    (folder / "progress.json").unlink()
    with pytest.raises(InputError, match="is not finished"):
        sweep(folder, [0.1], lambda text: None)
