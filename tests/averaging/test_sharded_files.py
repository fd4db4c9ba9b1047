"""Averages of sharded and replicated models in files, on 2 to 4 processes (gloo, CPU)."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from switch_ema import EMA, Averager, PostHocEMA, load_averaged, save_averaged
from switch_ema.averaging import safewriter, shards, tensors
from switch_ema.averaging.synthesis import Snapshots
from switch_ema.averaging.tensors import local

from .cases import bits

GAMMA = 3.0
Processes = Callable[..., None]


class Uneven(nn.Module):
    """Weights of 3 rows and of 1 row, which 2 processes share unevenly, buffers and a tied weight."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.three = nn.Linear(4, 3, dtype=dtype)
        self.one = nn.Linear(3, 1, dtype=dtype)
        self.norm = nn.BatchNorm1d(3, dtype=dtype)
        self.tied = nn.Linear(4, 3, bias=False, dtype=dtype)
        self.tied.weight = self.three.weight


def fill(model: nn.Module, step: int) -> None:
    """Set the weights by hand to those of a step, in every process the same or its part of them."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            values = torch.randint(-(2**10), 2**10, tensor.shape, generator=generator) / 2**4  # averages are exact
            if isinstance(tensor, DTensor):
                tensor.copy_(distribute_tensor(values, tensor.device_mesh, tensor.placements))
            else:
                tensor.copy_(values)


def averaged(model: nn.Module, updates: int = 5) -> Averager:
    fill(model, 50)
    averager = EMA(model, decay=0.5)
    for step in range(updates):
        fill(model, step)
        averager.update()
    fill(model, 99)
    return averager


def alone(path: Path, updates: int = 5, dtype: torch.dtype = torch.float32) -> bytes:
    """Return the file that one process writes."""
    save_averaged(averaged(Uneven(dtype), updates), path)
    return path.read_bytes()


def whole(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in tensors.items()}


def sharded(dtype: torch.dtype = torch.float32) -> nn.Module:
    model = Uneven(dtype)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (model.one, model):
        fully_shard(layer, mesh=mesh)
    part = model.get_parameter("one.weight")
    assert isinstance(part, DTensor)
    assert part.to_local().shape == ((1, 3) if dist.get_rank() == 0 else (0, 3))
    return model


def _save(folder: str, updates: int, dtype: torch.dtype) -> None:
    averager = averaged(sharded(dtype), updates)
    save_averaged(averager, Path(folder, "sharded.safetensors"))
    content = load_file(Path(folder, "sharded.safetensors"))  # it is there for all processes, at once
    want = whole(averager.averaged_state_dict())
    want.pop("tied.weight")
    assert bits(content) == bits(want)


@pytest.mark.parametrize(("updates", "dtype"), [(0, torch.float32), (5, torch.float32), (5, torch.bfloat16)], ids=str)
def test_all_processes_write_one_file_the_one_that_a_single_process_writes(
    processes: Processes, tmp_path: Path, updates: int, dtype: torch.dtype
) -> None:
    want = alone(tmp_path / "alone.safetensors", updates, dtype)
    processes(2, _save, str(tmp_path), updates, dtype)
    assert (tmp_path / "sharded.safetensors").read_bytes() == want
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["alone.safetensors", "sharded.safetensors"]


def _save_elsewhere(folder: str) -> None:
    save_averaged(averaged(sharded()), Path(folder, str(dist.get_rank()), "a.safetensors"))


def test_only_rank_0_writes(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    processes(2, _save_elsewhere, str(tmp_path))
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["a.safetensors"]
    assert list((tmp_path / "1").iterdir()) == []


def _one_at_a_time(folder: str) -> None:
    living: list[int] = []
    gather = shards._gather

    def counted(tensor: Tensor) -> Tensor:
        gathered = gather(tensor).clone()
        assert not living, "a gathered tensor was still held when the next one came"
        living.append(gathered.numel())
        weakref.finalize(gathered.untyped_storage(), living.pop)
        return gathered

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shards, "_gather", counted)
        save_averaged(averaged(sharded()), Path(folder, "a.safetensors"))
    assert not living


def test_one_tensor_is_gathered_at_a_time(processes: Processes, tmp_path: Path) -> None:
    processes(2, _one_at_a_time, str(tmp_path))


# what goes wrong in one process is an error in all of them


def _into_nothing(folder: str) -> None:
    averager = averaged(sharded())
    with pytest.raises(FileNotFoundError, match="No such file") as refused:
        save_averaged(averager, Path(folder, "nowhere", "a.safetensors"))
    assert ("rank 0" in str(getattr(refused.value, "__notes__", ""))) == (dist.get_rank() == 1)
    save_averaged(averager, Path(folder, "a.safetensors"))  # they are still in step


def test_a_missing_folder_is_an_error_in_all_processes(processes: Processes, tmp_path: Path) -> None:
    processes(2, _into_nothing, str(tmp_path))
    assert (tmp_path / "a.safetensors").read_bytes() == alone(tmp_path / "alone.safetensors")


class OddError(Exception):
    """An error that cannot be sent to another process."""

    def __init__(self, one: object, other: object) -> None:
        super().__init__(f"{one} and {other}")


def _full_disk(folder: str, kind: str) -> None:
    path = Path(folder, "a.safetensors")
    averager = averaged(sharded())
    errors = {"disk": OSError(28, "No space left on device"), "odd": OddError(1, lambda: 2)}
    written, write = [0], safewriter._write_tensor

    def fail_at_the_third(*arguments: Any) -> None:
        written[0] += 1
        if written[0] == 3:
            raise errors[kind]
        write(*arguments)

    own = kind == "odd" and dist.get_rank() == 0
    expected = OddError if own else RuntimeError if kind == "odd" else OSError
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(safewriter, "_write_tensor", fail_at_the_third)
        with pytest.raises(expected, match="1 and" if kind == "odd" else "No space left"):
            save_averaged(averager, path)
    dist.barrier()
    assert path.read_bytes() == b"old"
    save_averaged(averager, path)


@pytest.mark.parametrize("kind", ["disk", "odd"])
def test_a_failure_in_the_middle_is_an_error_in_all_processes(processes: Processes, tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"old")
    processes(2, _full_disk, str(tmp_path), kind)
    assert (tmp_path / "a.safetensors").read_bytes() == alone(tmp_path / "alone.safetensors")


def _of_two_models(folder: str) -> None:
    mesh = init_device_mesh("cpu", (2,))
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2 + dist.get_rank()))
    fully_shard(model[0], mesh=mesh)
    with pytest.raises(ValueError, match="the processes do not hold the same tensors"):
        save_averaged(EMA(model, decay=0.5), Path(folder, "a.safetensors"))


def test_processes_with_other_models_are_refused(processes: Processes, tmp_path: Path) -> None:
    processes(2, _of_two_models, str(tmp_path))
    assert list(tmp_path.glob("*.safetensors")) == []


# replicas: nothing is communicated


def _replicas(folder: str, ranks: list[int]) -> None:
    averager = averaged(Uneven())
    if dist.get_rank() in ranks:
        save_averaged(averager, Path(folder, "a.safetensors"))


@pytest.mark.parametrize("ranks", [[0], [1], [0, 1]], ids=str)
def test_of_replicas_the_one_that_calls_writes(processes: Processes, tmp_path: Path, ranks: list[int]) -> None:
    want = alone(tmp_path / "alone.safetensors")
    processes(2, _replicas, str(tmp_path), ranks)
    assert (tmp_path / "a.safetensors").read_bytes() == want


# into a sharded model


def no_communication(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("communication")

    for name in ("all_gather_into_tensor", "all_gather_object", "broadcast", "scatter", "all_reduce", "barrier"):
        monkeypatch.setattr(dist, name, refuse)


def _load(path: str, dtype: torch.dtype) -> None:
    model = sharded(dtype)
    fill(model, 7)
    with pytest.MonkeyPatch.context() as patched:
        no_communication(patched)
        about = load_averaged(path, model)
    assert about["n_averaged"] == 5
    reference = Uneven(dtype)
    load_averaged(path, reference)
    assert isinstance(model.get_parameter("three.weight"), DTensor)
    assert bits(whole(model.state_dict())) == bits(reference.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_sharded_model_takes_its_shards(processes: Processes, tmp_path: Path, dtype: torch.dtype) -> None:
    alone(tmp_path / "a.safetensors")
    processes(2, _load, str(tmp_path / "a.safetensors"), dtype)


def _load_damaged(path: str) -> None:
    model = sharded()
    fill(model, 7)
    before = bits(local(list(model.parameters())))
    with pytest.raises(ValueError, match="does not match its checksum"):
        load_averaged(path, model)
    assert bits(local(list(model.parameters()))) == before


def test_a_damaged_file_leaves_all_shards(processes: Processes, tmp_path: Path) -> None:
    data = bytearray(alone(tmp_path / "a.safetensors"))
    data[-1] ^= 1
    (tmp_path / "a.safetensors").write_bytes(data)
    processes(2, _load_damaged, str(tmp_path / "a.safetensors"))


class Parallel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 8)
        self.down = nn.Linear(8, 4)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.down(self.up(x).relu()))
        return out


def _two_ways(folder: str, fully: bool) -> None:
    """Tensor parallelism alone, or below FSDP2."""
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("data", "tensor"))
    if not fully:
        mesh = init_device_mesh("cpu", (1, dist.get_world_size()), mesh_dim_names=("data", "tensor"))
    model: nn.Module = Parallel()
    parallelize_module(model, mesh["tensor"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    if fully:
        fully_shard(model, mesh=mesh["data"])
    averager = averaged(Parallel())
    save_averaged(averager, Path(folder, f"{dist.get_rank()}.safetensors"))
    load_averaged(Path(folder, f"{dist.get_rank()}.safetensors"), model)
    assert isinstance(model.get_parameter("up.weight"), DTensor)
    assert bits(whole(model.state_dict())) == bits(averager.averaged_state_dict())
    x = torch.arange(4.0).expand(2, 4)
    plain = Parallel()
    averager.copy_to(plain)
    torch.testing.assert_close(model(x), plain(x))
    save_averaged(EMA(model, decay=0.5), Path(folder, "parallel.safetensors"))


@pytest.mark.parametrize(("size", "fully"), [(2, False), (4, True)])
def test_tensor_parallel_models_are_loaded_and_saved(
    processes: Processes, tmp_path: Path, size: int, fully: bool
) -> None:
    processes(size, _two_ways, str(tmp_path), fully)
    assert bits(load_file(tmp_path / "parallel.safetensors")) == bits(load_file(tmp_path / "0.safetensors"))


def _another_way() -> None:
    mesh = init_device_mesh("cpu", (2,))
    mine = torch.zeros(1 + dist.get_rank())  # the smaller part first, where torch puts the larger one
    tensor = DTensor.from_local(mine, mesh, [Shard(0)], shape=torch.Size([3]), stride=(1,))
    with pytest.raises(ValueError, match=r"this process's part has shape \((1|2),\)"):
        tensors.like(torch.arange(3.0), tensor)


def test_another_way_of_sharing_is_refused(processes: Processes) -> None:
    processes(2, _another_way)


# snapshots


def run(model: nn.Module, folder: Path, **options: Any) -> PostHocEMA:
    tracker = PostHocEMA(model, (GAMMA, 1.0), snapshot_every=5, folder=folder, **options)
    for step in range(1, 16):
        fill(model, step)
        tracker.update()
    return tracker


def contents(folder: Path) -> dict[str, Any]:
    """Return what the snapshots hold and say, but for the name of the run."""
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["switch_ema"])
        told = {name: about[name] for name in ("gamma", "step", "copied", "aliases", "use_buffers")}
        found[path.name] = (told, bits(load_file(path)))
    return found


def _track(folder: str, dtype: torch.dtype | None) -> None:
    model = sharded()
    tracker = run(model, Path(folder, "sharded"), dtype=dtype)
    made = tracker.synthesize(gamma=2.0)
    assert made.fit.relative_error < 0.1
    fill(model, 7)
    made.copy_to(model)
    reference = Uneven()
    made.copy_to(reference)
    assert isinstance(model.get_parameter("one.weight"), DTensor)
    assert bits(whole(model.state_dict())) == bits(reference.state_dict())
    want = Snapshots(Path(folder, "alone")).synthesize(gamma=2.0)
    assert bits(dict(made.tensors)) == bits(dict(want.tensors))
    twin = sharded()
    tracker.copy_to(twin, GAMMA)


@pytest.mark.parametrize("dtype", [None, torch.float16], ids=str)
def test_snapshots_of_a_sharded_model_are_those_of_a_whole_one(
    processes: Processes, tmp_path: Path, dtype: torch.dtype | None
) -> None:
    run(Uneven(), tmp_path / "alone", dtype=dtype)
    processes(2, _track, str(tmp_path), dtype)
    assert len(contents(tmp_path / "alone")) == 6
    assert contents(tmp_path / "sharded") == contents(tmp_path / "alone")


def _track_replicas(folder: str) -> None:
    run(Uneven(), Path(folder, "replicas"))
    dist.barrier()


def test_of_replicas_rank_0_stores_the_snapshots(processes: Processes, tmp_path: Path) -> None:
    run(Uneven(), tmp_path / "alone")
    processes(2, _track_replicas, str(tmp_path))
    assert contents(tmp_path / "replicas") == contents(tmp_path / "alone")


def _lose_the_folder(folder: str) -> None:
    model = sharded()
    tracker = run(model, Path(folder, "snapshots"))
    if dist.get_rank() == 0:
        Path(folder, "snapshots").rename(Path(folder, "elsewhere"))
    dist.barrier()
    fill(model, 3)
    with pytest.raises(FileNotFoundError):
        tracker.snapshot()
    dist.barrier()
    narrow = PostHocEMA(model, (GAMMA,), snapshot_every=1, folder=Path(folder, "narrow"), dtype=torch.float16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e9)
    with pytest.raises(ValueError, match=r"has values beyond the range of torch.float16"):
        narrow.update()
    assert list(Path(folder, "narrow").iterdir()) == []


def test_a_snapshot_that_fails_is_an_error_in_all_processes(processes: Processes, tmp_path: Path) -> None:
    processes(2, _lose_the_folder, str(tmp_path))
