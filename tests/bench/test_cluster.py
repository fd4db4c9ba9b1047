"""Comparisons on a local Ray cluster against comparisons in one process."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from switch_ema.bench import cluster, connection, train
from switch_ema.bench.cluster import compare_on
from switch_ema.bench.compare import compare
from switch_ema.bench.connection import check_cluster
from switch_ema.bench.mailbox import Mailbox
from switch_ema.bench.plan import Trajectory
from switch_ema.bench.remote import _answer, contents, replace_contents, train_there
from switch_ema.bench.settings import Settings
from switch_ema.errors import FieldError, InputError
from tests.bench.sample import Watched
from tests.conftest import Sema

pytestmark = pytest.mark.timeout(600)  # every worker that is started loads all anew
EPOCHS = 4
METHODS = "baseline,ema:decay=0.8,posthoc:gammas=3/9,sigma_rel=0.15,sema:decay=0.8"


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "task": "classification",
        "data": "digits",
        "model": "mlp",
        "task_options": {"train_size": 96},
        "methods": METHODS,
        "seeds": 1,
        "epochs": EPOCHS,
        "batch_size": 24,
        "keep_weights": "last",
        "accelerator": "cpu",
    }
    return Settings.of(**{**values, **changes})


def state_of(folder: Path) -> dict[str, Any]:
    """Return all that a run folder holds but for times."""
    files: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name in (".lock", "report.html", "progress.json"):
            continue
        files[name] = path.read_bytes()
        if path.name == "rows.jsonl":
            rows = map(json.loads, files[name].splitlines())
            files[name] = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
        elif path.name == "run.json":
            files[name] = {key: value for key, value in json.loads(files[name]).items() if key not in TIMED}
            del files[name]["environment"]["commit"]  # somebody may commit meanwhile
        elif name.startswith("snapshots"):  # they also say which run wrote them
            files[name] = {key: tensor.tolist() for key, tensor in load_file(path).items()}
    files["done"] = json.loads((folder / "progress.json").read_text())["done"]
    return files


TIMED = ("command", "started", "checksum")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    compare(settings(), folder, "one", Watched())
    assert (folder / "report.html").exists()
    return state_of(folder)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()


def _train(folder: Path, kills: int, *arguments: Any) -> dict[str, bytes]:
    """Train on a worker; the one with the passive methods dies by kill -9 after two epochs, so many times."""
    train._CHECKPOINT_SECONDS = 0.0
    name, original = arguments[1].name, train.Run.train_epoch

    def train_epoch(self: train.Run) -> float:
        with (folder / name).open("a") as log:
            log.write(f"{self.epoch}")
        if "passive" in name and self.epoch == 2 and (folder / name).read_text().count("2") <= kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self)

    train.Run.train_epoch = train_epoch  # type: ignore[method-assign]
    try:
        return train_there(*arguments)
    finally:
        train.Run.train_epoch = original  # type: ignore[method-assign]


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None) -> Callable[[int], Path]:
    """Have workers write down the epochs they begin, and die so many times at the third."""

    def make(kills: int) -> Path:
        folder = tmp_path / "epochs"
        folder.mkdir(exist_ok=True)

        def train_deadly(*arguments: Any) -> dict[str, bytes]:
            from tests.bench.test_cluster import _train

            return _train(folder, kills, *arguments)

        monkeypatch.setattr(cluster, "train_there", train_deadly)
        return folder

    return make


def begun(folder: Path) -> dict[str, str]:
    """Return the epochs that workers have begun."""
    return {"sema" if "sema" in path.name else "passive": path.read_text() for path in folder.iterdir()}


def test_a_worker_that_is_killed_changes_nothing(
    tmp_path: Path, deadly: Callable[[int], Path], whole: dict[str, Any]
) -> None:
    epochs, told = deadly(1), Watched()
    outcome = compare_on("ray", settings(), tmp_path / "run", "other", told)
    assert begun(epochs) == {"passive": "01223", "sema": "0123"}
    assert (outcome.trained, outcome.writes, told.done) == (2, True, 0)
    assert {epoch for _, epoch in told.told} == {1, 2, 3, 4}
    assert state_of(tmp_path / "run") == whole
    assert outcome.report.exists()


def test_a_run_that_is_lost_too_often_goes_on_without_a_cluster(
    tmp_path: Path, deadly: Callable[[int], Path], whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly(100)
    monkeypatch.setattr(cluster, "_LOSSES", 1)
    with pytest.raises(ConnectionError, match=r"a training run was lost with its worker more than 1 times"):
        compare_on("ray", settings(), tmp_path / "run", "other", Watched())
    assert list((tmp_path / "run" / "parts").glob("*/checkpoint.pt"))
    told = Watched()
    compare(settings(), tmp_path / "run", "other", told)
    assert [epoch for name, epoch in told.told if "passive" in name] == [3, 4]
    assert state_of(tmp_path / "run") == whole


def test_a_comparison_begun_in_one_process_goes_on_on_a_cluster(
    tmp_path: Path, deadly: Callable[[int], Path], whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(trajectory: Trajectory, epoch: int) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "_CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        compare(settings(), tmp_path / "run", "one", Watched(stop))
    epochs = deadly(0)
    compare_on("ray", settings(), tmp_path / "run", "other", Watched())
    assert begun(epochs) == {"passive": "3", "sema": "0123"}
    assert state_of(tmp_path / "run") == whole


def test_an_interrupted_comparison_goes_on(
    tmp_path: Path, deadly: Callable[[int], Path], whole: dict[str, Any]
) -> None:
    def stop(trajectory: Trajectory, epoch: int) -> None:
        raise KeyboardInterrupt

    deadly(0)
    with pytest.raises(KeyboardInterrupt):
        compare_on("ray", settings(), tmp_path / "run", "other", Watched(stop))
    compare_on("ray", settings(), tmp_path / "run", "other", Watched())
    assert state_of(tmp_path / "run") == whole


def test_a_run_that_waits_for_the_mailbox_does_not_lend_its_cpus(ray_cluster: None) -> None:
    import ray

    class Slow:
        def reply(self) -> str:
            time.sleep(2)
            return "late"

    def first(mailbox: Any) -> tuple[str, float]:
        return _answer(mailbox.reply.remote()), time.time()

    def second() -> float:
        return time.time()

    mailbox, both = ray.remote(Slow).options(num_cpus=0).remote(), {"num_cpus": 2}
    ends = ray.remote(**both)(first).remote(mailbox)
    begins = ray.remote(**both)(second).remote()
    reply, end = ray.get(ends)
    assert reply == "late"
    assert ray.get(begins) >= end


def test_wrong_input_that_only_a_worker_sees_is_one_line(tmp_path: Path, ray_cluster: None) -> None:
    asked = settings(batch_size=100)
    with pytest.raises(InputError, match=r"^--batch-size 100 times --accumulate 1 is more than the 96 training") as one:
        compare(asked, tmp_path / "one", "one", Watched())
    with pytest.raises(InputError) as other:
        compare_on("ray", asked, tmp_path / "other", "other", Watched())
    assert str(other.value) == str(one.value)
    with pytest.raises(FieldError, match="accelerator cuda: no node of the cluster has a GPU"):
        compare_on("ray", settings(accelerator="cuda"), tmp_path / "gpu", "other", Watched())


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port at which somebody listens and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


SMALL = ("compare", "classification", "--epochs", 1, "--seeds", 1, "--methods", "baseline")


@pytest.mark.parametrize("variable", [False, True])
def test_a_cluster_that_cannot_be_reached_is_one_line(
    sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    port = closed_port()
    address = "ray" if variable else f"ray://127.0.0.1:{port}"
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    start = time.monotonic()
    answer = sema(*SMALL, "--cluster", address, "--out", tmp_path / "run")
    assert answer.code == 2
    where = os.environ.get("RAY_ADDRESS", address)
    line = f"sema: --cluster cannot reach the Ray cluster {where} (Connection refused); start it, or write another"
    assert answer.err.splitlines()[-1].startswith(line)
    assert not (tmp_path / "run").exists()
    assert time.monotonic() - start < 30  # on a quiet machine 5: it is what loading torch takes


def test_somebody_else_who_listens_is_no_cluster(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_PATIENCE_SECONDS", 0.5)
    with pytest.raises(FieldError, match="no Ray client server answers there"):
        connection._knock(f"ray://127.0.0.1:{silent_port}")


@pytest.mark.parametrize("address", ["rya", "ray://", "ray://host", "http://host:80", "ray://host:port", "host:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(FieldError, match="no address of a cluster; write ray, or ray://HOST:PORT"):
        check_cluster(address, settings())


def test_a_training_run_on_a_cluster_has_one_device() -> None:
    for changes in ({"devices": 2}, {"strategy": "ddp"}):
        with pytest.raises(FieldError, match=r"has one device; leave --devices and --strategy out.*torchrun"):
            check_cluster("ray", settings(**changes))
    check_cluster("ray", settings())
    check_cluster("ray://127.0.0.1:10001", settings())


def test_ray_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'needs ray>=2.40.*pip install --upgrade "switch-ema\[ray\]"'):
        check_cluster("ray", settings())


def test_the_mailbox_gives_each_change_once_and_all_files_to_who_starts_again() -> None:
    box = Mailbox()
    box.keep("a", {"x": b"1", "y": b"2"}, ["x", "y"])
    box.tell("a", 1, [])
    box.keep("a", {"x": b"3", "z": b"4"}, ["x", "z"])
    assert box.files("a") == {"x": b"3", "z": b"4"}
    assert box.take() == ([("a", 1, [])], {"a": ({"x": b"3", "y": b"2", "z": b"4"}, ["x", "z"])})
    assert box.take() == ([], {})
    box.forget("a")
    assert box.files("a") == {}


def test_contents_are_those_that_changed(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    replace_contents(one, {"a/b": b"1", "c": b"2"}, ["a/b", "c"])
    (one / ".hidden").touch()
    files, stamps = contents(one, {})
    assert files == {"a/b": b"1", "c": b"2"}
    (one / "c").write_bytes(b"33")
    files, _ = contents(one, stamps)
    assert files == {"c": b"33"}
    replace_contents(other, {"a/b": b"1", "gone": b""}, ["a/b", "gone"])
    replace_contents(other, files, ["a/b", "c"])
    assert contents(other, {})[0] == {"a/b": b"1", "c": b"33"}
    assert contents(tmp_path / "none", {}) == ({}, {})
