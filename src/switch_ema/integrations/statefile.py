"""An averager's state in a file: safetensors with a checksum, beside the checkpoint of a framework."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from switch_ema.averaging.averager import Averager
from switch_ema.averaging.safefile import read_tensors
from switch_ema.averaging.safewriter import storable
from switch_ema.averaging.shards import write_gathered
from switch_ema.averaging.tensors import is_sharded
from switch_ema.errors import InputError

_AVERAGES = "averages"
_SNAPSHOTS = "snapshots"


def write_state(path: Path, averager: Averager, about: Mapping[str, Any], *, writes: bool) -> None:
    """Save an averager's state as a file that is whole or not there at all; nothing in it is ever unpickled.

    Args:
        path: The file; one that is there is replaced.
        averager: The averager. Where its model is sharded, all processes must call this.
        about: What else belongs to the state; anything that JSON can hold.
        writes: Whether this process writes where nothing is sharded.

    Raises:
        OSError: If the disk is full or the folder cannot be written; nothing is left behind then.
    """
    state = averager.state_dict()
    tensors: dict[str, Tensor] = {f"{_AVERAGES}/{name}": tensor for name, tensor in state["averages"].items()}
    for i, snapshot in enumerate(state["snapshots"]):
        tensors.update((f"{_SNAPSHOTS}/{i}/{name}", tensor) for name, tensor in snapshot.items())
    if writes or any(map(is_sharded, tensors.values())):
        entries = {name: storable(name, tensor) for name, tensor in tensors.items()}
        parts = {key: state[key] for key in ("format", "made_of", "counters")}
        write_gathered(
            path, tensors, entries, {"averager": parts, _SNAPSHOTS: len(state["snapshots"]), "about": dict(about)}
        )


def read_state(path: Path, averager: Averager) -> dict[str, Any]:
    """Let an averager go on from a file that `write_state` wrote, after checking all of it.

    Args:
        path: The file.
        averager: The averager; it is unchanged if the file is refused.

    Returns:
        What else belongs to the state.

    Raises:
        FileNotFoundError: If it is not there.
        InputError: If it is damaged, no such file, or does not fit the averager.
    """
    try:
        tensors, content = read_tensors(path, "use another checkpoint")
        if "averager" not in content:
            raise ValueError(f"{path} holds no state of an averager; use another checkpoint")
        snapshots: list[dict[str, Tensor]] = [{} for _ in range(content[_SNAPSHOTS])]
        averages = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            if kind == _AVERAGES:
                averages[name] = tensor
            else:
                i, _, name = name.partition("/")
                snapshots[int(i)][name] = tensor
        averager.load_state_dict({**content["averager"], "averages": averages, "snapshots": snapshots})
    except ValueError as error:
        raise InputError(str(error)) from None
    return dict(content["about"])
