"""A comparison on a Ray cluster that runs by itself, through its client server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from switch_ema.bench import connection
from switch_ema.bench.cluster import compare_on
from switch_ema.bench.compare import compare
from switch_ema.errors import FieldError
from tests.bench.sample import Watched
from tests.bench.test_cluster import closed_port, settings, state_of

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    port = closed_port()
    command = [sys.executable, "-m", "tests.bench.ray_server", str(port)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield f"ray://127.0.0.1:{port}"
        server.stdin.write("\n")


@pytest.mark.parametrize(
    ("message", "line"),
    [("ray client connection timeout", "ray client connection timeout"), ("Failure from server:\n  why\nhow\n", "how")],
)
def test_why_a_cluster_refuses_is_told(monkeypatch: pytest.MonkeyPatch, message: str, line: str) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError(message)

    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(connection, "_knock", lambda _: None)
    told = rf"cannot reach the Ray cluster ray://host:1 \({line}; if it asks for a token, set RAY_AUTH_MODE=token\)"
    with pytest.raises(FieldError, match=told), connection.connected("ray://host:1"):
        pass


def test_a_cluster_elsewhere(tmp_path: Path, address: str) -> None:
    compare(settings(), tmp_path / "here", "one", Watched())
    watched = Watched()
    compare_on(address, settings(), tmp_path / "there", "other", watched)
    assert state_of(tmp_path / "there") == state_of(tmp_path / "here")
    assert (tmp_path / "there" / "report.html").exists()
