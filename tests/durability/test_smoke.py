"""A few of each fault; `make durability` tries many. The finished result is always that of the undisturbed run."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.durability import commands, ddp, mutations, run, sharing
from tests.durability.commands import Undisturbed
from tests.durability.faults import Fault
from tests.durability.tally import Tally
from tests.durability.work import sema, warm_up

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are stopped and killed by Linux's signals"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    warm_up()


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return commands.undisturbed(commands.SMALLEST, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mutations.killed_after_checkpoint(tmp_path_factory.mktemp("killed"))


def assert_none_lost(tally: Tally, tried: int) -> None:
    assert tally.losses == []
    assert tally.tried == tried


def test_killed_at_random(smallest: Undisturbed, tmp_path: Path) -> None:
    assert_none_lost(commands.kill_at_random(smallest, tmp_path, 3, random.Random(0), most=3), 3)


@pytest.mark.parametrize("kind", ["kill", "full", "read-only"])
def test_killed_or_without_disk_in_the_middle_of_a_write(smallest: Undisturbed, tmp_path: Path, kind: str) -> None:
    points = range(250, 251) if kind != "read-only" else range(1, 2)
    assert_none_lost(commands.fail_at(smallest, tmp_path, kind, points), 1)


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    ended = sema((*commands.SMALLEST, tmp_path / "run"), tmp_path / "log", Fault("full", 12, str(tmp_path / "run")))
    assert ended.code == 1
    assert ended.said.splitlines()[-1].endswith("No space left on device; nothing that was written is lost")


def test_jumping_clocks(smallest: Undisturbed, tmp_path: Path) -> None:
    assert_none_lost(commands.jumping_clocks(smallest, tmp_path, 1), 1)


def test_two_processes_on_one_folder(smallest: Undisturbed, tmp_path: Path) -> None:
    assert_none_lost(sharing.two_on_one_folder(smallest, tmp_path, 1), 1)


def test_a_lost_worker(tmp_path: Path) -> None:
    whole = ddp.lose_workers(tmp_path / "whole", 0, random.Random(0), 0)[1]
    assert ddp.lose_workers(tmp_path / "lost", 1, random.Random(0), 0.5)[1] == whole


def test_nothing_goes_to_the_network(smallest: Undisturbed, tmp_path: Path) -> None:
    asked: tuple[tuple[object, ...], ...] = (
        (*smallest.arguments, tmp_path / "run"),
        ("report", tmp_path / "run"),
        ("list", "tasks"),
        ("recipe", "cpu-points"),
    )
    for words in asked:
        ended = sema(words, tmp_path / "log", Fault("offline"))
        assert ended.code == 0, ended.said


@pytest.mark.parametrize("target", mutations.UNFINISHED, ids=lambda target: target.name)
def test_damaged_files_of_a_killed_comparison(killed: Path, target: mutations.Target) -> None:
    assert_none_lost(mutations.damage(killed, target, 30, random.Random(0)), 30)


def test_damaged_files_of_a_finished_comparison(smallest: Undisturbed, tmp_path: Path) -> None:
    ended = sema((*smallest.arguments, tmp_path / "run"), tmp_path / "log")
    assert ended.code == 0, ended.said
    for target in mutations.finished_targets(tmp_path / "run"):
        assert_none_lost(mutations.damage(tmp_path / "run", target, 12, random.Random(0)), 12)


@pytest.fixture
def averaged(tmp_path: Path) -> tuple[Path, tuple[mutations.Target, ...]]:
    return tmp_path, mutations.make_averaged(tmp_path)


def test_damaged_averaged_weights(averaged: tuple[Path, tuple[mutations.Target, ...]]) -> None:
    folder, targets = averaged
    for target in targets:
        assert_none_lost(mutations.damage(folder, target, 24, random.Random(0)), 24)


def test_a_loss_is_noticed(tmp_path: Path) -> None:
    """The proof can fail: a reader that trusts its file loses."""
    (tmp_path / "numbers").write_bytes(bytes(100))
    trusting = mutations.Target("numbers", "numbers", lambda folder: (folder / "numbers").read_bytes())
    assert mutations.damage(tmp_path, trusting, 6, random.Random(0)).losses


@pytest.mark.parametrize(("parts", "tried"), [([], 2), (["kills"], 1)])
def test_the_table_of_all_parts_or_of_those_named(
    parts: list[str], tried: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def part(name: str) -> run.Part:
        tally = Tally(name)
        tally.count("refused", 1)
        return lambda folder, scale: iter([tally])

    monkeypatch.setattr(run, "PARTS", {name: part(name) for name in ("kills", "writes")})
    monkeypatch.setattr("sys.argv", ["run", *parts])
    assert run.main() == 0
    assert f"\n{tried} trials in 0 minutes, 0 losses" in capsys.readouterr().out
