"""Averages and counters in a file, for frameworks whose arrays are not torch's: safetensors with a checksum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from switch_ema.averaging.safefile import read_tensors
from switch_ema.averaging.safewriter import in_blocks, storable, write_safetensors
from switch_ema.errors import InputError

Array = np.ndarray[Any, Any]


def write_arrays(path: Path, averages: Mapping[str, Array], counters: Mapping[str, float]) -> None:
    """Write a state as a file that is whole or not there at all.

    Args:
        path: The file; one that is there is replaced.
        averages: Arrays by name.
        counters: Numbers by name.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in averages.items()}
    entries = {name: storable(name, tensor) for name, tensor in tensors.items()}
    write_safetensors(path, entries, {"counters": dict(counters)}, lambda name: in_blocks(tensors[name]))


def read_arrays(path: Path) -> tuple[dict[str, Array], Any]:
    """Read a state after checking all of it; nothing is ever unpickled.

    Args:
        path: The file.

    Returns:
        Arrays by name, and the counters.

    Raises:
        FileNotFoundError: If it is not there.
        InputError: If it is damaged or no such file.
    """
    try:
        tensors, about = read_tensors(path)
    except ValueError as error:
        raise InputError(str(error)) from None
    if "counters" not in about:
        raise InputError(f"{path} holds no state of averages; load what `save` or `checkpoint` wrote")
    return {name: tensor.numpy() for name, tensor in tensors.items()}, about["counters"]
