"""What tests share: the command line called in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from switch_ema import cli

torch.set_num_threads(1)  # small tensors: more threads only wait for each other


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str


Sema = Callable[..., Answer]


@pytest.fixture
def sema(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Sema:
    """Call `sema` with arguments, and return its exit code and what it printed."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["sema", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capfd.readouterr()
        code = exit_.value.code
        return Answer(code if isinstance(code, int) else 1, printed.out, printed.err)

    return call
