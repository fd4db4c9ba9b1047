"""One model over several devices or machines (FSDP2): how it is divided, and checkpoints that lie in parts as it does.

Every process writes what it holds to a file of its own. When all have, the first one writes the checkpoint, which names
these files and their checksums: they count from that moment on. All processes need the folder, and there have to be as
many as before to go on.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

from switch_ema.averaging.slots import reshard
from switch_ema.bench.checkpoint import read_checkpoint, write_checkpoint
from switch_ema.bench.processes import in_step, num_nodes, on_first
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import ModelParallelStrategy

_PART = "part of a sharded tensor"


def fsdp2(devices: int) -> ModelParallelStrategy:
    """Return the strategy that shards a model over all processes.

    Args:
        devices: Devices of each machine.
    """
    from lightning.fabric.strategies import ModelParallelStrategy

    return ModelParallelStrategy(shard, data_parallel_size=devices * num_nodes(), tensor_parallel_size=1)


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard a model in place: each of its repeated blocks by itself, gathered when its turn comes, the rest as one.

    Args:
        model: The model, the same on all processes; its parameters become DTensors.
        mesh: The processes, in a dimension `data_parallel`.

    Returns:
        The model.

    Raises:
        InputError: torch cannot shard it.
    """
    along = mesh["data_parallel"]
    try:
        for block in [*blocks(model), model]:
            part = fully_shard(block, mesh=along)
            if mesh.device_type == "cpu":  # gloo of torch 2.8 adds gradients up where their mean is asked for
                part.set_force_sum_reduction_for_comms(True)
    except (ValueError, AssertionError) as error:
        raise InputError(f"the model cannot be divided: {error}; write another --strategy or --model") from error
    return model


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks that a model repeats, the outermost: several of one class in a list or sequence of modules.

    Single layers are no blocks unless the sequence has nothing else. Blocks that share parameters with other parts of
    the model are left out.

    Args:
        model: Any module.

    Example:
        >>> layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(3)]
        >>> [type(block).__name__ for block in blocks(nn.Sequential(nn.Linear(4, 8), nn.Sequential(*layers)))]
        ['TransformerEncoderLayer', 'TransformerEncoderLayer', 'TransformerEncoderLayer']
    """
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    return [block for block in _repeated(model) if all(uses[id(p)] == 1 for p in block.parameters())]


def _repeated(module: nn.Module) -> Iterator[nn.Module]:
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    kinds = Counter(map(type, children)) if isinstance(module, nn.ModuleList | nn.Sequential) else Counter()
    for child in children:
        is_called = not isinstance(child, nn.ModuleList | nn.ModuleDict)  # so that it can be gathered before
        is_layer = next(child.children(), None) is None
        if kinds[type(child)] > 1 and is_called and not (is_layer and len(kinds) > 1):
            yield child
        else:
            yield from _repeated(child)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Within the block, let a sharded model's methods and parts be called, not only the model as a whole.

    Of other models nothing is done. The weights must not change within the block.

    Args:
        model: The model; all processes do the same with it.
    """
    if isinstance(model, FSDPModule):
        model.unshard()
    try:
        yield
    finally:
        reshard(model)


def write_state(fabric: Fabric, path: Path, state: Mapping[str, Any]) -> None:
    """Write what a run needs to go on; all processes call this.

    Args:
        fabric: The processes.
        path: The checkpoint.
        state: What this process holds, with ``trajectory``, ``epoch`` and ``rows``. If its ``model`` is sharded every
            process writes its part, otherwise the first one writes all.

    Raises:
        OSError: A process could not write; the checkpoint that was there still counts then.
    """
    if not any(isinstance(value, DTensor) for value in state["model"].values()):
        on_first(fabric, partial(write_checkpoint, path, state))
        return
    name = f"{path.stem}-{state['epoch']}-{fabric.global_rank}.pt"
    own = path.with_name(name)
    parts = in_step(fabric, lambda: [name, write_checkpoint(own, _packed(state))])
    about = {key: state[key] for key in ("trajectory", "epoch", "rows")}
    on_first(fabric, partial(_settle, path, {**about, "parts": parts}))


def _settle(path: Path, state: Mapping[str, Any]) -> None:
    write_checkpoint(path, state)
    remove_parts(path, keep={name for name, _ in state["parts"]})


def whole_state(fabric: Fabric, path: Path, state: Mapping[str, Any], model: nn.Module) -> Mapping[str, Any]:
    """Return what this process held when a checkpoint was written.

    Args:
        fabric: The processes.
        path: The checkpoint.
        state: Its content.
        model: The model as it is set up now.

    Raises:
        InputError: Another number of processes wrote it, or the part of this process is missing or damaged.
    """
    if "parts" not in state:
        return state
    parts = state["parts"]
    if len(parts) != fabric.world_size:
        raise InputError(
            f"{path} was written by {len(parts)} processes and there are {fabric.world_size} now; start {len(parts)}, "
            "or delete it to start the trajectory anew"
        )
    name, checksum = parts[fabric.global_rank]
    try:
        packed = read_checkpoint(path.with_name(name), fabric.device, checksum)
    except Exception as error:
        raise InputError(
            f"{path.with_name(name)} is missing or damaged ({type(error).__name__}); delete {path} to start the "
            "trajectory anew"
        ) from error
    mesh = next(parameter.device_mesh for parameter in model.parameters() if isinstance(parameter, DTensor))
    return cast(Mapping[str, Any], _unpacked(mesh, packed))


def remove_parts(path: Path, keep: Collection[str] = ()) -> None:
    """Remove the parts of checkpoints that are not needed any more.

    Args:
        path: The checkpoint.
        keep: Names of parts that stay.
    """
    for part in path.parent.glob(f"{path.stem}-*-*.pt"):
        if part.name not in keep:
            part.unlink()


def _packed(value: Any) -> Any:
    """Return a state with this process's part, and what is said of the whole, in place of every sharded tensor."""
    if isinstance(value, DTensor):
        dims = [cast(Shard, placement).dim for placement in value.placements]
        return {_PART: value.to_local(), "shape": list(value.shape), "stride": list(value.stride()), "dims": dims}
    return _mapped(_packed, value)


def _unpacked(mesh: DeviceMesh, value: Any) -> Any:
    if isinstance(value, Mapping) and _PART in value:
        shape, stride = torch.Size(value["shape"]), tuple(value["stride"])
        placements = [Shard(dim) for dim in value["dims"]]
        part: Tensor = value[_PART]
        return DTensor.from_local(part, mesh, placements, run_check=False, shape=shape, stride=stride)
    return _mapped(partial(_unpacked, mesh), value)


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, dict):
        changed = copy.copy(value)  # of its own class, and with what `state_dict()` notes beside the tensors
        changed.update((key, change(item)) for key, item in value.items())
        return changed
    if isinstance(value, list | tuple):
        return type(value)(map(change, value))
    return value
