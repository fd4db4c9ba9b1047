"""Sharded and replicated training on 2 to 4 processes (gloo, CPU) against one process."""

from __future__ import annotations

import copy
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
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from switch_ema import EMA, LAWA, AveragerGroup, SwitchEMA
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
    for part in [*(layer for layer in model.children() if isinstance(layer, nn.Linear)), model]:
        fully_shard(part, mesh=mesh, **options).set_force_sum_reduction_for_comms(True)  # gloo of torch 2.8 has no mean
    return model


def whole(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return tensors gathered from all processes."""
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in tensors.items()}


def expected(make: Callable[[nn.Module], Averager], steps: int = STEPS) -> dict[str, torch.Tensor]:
    model = network()
    averager = make(model)
    train(model, averager, 0, steps)
    return averager.averaged_state_dict()


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

    names = ("all_gather_into_tensor", "all_reduce", "broadcast", "reduce_scatter_tensor", "all_to_all")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(dist, name, counted(name, getattr(dist, name)))
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


def _tensor_parallel() -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    whole_model = copy.deepcopy(model)
    whole_averager = switch_ema(whole_model)
    parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    averager = switch_ema(model)
    train(model, averager, 0, STEPS)
    train(whole_model, whole_averager, 0, STEPS)
    averages = averager.state_dict()["averages"]
    assert averages["0.weight"].to_local().shape[0] == 4, "the average is not sharded"
    wanted = whole_averager.state_dict()["averages"]
    torch.testing.assert_close(whole(averages), wanted, atol=1e-6, rtol=1e-6)
    x = torch.ones(2, 5)
    with averager.average_parameters():
        swapped = model(x)
    torch.testing.assert_close(averager.functional_call(x), swapped)
    torch.testing.assert_close(swapped, whole_averager.functional_call(x), atol=1e-6, rtol=1e-6)


def test_tensor_parallel_averages_are_sharded_and_equal_the_whole(processes: Callable[..., None]) -> None:
    processes(2, _tensor_parallel)


def _options_on_shards() -> None:
    model = shard(without_norm())
    group = AveragerGroup(
        EMA(model, 0.5), EMA(model, 0.9), EMA(model, 0.5, dtype=torch.bfloat16), EMA(model, 0.5, parameters="0.*")
    )
    skipping = EMA(model, 0.5, skip_nonfinite=True)
    start = {name: p.detach().clone() for name, p in whole(dict(model.named_parameters())).items()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    group.update()
    for averager, share, tolerance in zip(group.averagers, (0.5, 0.1, 0.5, 0.5), (1e-6, 1e-6, 1e-2, 1e-6), strict=True):
        averages = averager.state_dict()["averages"]
        assert all(isinstance(average, DTensor) for average in averages.values())
        wanted = {name: start[name] + share for name in averages}
        found = {name: average.float() for name, average in whole(averages).items()}
        torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)
    assert set(group.averagers[3].state_dict()["averages"]) == {"0.weight", "0.bias"}
    with torch.no_grad():
        local = model.get_parameter("0.weight").to_local()  # type: ignore[attr-defined]
        local.fill_(torch.nan)  # in each process's own shard
    skipping.update()
    assert skipping.n_skipped == 1
    assert all(average.isfinite().all() for average in whole(skipping.state_dict()["averages"]).values())
    with pytest.raises(RuntimeError, match=r"functional_call\(\) cannot run a fully sharded model"):
        group.averagers[0].functional_call(torch.ones(2, 5))


def test_options_and_groups_work_on_shards(processes: Callable[..., None]) -> None:
    processes(2, _options_on_shards)


def _sharding_comes_first() -> None:
    model = without_norm()
    averager = EMA(model)
    shard(model)
    with pytest.raises(RuntimeError, match=r"sharded after the averager was made"):
        averager.update()


def test_a_model_is_sharded_before_it_is_averaged(processes: Callable[..., None]) -> None:
    processes(2, _sharding_comes_first)


def _state_of_one_process(make: Callable[[nn.Module], Averager]) -> None:
    alone = without_norm()
    first = make(alone)
    train(alone, first, 0, 4)
    state = copy.deepcopy({"model": alone.state_dict(), "averager": first.state_dict()})
    train(alone, first, 4, STEPS)
    model = without_norm()
    model.load_state_dict(state["model"])
    averager = make(shard(model))
    averager.load_state_dict(state["averager"])  # each process takes its shards of it
    train(model, averager, 4, STEPS)
    torch.testing.assert_close(whole(averager.averaged_state_dict()), first.averaged_state_dict(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("make", [switch_ema, lawa])
def test_shards_go_on_from_the_state_of_one_process(
    processes: Callable[..., None], make: Callable[[nn.Module], Averager]
) -> None:
    processes(2, _state_of_one_process, make)


def _old_sharding() -> None:
    with pytest.raises(ValueError, match=r"FSDP1.*fully_shard"):
        EMA(FullyShardedDataParallel(without_norm(), device_id=torch.device("cpu")))


@pytest.mark.filterwarnings("ignore")
def test_the_old_way_of_sharding_is_refused(processes: Callable[..., None]) -> None:
    processes(2, _old_sharding)
