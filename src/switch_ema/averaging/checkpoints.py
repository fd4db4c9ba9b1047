"""Averaged weights in a file: safetensors with what made them and a checksum, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.averaging.averager import Averager
from switch_ema.averaging.export import makes_tensors, state_inside
from switch_ema.averaging.safefile import SafeFile
from switch_ema.averaging.safewriter import Entry, beyond_range, kind_of, storable
from switch_ema.averaging.shards import write_gathered
from switch_ema.averaging.slots import Slot, differences, find_slots, plain_name, reshard, under_same_names
from switch_ema.averaging.tensors import like


def save_averaged(averager: Averager, path: str | os.PathLike[str]) -> None:
    """Save the averaged weights and buffers as a safetensors file, which any library that knows the format can read.

    The file holds `averager.averaged_state_dict()`, tied weights once, beside a description of the method, all counts,
    the version of this library and a checksum. It is written whole or not at all. To go on with training, save
    `averager.state_dict()` instead. Saving takes the memory of the largest tensor; if the model's
    `state_dict` makes new tensors, the average is put into the model for it, which takes that of two copies.

    Where the model is sharded (FSDP2, tensor parallelism), all processes must call this: tensors are gathered one at a
    time, rank 0 writes one file, and all return when it is there, or raise what went wrong. Otherwise nothing is
    communicated, and a process that calls this writes; let rank 0 do it.

    Args:
        averager: The averager.
        path: The file, usually ending in `.safetensors`; one that is there is replaced.

    Raises:
        OSError: If the disk is full or the folder cannot be written; a file that was there is untouched then.
        RuntimeError: If the averaged weights are swapped in.
        ValueError: If the model saves something that is no tensor, or a tensor that the format cannot hold; if an
            average is beyond the range of the model's type; if processes hold shards of different models.

    Example:
        >>> save_averaged(averager, "averaged.safetensors")  # doctest: +SKIP
    """
    state = averager.state_dict()
    tensors, entries, aliases = _contents(averager.model, state["averages"] if averager.n_averaged else {})
    about = {
        "method": {part: text for part, text in state["made_of"].items() if part != "kind"},
        "decay": getattr(getattr(averager.fold, "rule", None), "decay", None),
        **{name: state["counters"][name] for name in ("steps", "epochs", "n_averaged", "n_switches")},
        "aliases": aliases,
    }
    write_gathered(Path(path), tensors, entries, about)


def load_averaged(path: str | os.PathLike[str], model: nn.Module) -> dict[str, Any]:
    """Load averaged weights and buffers into a model, after checking all of the file; nothing is unpickled.

    Args:
        path: What `save_averaged`, `average_checkpoints` or `sema average` wrote.
        model: A model of the same structure; parts of names that wrappers put in (compile, DDP, FSDP) do not matter.
            Floats are converted to its types. Of a sharded model each process that calls this loads its own shards.

    Returns:
        What the file says about itself: `method`, `decay`, `steps`, `epochs`, `n_averaged` and `n_switches` of the
        averager (or `inputs` and `weights` of an average of files), `aliases` (tied weights), `version`, `format`,
        `header_checksum` and `checksum`.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the `safetensors` package is missing.
        ValueError: If the file is damaged, has no checksum, does not fit the model, or holds a value beyond the range
            of the model's type; the model is unchanged then.

    Example:
        >>> about = load_averaged("averaged.safetensors", model)  # doctest: +SKIP
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a torch.nn.Module, got {type(model).__name__}; pass the model itself")
    find_slots(model, use_buffers=True)  # refuses lazy and meta tensors
    reshard(model)
    targets: dict[str, Any] = model.state_dict()
    loaded: dict[str, Tensor] = {}
    with SafeFile(Path(path)) as file:
        owns = _owns(file, targets)
        names: dict[str, list[str]] = {}
        for name, own in owns.items():
            names.setdefault(file.aliases.get(name, name), []).append(own)

        refusals: list[str] = []

        def take(name: str, whole: Tensor) -> None:
            for own in names[name]:
                refusals.append(_beyond_range(file.path, own, whole, targets[own].dtype))
                loaded[own] = like(whole, targets[own])

        about = file.verify(take)
    if found := next(filter(None, refusals), None):  # now that the values are known to be the file's own
        raise ValueError(found)
    model.load_state_dict(loaded)
    return about


def _owns(file: SafeFile, targets: Mapping[str, Any]) -> dict[str, str]:
    """Return the model's own name of each tensor in a file, refusing a file that does not fit the model."""
    sources: Mapping[str, Entry] = file.entries
    given, owns = under_same_names({name: name for name in sources}, {name: name for name in targets})
    if names := differences(given, owns):
        raise ValueError(f"{file.path} does not fit the model ({names}); load it into a model of the same structure")
    for name, own in owns.items():
        _check_fit(file.path, own, sources[given[name]], targets[own])
    return {given[name]: own for name, own in owns.items()}


def _check_fit(path: Path, name: str, source: Entry, target: Any) -> None:
    if not isinstance(target, Tensor):
        raise ValueError(f"the model's {name!r} is a {type(target).__name__}, no tensor; {path} cannot hold it")
    if source.shape != target.shape:
        raise ValueError(
            f"{path} holds {name!r} of shape {source.shape}, the model's is {tuple(target.shape)}; "
            "load it into a model of the same structure"
        )
    if kind_of(source.dtype) != kind_of(target.dtype):
        raise ValueError(
            f"{path} holds {name!r} of type {source.dtype}, the model's is {target.dtype}, a type of another kind; "
            "load it into a model of the same structure"
        )


def _beyond_range(path: Path, name: str, whole: Tensor, dtype: torch.dtype) -> str:
    """Return what is wrong if a type cannot hold a tensor's values; empty if it can."""
    if whole.dtype == dtype:
        return ""
    cure = f"load it into a model of a wider type, such as {whole.dtype}"
    return beyond_range(f"{path} holds {name!r}, which", whole, whole.to(dtype), cure)


def _contents(
    model: nn.Module, averages: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Entry], dict[str, str]]:
    """Return the tensors that a model saves, each by its first name and with its average in place of it, if it has one.

    Returns:
        The tensors themselves, and copies where the model saves such; the types and shapes they are saved in; further
        names of tied ones.
    """
    reshard(model)
    slots: dict[str, Slot] = {}
    found: dict[str, Tensor] = {}
    for name, slot in find_slots(model, use_buffers=True).items():
        average = averages.get(name, averages.get(plain_name(name)))
        if average is not None:
            slots[name], found[name] = slot, average
    averages_of = {id(slot.tensor): found[name] for name, slot in slots.items()}
    tensors: dict[str, Tensor] = {}
    entries: dict[str, Entry] = {}
    first: dict[int, str] = {}
    saved = model.state_dict(keep_vars=True)
    if makes_tensors(model, saved):
        saved, averages_of = state_inside(model, slots, found), {}
    for name, value in saved.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"the model saves {name!r}, a {type(value).__name__}, and a safetensors file holds tensors only; "
                "save averager.averaged_state_dict() with torch.save instead"
            )
        if first.setdefault(id(value), name) == name:
            tensors[name] = averages_of.get(id(value), value)
            entries[name] = Entry(storable(name, value).dtype, tuple(tensors[name].shape))
    return tensors, entries, {name: first[id(value)] for name, value in saved.items() if name not in tensors}
