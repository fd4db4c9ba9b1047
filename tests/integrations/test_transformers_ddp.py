"""The Trainer callback in two processes."""

from __future__ import annotations

from pathlib import Path

from tests.averaging.processes import Teams
from tests.integrations.trainer_ddp import train_together


def test_processes_average_the_same(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    teams = Teams(tmp_path / "teams")
    try:
        teams(2, train_together, tmp_path / "run")
    finally:
        teams.end()
