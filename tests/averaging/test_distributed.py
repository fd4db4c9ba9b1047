"""Sharded and replicated training on 2 to 4 processes (gloo, CPU) against one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from switch_ema import LAWA, SwitchEMA
from switch_ema.averaging.averager import Averager

STEPS = 7


def network() -> nn.Module:
    """A network whose shapes divide by none of 2, 3, 4, so that shards are uneven."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3), nn.BatchNorm1d(3))


def without_norm() -> nn.Module:
    return nn.Sequential(*list(network().children())[:3])


def train(model: nn.Module, averager: Averager, first: int, last: int) -> None:
    """Train on the same batches in every process, so that sharding changes nothing but where the tensors lie."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = averager.attach(optimizer)
    for step in range(first, last):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(8, 5)).pow(2).sum().backward()
        optimizer.step()
    handle.remove()


def switch_ema(model: nn.Module) -> Averager:
    return SwitchEMA(model, decay=0.8, switch_every=3)


def lawa(model: nn.Module) -> Averager:
    return LAWA(model, window=2, update_every=2)


def shard(model: nn.Module, **options: Any) -> nn.Module:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.children():
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh, **options)
    fully_shard(model, mesh=mesh, **options)
    return model


def whole(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return tensors gathered from all processes."""
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in tensors.items()}


def expected(make: Callable[[nn.Module], Averager], steps: int = STEPS) -> dict[str, torch.Tensor]:
    model = network()
    averager = make(model)
    train(model, averager, 0, steps)
    return averager.averaged_state_dict()


def _start(rank: int, size: int, folder: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    try:
        work(*arguments)
    finally:
        dist.destroy_process_group()


@pytest.fixture
def processes(tmp_path: Path) -> Callable[..., None]:
    """Run a function in several processes; an exception in one of them fails the test."""
    runs = iter(range(100))

    def call(size: int, work: Callable[..., None], *arguments: Any) -> None:
        folder = tmp_path / f"processes{next(runs)}"
        folder.mkdir()
        spawn(_start, args=(size, str(folder), work, arguments), nprocs=size)

    return call


def _sharded_equals_whole(make: Callable[[nn.Module], Averager]) -> None:
    model = shard(network())
    averager = make(model)
    train(model, averager, 0, STEPS)
    averages = averager.state_dict()["averages"]
    assert isinstance(averages["0.weight"], DTensor)
    rows = averages["0.weight"].to_local().shape[0]
    assert rows < 7, "the average is not sharded"
    torch.testing.assert_close(whole(averager.averaged_state_dict()), expected(make), atol=1e-6, rtol=1e-6)

    before = {name: p.detach().clone() for name, p in whole(dict(model.named_parameters())).items()}
    with averager.average_parameters():
        inside = whole({name: p.detach() for name, p in model.named_parameters()})
        torch.testing.assert_close(inside, {name: whole(averages)[name] for name in inside}, atol=0, rtol=0)
        model.eval()
        model(torch.ones(2, 5))
        model.train()
    after = whole({name: p.detach() for name, p in model.named_parameters()})
    torch.testing.assert_close(after, before, atol=0, rtol=0)


@pytest.mark.parametrize("make", [switch_ema, lawa])
@pytest.mark.parametrize("size", [2, 3])
def test_fully_sharded_averages_are_sharded_and_equal_the_whole(
    processes: Callable[..., None], make: Callable[[nn.Module], Averager], size: int
) -> None:
    processes(size, _sharded_equals_whole, make)


def _no_communication() -> None:
    model = shard(network())
    averager = switch_ema(model)
    calls: list[str] = []

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return original(*arguments, **options)

        return call

    for name in ("all_gather_into_tensor", "all_reduce", "broadcast", "reduce_scatter_tensor", "all_to_all"):
        setattr(dist, name, counted(name, getattr(dist, name)))
    for _ in range(4):
        averager.update()
    averager.switch()
    with averager.average_parameters():
        pass
    averager.state_dict()
    assert calls == []


def test_updates_switches_and_swaps_do_not_communicate(processes: Callable[..., None]) -> None:
    processes(2, _no_communication)


def _low_precision() -> None:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    model = shard(without_norm(), mp_policy=policy)
    averager = switch_ema(model)
    train(model, averager, 0, STEPS)
    assert {t.dtype for t in averager.state_dict()["averages"].values()} == {torch.float32}
    half = shard(without_norm().bfloat16())
    averager = SwitchEMA(half, decay=0.5, switch_every=100)
    with torch.no_grad():
        for p in half.parameters():
            p.add_(1)
    averager.update()
    want = {name: p.to(torch.float32) - 0.5 for name, p in whole(dict(half.named_parameters())).items()}
    torch.testing.assert_close(whole(averager.state_dict()["averages"]), want, atol=4e-3, rtol=0)


def test_averages_stay_in_float32_under_a_mixed_precision_policy(processes: Callable[..., None]) -> None:
    processes(2, _low_precision)


def _replicas_agree() -> None:
    model = network()
    replica = DistributedDataParallel(model)
    averager = switch_ema(model)
    optimizer = torch.optim.SGD(replica.parameters(), lr=0.1)
    averager.attach(optimizer)
    for step in range(STEPS):
        torch.manual_seed(100 * dist.get_rank() + step)  # each process has its own batch
        optimizer.zero_grad()
        replica(torch.randn(8, 5)).pow(2).sum().backward()
        optimizer.step()
    for name, average in averager.state_dict()["averages"].items():
        if name in dict(model.named_parameters()):
            copies = [torch.empty_like(average) for _ in range(dist.get_world_size())]
            dist.all_gather(copies, average)
            assert all(torch.equal(copy, average) for copy in copies), name


def test_replicas_agree_bit_for_bit_without_communication(processes: Callable[..., None]) -> None:
    processes(2, _replicas_agree)


def _save(folder: str) -> None:
    model = shard(network())
    averager = switch_ema(model)
    train(model, averager, 0, 4)
    save({"model": get_model_state_dict(model), "averager": averager.state_dict()}, checkpoint_id=folder)


def _go_on(folder: str) -> None:
    model = shard(network())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    averager = switch_ema(model)
    state = {"model": get_model_state_dict(model), "averager": averager.state_dict()}
    load(state, checkpoint_id=folder)
    set_model_state_dict(model, state["model"])
    averager.load_state_dict(state["averager"])
    assert (averager.n_averaged, averager.n_switches) == (4, 1)
    train(model, averager, 4, STEPS)
    torch.testing.assert_close(whole(averager.averaged_state_dict()), expected(switch_ema), atol=1e-6, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*TypedStorage.*:UserWarning")
def test_a_distributed_checkpoint_goes_on_with_another_number_of_processes(
    processes: Callable[..., None], tmp_path: Path
) -> None:
    folder = str(tmp_path / "checkpoint")
    processes(2, _save, folder)
    for size in (1, 3, 4):
        processes(size, _go_on, folder)
