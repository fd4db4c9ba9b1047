"""How many threads a comparison uses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from switch_ema.bench.machine import threads
from switch_ema.bench.settings import Settings


@pytest.mark.parametrize(
    ("changes", "environment", "expected"),
    [
        ({}, None, 1),
        ({}, "3", 3),
        ({"threads": 2}, None, 2),
        ({"data": "some/folder"}, None, 3),
        ({"task": "my.py:Task", "data": "own"}, None, 3),
    ],
)
def test_threads(
    changes: dict[str, Any], environment: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if environment:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    settings = Settings.of(**{"task": "classification", "data": "digits", "model": "mlp", **changes})
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with threads(settings):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
