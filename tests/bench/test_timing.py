from __future__ import annotations

import pytest

from switch_ema.bench.timing import time_left


@pytest.mark.parametrize(
    ("elapsed", "done", "left", "words"),
    [
        (10.0, 1, 2, "about 20 s left"),
        (0.1, 10, 1, "about 1 s left"),
        (60.0, 1, 2, "about 2 min left"),
        (3600.0, 2, 5, "about 2.5 h left"),
        (10.0, 0, 3, ""),
        (10.0, 3, 0, ""),
    ],
)
def test_time_left(elapsed: float, done: int, left: int, words: str) -> None:
    assert time_left(elapsed, done, left) == words
