"""Checkpoint files opened for averaging: safetensors, torch checkpoints, and shards with an index."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self, final

import torch
from torch import Tensor

from switch_ema.averaging.safefile import SafeFile
from switch_ema.averaging.safewriter import Entry, in_blocks, storable
from switch_ema.averaging.slots import differences
from switch_ema.averaging.tensors import is_sharded

TORCH_ENDINGS = (".pt", ".pth", ".bin", ".ckpt")
_INDEX = ".index.json"
_DEPTH = 3  # how deep a state dict may lie in a torch checkpoint


class Source(Protocol):
    """A checkpoint opened for reading; a context manager.

    Attributes:
        path: What was opened.
        entries: Type and shape of every tensor by name, tied ones under each of their names.
        aliases: Names that share the data of another one, and whose.
        about: What a file of this library says about itself; `None` for others.
    """

    path: Path
    entries: dict[str, Entry]
    aliases: dict[str, str]
    about: dict[str, Any] | None

    @property
    def files(self) -> list[Path]:
        """The files that are read."""

    def blocks(self, name: str) -> Iterator[Tensor]:
        """Yield a tensor in flat blocks of `BLOCK` elements and a rest, each good until the next."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_source(path: Path, key: str | None = None) -> Source:
    """Open a checkpoint, after checking all of it where it has a checksum.

    Args:
        path: A `.safetensors` file, a torch checkpoint, an index of shards, or a folder that holds one of these.
        key: Where the weights lie in a torch checkpoint, such as `"ema"` or `"averager.averages"`; needed where it
            holds several state dicts.

    Raises:
        ValueError: If it is not there, damaged, or none of these; the message names it, the reason and the cure.
    """
    if path.is_dir():
        path = _file_in(path)
    if not path.is_file():
        raise ValueError(f"{path} is not there; name a file that is")
    if path.name.endswith(_INDEX):
        return ShardedSource(path, key)
    if path.suffix == ".safetensors":
        file = SafeFile(path)
        try:
            if file.about is not None:
                file.verify()
        except BaseException:
            file.close()
            raise
        return file
    if path.suffix in TORCH_ENDINGS:
        return TorchSource(path, key)
    endings = ", ".join(TORCH_ENDINGS)
    raise ValueError(f"{path} is no checkpoint by its name; name a .safetensors file, one of {endings}, or an index")


def _file_in(folder: Path) -> Path:
    """Return the one checkpoint in a folder, an index before single files."""
    for pattern in (f"*.safetensors{_INDEX}", "*.safetensors", f"*{_INDEX}"):
        found = sorted(folder.glob(pattern))
        named = folder / pattern.replace("*", "model")
        if len(found) == 1 or named in found:
            return named if named in found else found[0]
        if found:
            names = ", ".join(path.name for path in found[:3])
            raise ValueError(f"{folder} holds several checkpoints ({names}, ...); name one of them")
    raise ValueError(f"{folder} holds no safetensors file and no index of shards; name the checkpoint itself")


@final
class TorchSource:
    """A torch checkpoint; only tensors and plain containers are read from it, and its data is mapped, not loaded."""

    about: dict[str, Any] | None = None

    def __init__(self, path: Path, key: str | None) -> None:
        self.path = path
        self._tensors = _choose(path, _load(path), key)
        self.entries = {name: _entry(path, name, tensor) for name, tensor in self._tensors.items()}
        self.aliases = _shared(self._tensors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors = {}

    @property
    def files(self) -> list[Path]:
        """The file, in a list."""
        return [self.path]

    def blocks(self, name: str) -> Iterator[Tensor]:
        """Yield a tensor in flat blocks of `BLOCK` elements and a rest."""
        yield from in_blocks(self._tensors[name])


@final
class ShardedSource:
    """Several files that hold the tensors of one model, and an index that says which holds what."""

    about: dict[str, Any] | None = None

    def __init__(self, path: Path, key: str | None) -> None:
        self.path = path
        place = _read_index(path)
        with ExitStack() as stack:
            shards = {
                name: stack.enter_context(open_source(path.parent / name, key))
                for name in dict.fromkeys(place.values())
            }
            held = {name for shard in shards.values() for name in shard.entries}
            if names := differences(held, place):
                raise ValueError(f"{path} does not agree with its shards ({names}); use an undamaged copy")
            for name, shard in place.items():
                if name not in shards[shard].entries:
                    raise ValueError(f"{path} says that {shard} holds {name!r}, and it does not; use an undamaged copy")
            self._shards = shards
            self._place = place
            self.entries = {name: shards[shard].entries[name] for name, shard in place.items()}
            self.aliases = {
                alias: name
                for shard_name, shard in shards.items()
                for alias, name in shard.aliases.items()
                if place[alias] == place[name] == shard_name
            }
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def files(self) -> list[Path]:
        """The index and the shards."""
        return [self.path, *(shard.path for shard in self._shards.values())]

    def blocks(self, name: str) -> Iterator[Tensor]:
        """Yield a tensor in flat blocks of `BLOCK` elements and a rest."""
        return self._shards[self._place[name]].blocks(name)


def _read_index(path: Path) -> dict[str, str]:
    try:
        place = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not place or not all(isinstance(shard, str) for shard in place.values()):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path} is no index of shards (no weight_map of names to files); name another file") from None
    for shard in place.values():
        if Path(shard).name != shard or shard.endswith(_INDEX) or not (path.parent / shard).is_file():
            raise ValueError(f"{path} names {shard!r} as a shard, which is no file beside it; put it there")
    return dict(place)


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of torch, on sparse tensors, which are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:  # damaged bytes make the reader of pickles raise almost anything
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            raise ValueError(
                f"{path} holds a {found[1]}, which only running code from it could read; save its state dict alone"
            ) from None
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{path} is no whole torch checkpoint ({type(error).__name__}: {reason}); use an undamaged copy"
        ) from None


def _choose(path: Path, content: Any, key: str | None) -> dict[str, Tensor]:
    found = _state_dicts(content)
    names = ", ".join(repr(name) for name in found)
    if key is not None:
        if key in found:
            return found[key]
        raise ValueError(f"{path} has no state dict at key {key!r}; write one of: {names or 'none, it holds none'}")
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise ValueError(f"{path} holds several state dicts ({names}); choose with key (--key)")
    inside = type(content).__name__
    if isinstance(content, Mapping):
        inside = "; ".join(f"{name!r} is a {type(value).__name__}" for name, value in list(content.items())[:6])
    raise ValueError(f"{path} holds no state dict, a mapping of names to tensors only ({inside}); save one")


def _state_dicts(content: Any, place: str = "", depth: int = 0) -> dict[str, dict[str, Tensor]]:
    """Return every mapping of names to tensors only, by the keys that lead to it."""
    if not isinstance(content, Mapping) or not content or not all(isinstance(name, str) for name in content):
        return {}
    if all(isinstance(value, Tensor) for value in content.values()):
        return {place: dict(content)}
    found: dict[str, dict[str, Tensor]] = {}
    if depth < _DEPTH:
        for name, value in content.items():
            found |= _state_dicts(value, f"{place}.{name}" if place else name, depth + 1)
    return found


def _entry(path: Path, name: str, tensor: Tensor) -> Entry:
    if is_sharded(tensor):
        raise ValueError(f"{path}: tensor {name!r} is sharded; gather it with .full_tensor() before saving it")
    try:
        return storable(name, tensor)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _shared(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return names of tensors that are the same memory as an earlier one, and the name of that."""
    first: dict[Any, str] = {}
    aliases = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            if first.setdefault(place, name) != name:
                aliases[name] = first[place]
    return aliases
