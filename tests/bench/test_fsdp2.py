"""One model in parts on two processes: the numbers of one process, checkpoints of several files, two machines."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from switch_ema.bench.compare import compare, prepare
from switch_ema.bench.processes import num_nodes
from switch_ema.bench.sharding import blocks, whole_state
from switch_ema.errors import FieldError, InputError
from tests.averaging.processes import Teams
from tests.bench import fsdp2_node, fsdp2_ranks
from tests.bench.fsdp2_ranks import Silent, parts, rows, settings

pytestmark = pytest.mark.timeout(600)
CUT = ("seed0-lr0.05-passive-1", 3)


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teams]:
    teams = Teams(tmp_path_factory.mktemp("teams"))
    yield teams
    teams.end()


@pytest.fixture(scope="module")
def whole(teams: Teams, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison on two processes that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    teams(2, fsdp2_ranks.sharded, folder)
    return folder


@pytest.fixture
def cut(teams: Teams, tmp_path: Path) -> Path:
    """A comparison that was broken off after the third epoch."""
    teams(2, fsdp2_ranks.sharded, tmp_path / "cut", CUT)
    return tmp_path / "cut"


def test_the_numbers_are_those_of_one_process(whole: Path, tmp_path: Path) -> None:
    compare(settings(), tmp_path / "one", "sema", Silent())
    alone, together = rows(tmp_path / "one"), rows(whole)
    assert [row[:-1] for row in alone] == [row[:-1] for row in together]
    values = [(row[-1], other[-1]) for row, other in zip(alone, together, strict=True)]
    assert [a for a, _ in values] == pytest.approx([b for _, b in values], rel=1e-4, abs=1e-5)
    assert len({value for value, _ in values}) > len(values) / 4


def test_every_process_has_a_part(teams: Teams) -> None:
    teams(2, fsdp2_ranks.every_process_has_a_part)


def test_nothing_is_left_of_the_checkpoints(whole: Path) -> None:
    assert parts(whole) == []


def test_a_run_that_was_broken_off_goes_on_bit_for_bit(teams: Teams, whole: Path, cut: Path) -> None:
    assert parts(cut) == ["checkpoint-3-0.pt", "checkpoint-3-1.pt", "checkpoint.pt"]
    teams(2, fsdp2_ranks.sharded, cut)
    assert rows(cut) == rows(whole)
    assert parts(cut) == []


def test_killed_between_the_parts_and_the_checkpoint(teams: Teams, whole: Path, tmp_path: Path) -> None:
    teams(2, fsdp2_ranks.killed_while_writing, tmp_path / "run", 3)
    assert [name for name in parts(tmp_path / "run") if "-2-" in name] == ["checkpoint-2-0.pt", "checkpoint-2-1.pt"]
    teams(2, fsdp2_ranks.sharded, tmp_path / "run")
    assert rows(tmp_path / "run") == rows(whole)
    assert parts(tmp_path / "run") == []


def test_a_full_disk_of_one_is_said_by_all(teams: Teams, whole: Path, tmp_path: Path) -> None:
    teams(2, fsdp2_ranks.disk_full_on_one, tmp_path / "run", 2)
    teams(2, fsdp2_ranks.sharded, tmp_path / "run")
    assert rows(tmp_path / "run") == rows(whole)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def of_another(path: Path) -> None:
    shutil.copyfile(path.with_name("checkpoint-3-0.pt"), path)


def test_a_damaged_part_is_refused_on_all(teams: Teams, whole: Path, cut: Path) -> None:
    part = cut / "checkpoint-3-1.pt"
    good = part.read_bytes()
    for damage in (torn, flipped, of_another, Path.unlink):
        damage(part)
        message = f"{part} is missing or damaged .*; delete {cut / 'checkpoint.pt'} to start the trajectory anew"
        teams(2, fsdp2_ranks.refused, cut, message)
        part.write_bytes(good)
    part.unlink()
    (cut / "checkpoint.pt").unlink()
    teams(2, fsdp2_ranks.sharded, cut)
    assert rows(cut) == rows(whole)
    assert parts(cut) == []


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    path, two = tmp_path / "checkpoint.pt", {"parts": [["checkpoint-3-0.pt", ""], ["checkpoint-3-1.pt", ""]]}
    fabric: Any = SimpleNamespace(world_size=3, global_rank=0)
    message = (
        f"{path} was written by 2 processes and there are 3 now; start 2, or delete it to start the trajectory anew"
    )
    with pytest.raises(InputError) as caught:
        whole_state(fabric, path, two, nn.Linear(1, 1))
    assert str(caught.value) == message


def test_folders_of_their_own_are_refused(teams: Teams, tmp_path: Path) -> None:
    teams(2, fsdp2_ranks.other_folders, tmp_path)


def two_machines(folder: Path, arguments: list[str], **environment: str) -> list[subprocess.CompletedProcess[str]]:
    """Start an agent of torchrun for each of two machines, with a process each, and wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    command += [fsdp2_node.__file__, *arguments, "--out", str(folder)]
    around = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **environment}
    around["PYTHONPATH"] = str(Path(__file__).parents[2])
    agents = [subprocess.Popen(command, env=around, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    try:
        answers = [agent.communicate(timeout=500) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    return [
        subprocess.CompletedProcess(agent.args, agent.returncode, *answer)
        for agent, answer in zip(agents, answers, strict=True)
    ]


def test_a_machine_that_is_lost_costs_no_result(whole: Path, tmp_path: Path) -> None:
    asked = "compare classification --model mlp --batch-size 32 --epochs 4 --seeds 1 --train-size 96 --clip-norm 1"
    words = [*asked.split(), "--strategy", "fsdp2", "--accelerator", "cpu", "--methods", fsdp2_ranks.METHODS]
    lost = two_machines(tmp_path / "run", words, LOST_AFTER="3")
    assert sorted(answer.returncode for answer in lost) == [-9, 1]
    assert parts(tmp_path / "run") == ["checkpoint-3-0.pt", "checkpoint-3-1.pt", "checkpoint.pt"]
    again = two_machines(tmp_path / "run", words)
    assert [answer.returncode for answer in again] == [0, 0], again
    assert sum(answer.stdout.count("report:") for answer in again) == 1
    assert rows(tmp_path / "run") == rows(whole)
    assert parts(tmp_path / "run") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "16-mixed"}, "precision 16-mixed: not with a model in parts"),
        ({"accelerator": "mps"}, "accelerator mps: not with a model in parts"),
        ({"optimizer": "schedulefree", "methods": "ema"}, "optimizer schedulefree: not with a model in parts"),
        ({"keep_weights": "best"}, "keep_weights best: not with a model in parts .--strategy fsdp2.; write none"),
    ],
)
def test_what_needs_the_whole_model_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=message):
        prepare(settings(strategy="fsdp2", **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GROUP_WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert num_nodes() == 1  # torchrun has not set them
    prepare(settings(), tmp_path / "run")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert num_nodes() == 3
    with pytest.raises(FieldError, match=r"devices 1: torchrun has started 2 .*; write --devices 2, or --nproc-per"):
        prepare(settings(), tmp_path / "run")
    prepare(settings(devices=2), tmp_path / "run")


def test_blocks_are_the_outermost_that_a_model_repeats() -> None:
    def block() -> nn.Sequential:
        return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))

    deep, shallow = [block(), block()], block()
    lists = nn.ModuleList([nn.ModuleList(deep), nn.ModuleList([shallow])])
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2), lists)
    layers = [*shallow[1].children()]
    assert blocks(model) == [*deep, *layers]
    deep[0][0].weight = deep[1][0].weight  # tied
    assert blocks(model) == layers
    assert blocks(nn.Linear(2, 2)) == []
