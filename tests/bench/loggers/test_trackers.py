"""The real trackers: what they hold is what was measured, in files below the folder, and nothing goes out."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from switch_ema.bench.loggers.logs import Logs
from switch_ema.bench.methods import slug
from tests.bench.loggers.readback import Held, expected, read_tensorboard
from tests.bench.sample import make_run, save_run

RUN, ROWS = make_run(seeds=1, epochs=4, diverged=[("swa", 0)])
LABELS = ("baseline", "ema:decay=0.98", "swa")  # each is a run of its own, which W&B takes a second to start
RUN["methods"] = [method for method in RUN["methods"] if method["label"] in LABELS]
ROWS = [row for row in ROWS if row["method"] in LABELS]
NOLOAD = "ignore:The ``noload`` loader strategy is deprecated"  # mlflow's, of sqlalchemy

pytestmark = pytest.mark.timeout(240)  # MLflow takes long to make a database on a busy machine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return save_run(tmp_path / "digits", RUN, ROWS)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of this process reach another machine."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"), address
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


def log_all(folder: Path, name: str) -> None:
    told: list[str] = []
    with Logs([name], folder, told.append) as logs:
        logs.catch_up(folder)
    assert told == []


def log_in_parts(folder: Path, name: str) -> None:
    """Log as if the comparison was broken off after two epochs."""
    save_run(folder, RUN, [row for row in ROWS if row["epoch"] <= 2])
    log_all(folder, name)
    save_run(folder, RUN, ROWS)
    log_all(folder, name)
    log_all(folder, name)


@pytest.mark.parametrize("log", [log_all, log_in_parts])
@pytest.mark.usefixtures("offline")
def test_tensorboard(folder: Path, log: Callable[[Path, str], None]) -> None:
    log(folder, "tensorboard")
    assert read_tensorboard(folder / "tensorboard") == expected(ROWS)


def test_tensorboard_shows_the_settings(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    log_in_parts(folder, "tensorboard")
    one = folder / "tensorboard" / "digits" / "ema-decay-0.98" / "lr0.05-seed0"
    events: Any = EventAccumulator(str(one))
    events.Reload()
    [packed] = events.PluginTagToContent("hparams").values()
    settings = metadata.parse_session_start_info_plugin_data(packed).hparams
    assert settings["method"].string_value == "ema:decay=0.98"
    assert settings["label_noise"].number_value == 0.4
    assert settings["epochs"].number_value == 4


@pytest.mark.filterwarnings(NOLOAD)
@pytest.mark.usefixtures("offline")
def test_mlflow(folder: Path) -> None:
    log_in_parts(folder, "mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    held: Held = {}
    for run in runs:
        name = f"{slug(run.data.params['method'])}/lr0.05-seed0"
        for metric in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, metric)
            held.setdefault(name, {})[metric] = [(point.step, round(point.value, 4)) for point in history]
    assert held == expected(ROWS)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {(run.data.params["label_noise"], run.data.params["seed"]) for run in runs} == {("0.4", "0")}
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.usefixtures("offline")
def test_wandb_is_offline_unless_asked(folder: Path) -> None:
    log_in_parts(folder, "wandb")
    written = sorted((folder / "wandb").glob("offline-run-*"))
    labels = {row["method"] for row in ROWS}
    assert len(written) == len(labels)
    held = json.loads((folder / "logged.json").read_text())["wandb"]
    assert held == {f"{label} lr=0.05 seed=0": 4 for label in labels}
    content = b"".join(path.read_bytes() for each in written for path in each.glob("*.wandb"))
    assert all(name.encode() in content for name in ("test/accuracy", "val/loss", "label_noise"))
    assert content.count(b"test/accuracy") >= 4 * (len(labels) - 1)


def test_wandb_mode_is_respected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_all(folder, "wandb")
    assert not list(folder.rglob("*.wandb"))
