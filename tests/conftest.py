"""What tests share: the command line called in this process, and what code loads in a new one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
import typer.main

from switch_ema import cli

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when keras is imported; its own default is TensorFlow
torch.set_num_threads(1)  # small tensors: more threads only wait for each other


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Let no test find what another left in Accelerate, which the Trainer uses too: it is kept by the process."""
    yield
    state = sys.modules.get("accelerate.state")
    if state is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str


Sema = Callable[..., Answer]
_get_command = cache(typer.main.get_command)  # making the command takes 30 ms of every call


@pytest.fixture
def sema(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Sema:
    """Call `sema` with arguments, and return its exit code and what it printed."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr("typer.main.get_command", _get_command)
        monkeypatch.setattr("sys.argv", ["sema", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capfd.readouterr()
        code = exit_.value.code
        return Answer(code if isinstance(code, int) else 1, printed.out, printed.err)

    return call


def loaded_after(code: str, folder: Path | None = None) -> set[str]:
    """Run code in a new interpreter, in a folder, and return the top names of the modules it has loaded."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.fixture
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure on a few examples where there is no option for it."""
    from switch_ema.data.detection import canvas
    from switch_ema.data.detection.load import load
    from switch_ema.tasks.generation import task

    monkeypatch.setattr(canvas, "COUNTS", {"train": 16, "val": 6, "test": 6})
    monkeypatch.setattr(task, "_LOSS_IMAGES", 32)
    load.cache_clear()
    yield
    load.cache_clear()
