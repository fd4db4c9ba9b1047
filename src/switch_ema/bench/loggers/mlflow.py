"""MLflow: an experiment for each comparison, in the folder's own database unless another server is named."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from switch_ema.bench.loggers.logger import LoggedRun, by_epoch
from switch_ema.bench.results import Row

_TAG = "sema.identity"
_BATCH = 1000  # as many metrics as one call may hold


class MLflow:
    """Writes to ``MLFLOW_TRACKING_URI``, or to a database below ``mlflow/``.

    Args:
        home: The folder that is looked at.
    """

    whole = False

    def __init__(self, home: Path) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._artifacts: str | None = None
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            folder = (home / "mlflow").resolve()
            folder.mkdir(parents=True, exist_ok=True)
            uri, self._artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        self._client = MlflowClient(uri)
        self._runs: dict[str, str] = {}

    def log(self, run: LoggedRun, rows: Iterable[Row], finished: bool) -> None:
        """Write measurements by epoch, at the time that training had taken by then."""
        run_id = self._run(run)
        metrics = [
            Metric(name, value, int(1000 * (run.started + row.seconds)), row.epoch)
            for row, found in by_epoch(rows)
            for name, value in found.items()
        ]
        for first in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[first : first + _BATCH])
        if finished:
            self._client.set_terminated(run_id)

    def _run(self, run: LoggedRun) -> str:
        """Return the identifier of a run, found by its tag or made."""
        if run.identity not in self._runs:
            experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.group)
            found = self._client.search_runs([experiment], filter_string=f"tags.`{_TAG}` = '{run.identity}'")
            made = found[0] if found else self._made(run, experiment)
            self._runs[run.identity] = made.info.run_id
        return self._runs[run.identity]

    def _made(self, run: LoggedRun, experiment: str) -> Run:
        started = int(1000 * run.started)
        made = self._client.create_run(experiment, started, tags={_TAG: run.identity}, run_name=run.key)
        settings = [Param(name, str(value)) for name, value in run.settings.items()]
        self._client.log_batch(made.info.run_id, params=settings)
        return made

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else str(self._client.create_experiment(name, self._artifacts))

    def close(self) -> None:
        """Leave what is unfinished open: the same command goes on with it."""
