"""The Lightning callback on two processes: DDP, and shards (FSDP2) with both kinds of checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(300)
def test_on_two_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.integrations.lightning_ranks", str(tmp_path)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, cwd=root, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in tmp_path.glob("passed*")) == ["passed0", "passed1"]
