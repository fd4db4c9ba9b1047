"""The Keras callback, on each backend in a process of its own: Keras chooses its backend when it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIOS = [Path(__file__).with_name(name) for name in ("keras_scenarios.py", "keras_fits.py")]
CACHE_ALL = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


@pytest.mark.timeout(300)  # importing Keras, JAX and torch takes most of it
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_callback_in_keras(backend: str, tmp_path: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), **CACHE_ALL}  # the scenarios compile equal networks
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *map(str, SCENARIOS)]
    done = subprocess.run(
        command, env=environment, cwd=SCENARIOS[0].parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
