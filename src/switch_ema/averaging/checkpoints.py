"""Averaged weights in a file: safetensors with what made them and a checksum, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from switch_ema.averaging.averager import Averager
from switch_ema.averaging.safefile import SafeFile
from switch_ema.averaging.safewriter import in_blocks, kind_of, storable, write_safetensors
from switch_ema.averaging.slots import differences, find_slots, plain_names


def save_averaged(averager: Averager, path: str | os.PathLike[str]) -> None:
    """Save the averaged weights and buffers as a safetensors file, which any library that knows the format can read.

    The file holds `averager.averaged_state_dict()`, tied weights once, beside a description of the method, all counts,
    the version of this library and a checksum. It is written whole or not at all. To go on with training, save
    `averager.state_dict()` instead.

    Args:
        averager: The averager.
        path: The file, usually ending in `.safetensors`; one that is there is replaced.

    Raises:
        OSError: If the disk is full or the folder cannot be written; a file that was there is untouched then.
        RuntimeError: If the averaged weights are swapped in.
        ValueError: If the model saves something that is no tensor, or a tensor that the format cannot hold.

    Example:
        >>> save_averaged(averager, "averaged.safetensors")  # doctest: +SKIP
    """
    averaged = averager.averaged_state_dict()
    for name, value in averaged.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"the model saves {name!r}, a {type(value).__name__}, and a safetensors file holds tensors only; "
                "save averager.averaged_state_dict() with torch.save instead"
            )
    aliases = _aliases(averager)
    tensors: dict[str, Tensor] = {name: value for name, value in averaged.items() if name not in aliases}
    state = averager.state_dict()
    about = {
        "method": {part: text for part, text in state["made_of"].items() if part != "kind"},
        "decay": getattr(getattr(averager._fold, "rule", None), "decay", None),
        **{name: state["counters"][name] for name in ("steps", "epochs", "n_averaged", "n_switches")},
        "aliases": aliases,
    }
    write_safetensors(
        Path(path),
        {name: storable(name, tensor) for name, tensor in tensors.items()},
        about,
        lambda name: in_blocks(tensors[name]),
    )


def load_averaged(path: str | os.PathLike[str], model: nn.Module) -> dict[str, Any]:
    """Load averaged weights and buffers into a model, after checking all of the file; nothing is unpickled.

    Args:
        path: What `save_averaged`, `average_checkpoints` or `sema average` wrote.
        model: A model of the same structure; parts of names that wrappers put in (compile, DDP, FSDP) do not matter.
            Floats are converted to its types.

    Returns:
        What the file says about itself: `method`, `decay`, `steps`, `epochs`, `n_averaged` and `n_switches` of the
        averager (or `inputs` and `weights` of an average of files), `aliases` (tied weights), `version`, `format` and
        `checksum`.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the `safetensors` package is missing.
        ValueError: If the file is damaged, has no checksum, or does not fit the model; the model is unchanged then.

    Example:
        >>> about = load_averaged("averaged.safetensors", model)  # doctest: +SKIP
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a torch.nn.Module, got {type(model).__name__}; pass the model itself")
    find_slots(model, use_buffers=True)  # refuses lazy and meta tensors
    with SafeFile(Path(path)) as file:
        tensors: dict[str, Tensor] = {}
        about = file.verify(into=tensors)
        tensors.update({alias: tensors[name] for alias, name in file.aliases.items()})
    targets: dict[str, Any] = model.state_dict()
    sources = tensors
    renamed = {name: name for name in targets}
    if targets.keys() != tensors.keys():
        sources = dict(plain_names(tensors))
        renamed = dict(plain_names(renamed))
    if names := differences(sources, renamed):
        raise ValueError(f"{path} does not fit the model ({names}); load it into a model of the same structure")
    for name, own in renamed.items():
        _check_fit(path, own, sources[name], targets[own])
    model.load_state_dict({own: sources[name] for name, own in renamed.items()})
    return about


def _check_fit(path: str | os.PathLike[str], name: str, source: Tensor, target: Any) -> None:
    if not isinstance(target, Tensor):
        raise ValueError(f"the model's {name!r} is a {type(target).__name__}, no tensor; {path} cannot hold it")
    if source.shape != target.shape:
        raise ValueError(
            f"{path} holds {name!r} of shape {tuple(source.shape)}, the model's is {tuple(target.shape)}; "
            "load it into a model of the same structure"
        )
    if kind_of(source.dtype) != kind_of(target.dtype):
        raise ValueError(
            f"{path} holds {name!r} of type {source.dtype}, the model's is {target.dtype}, a type of another kind; "
            "load it into a model of the same structure"
        )


def _aliases(averager: Averager) -> dict[str, str]:
    """Return names under which a model saves a tensor that it saves already, and the first name of it."""
    first: dict[int, str] = {}
    aliases = {}
    for name, value in averager._model.state_dict(keep_vars=True).items():
        if first.setdefault(id(value), name) != name:
            aliases[name] = first[id(value)]
    return aliases
