"""Weights of a checkpoint file, put into a model; nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from switch_ema.averaging.safefile import joined
from switch_ema.averaging.safewriter import Entry, kind_of
from switch_ema.averaging.slots import differences, plain_names, under_same_names
from switch_ema.averaging.sources import open_source
from switch_ema.errors import InputError

_T = TypeVar("_T")
_NAMED = 3  # tensors that a message names


def load_weights(path: Path, model: nn.Module, key: str | None = None) -> None:
    """Load parameters and buffers from a file into a model.

    Parts of names that wrappers put in (compile, DDP, FSDP), and a first part that all names of the file have in common
    (such as ``model.`` in Lightning's checkpoints), do not matter. Floats are converted to the model's types.

    Args:
        path: What `switch_ema.save_averaged` wrote, any safetensors file, a torch checkpoint, an index of shards, or a
            folder that holds one of these.
        model: A model of the same structure.
        key: Where the weights lie in a torch checkpoint that holds several state dicts, such as ``ema``.

    Raises:
        InputError: The file is missing, damaged, no checkpoint, or does not fit the model, which is unchanged then.

    Example:
        >>> load_weights(Path("averaged.safetensors"), nn.Linear(2, 1))
        Traceback (most recent call last):
        ...
        switch_ema.errors.InputError: averaged.safetensors is not there; name a file that is
    """
    targets = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    try:
        with open_source(path, key) as source:
            names = _matching(path, source.entries, targets)
            _check_shapes(path, {own: source.entries[name] for own, name in names.items()}, targets)
            state = {own: joined(source.blocks(name), source.entries[name]) for own, name in names.items()}
    except (ValueError, ImportError) as error:
        raise InputError(str(error)) from None
    model.load_state_dict(state, strict=False)  # all that are tensors


def _matching(path: Path, entries: Mapping[str, Entry], targets: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the file's name of each of the model's tensors."""
    own_names = {name: name for name in targets}
    as_they_are = {name: name for name in entries}
    tried = [under_same_names(given, own_names) for given in (as_they_are, _without_prefix(plain_names(as_they_are)))]
    given, owns = min(tried, key=lambda pair: len(pair[0].keys() ^ pair[1].keys()))
    if given.keys() == owns.keys():
        return {own: given[name] for name, own in owns.items()}
    missing, unexpected = len(owns.keys() - given.keys()), len(given.keys() - owns.keys())
    raise InputError(
        f"{path} does not fit the model: of its {len(owns)} tensors {missing} are missing in the file, which holds "
        f"{unexpected} others ({differences(given, owns)}); name the model it was trained as with --model"
    )


def _without_prefix(named: Mapping[str, _T]) -> Mapping[str, _T]:
    """Leave out the first part of all names if it is the same."""
    first = {name.partition(".")[0] for name in named}
    return {name.partition(".")[2]: value for name, value in named.items()} if len(first) == 1 else named


def _check_shapes(path: Path, entries: Mapping[str, Entry], targets: Mapping[str, Tensor]) -> None:
    wrong = [
        f"{name} is {_show(entry.shape, entry)}, the model's {_show(tuple(targets[name].shape), targets[name])}"
        for name, entry in entries.items()
        if entry.shape != targets[name].shape or kind_of(entry.dtype) != kind_of(targets[name].dtype)
    ]
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise InputError(
            f"{path} does not fit the model: {len(wrong)} of {len(entries)} tensors differ ("
            f"{'; '.join(wrong[:_NAMED])}{more}); name the model and data it was trained with"
        )


def _show(shape: tuple[int, ...], held: Entry | Tensor) -> str:
    return f"{kind_of(held.dtype)} {shape}"
