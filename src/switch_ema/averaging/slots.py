"""The tensors of a model by name, looked up again at each use.

A slot remembers the module's own dictionary rather than the tensor in it, so that a parameter replaced by
`load_state_dict(assign=True)` or `.to()` is found without walking the modules at every step.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple, TypeVar, cast

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from switch_ema.averaging.tensors import copy_

_T = TypeVar("_T")
_U = TypeVar("_U")
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


class Slot(NamedTuple):
    """Where a parameter or buffer of a model lives."""

    holder: dict[str, Any]
    key: str
    is_parameter: bool

    @property
    def tensor(self) -> Tensor:
        """The tensor that is there now; `KeyError` if it is gone."""
        tensor: Tensor | None = self.holder[self.key]
        if tensor is None:
            raise KeyError(self.key)
        return tensor


def find_slots(model: nn.Module, *, use_buffers: bool) -> dict[str, Slot]:
    """Return every parameter and, on request, every saved buffer of a model, tied ones once, parameters first.

    Buffers that are not saved with the model are caches: they belong to the model's code and are left to it.

    Args:
        model: Any module.
        use_buffers: Whether buffers are included.

    Returns:
        Slots by name.

    Raises:
        ValueError: If there are no parameters, or one of them has no values yet (lazy, or on the meta device).
    """
    slots: dict[str, Slot] = {}
    seen: set[int] = set()
    for name, slot in all_slots(model):
        tensor = slot.holder[slot.key]
        if tensor is None or id(tensor) in seen or not (slot.is_parameter or use_buffers):
            continue
        if is_lazy(tensor):
            raise ValueError(
                f"parameter {name!r} has no shape yet; pass one batch through the model before averaging it"
            )
        if tensor.is_meta:
            raise ValueError(
                f"parameter {name!r} is on the meta device; load or initialise the weights before averaging"
            )
        seen.add(id(tensor))
        slots[name] = slot
    if not any(slot.is_parameter for slot in slots.values()):
        raise ValueError(f"{type(model).__name__} has no parameters; there is nothing to average")
    return slots


def all_slots(model: nn.Module, *, unsaved: bool = False) -> Iterator[tuple[str, Slot]]:
    """Yield the place of every parameter and buffer of each module, parameters first; tied ones, and none, too.

    A module that is used in several places counts once.

    Args:
        model: Any module.
        unsaved: Whether buffers that are not saved with the model are included.
    """
    modules = list(model.named_modules())
    for prefix, module in modules:
        for key in module._parameters:
            yield f"{prefix}.{key}" if prefix else key, Slot(module._parameters, key, True)
    for prefix, module in modules:
        for key in module._buffers:
            if key in module._non_persistent_buffers_set and not unsaved:
                continue
            yield f"{prefix}.{key}" if prefix else key, Slot(module._buffers, key, False)


class Structure:
    """Which modules a model is made of, which of their tensors are there, and which are tied; quick to compare.

    Args:
        model: Any module.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._submodules = [module._modules for module in modules]
        self._tensors = [held for module in modules for held in (module._parameters, module._buffers)]
        self._known = self._look()

    def is_unchanged(self) -> bool:
        """Return whether the model still has the same modules, and tensors where it had some."""
        (modules, places), (known_modules, known_places) = self._look(), self._known
        same = len(modules) == len(known_modules) and all(map(operator.is_, modules, known_modules))
        return same and places == known_places

    def _look(self) -> tuple[list[object], list[int | None]]:
        """Return the modules, and for each tensor the first place where it is; `None` where there is none."""
        first: dict[int, int] = {}
        tensors = chain.from_iterable(held.values() for held in self._tensors)
        modules = chain.from_iterable(held.values() for held in self._submodules)
        places = [None if each is None else first.setdefault(id(each), place) for place, each in enumerate(tensors)]
        return [*modules], places


def write(slots: Mapping[str, Slot], sources: Mapping[str, Tensor]) -> None:
    """Copy tensors into a model's own, in place; a buffer of another shape is replaced.

    Args:
        slots: The targets by name.
        sources: The sources by name; a target without a source is left alone.
    """
    found = [slots[name] for name in sources]
    targets, values = [slot.tensor for slot in found], list(sources.values())
    if [target.shape for target in targets] == [value.shape for value in values]:
        copy_(targets, values)
        return
    for slot, target, value in zip(found, targets, values, strict=True):
        if target.shape == value.shape:
            copy_([target], [value])
        elif not slot.is_parameter:
            slot.holder[slot.key] = value.detach().to(device=target.device, dtype=target.dtype, copy=True)


def write_all(targets: Mapping[str, Slot], sources: Mapping[str, Tensor]) -> None:
    """Copy tensors into a model's own, in place, if each of them has its counterpart.

    Args:
        targets: All targets by name.
        sources: All sources by name.

    Raises:
        ValueError: If names or shapes do not fit; nothing is copied then.
    """
    if names := differences(targets, sources):
        raise ValueError(
            f"the model does not have the tensors of the average ({names}); pass a model of the same structure"
        )
    for name, slot in targets.items():
        if slot.is_parameter and slot.tensor.shape != sources[name].shape:
            raise ValueError(
                f"{name!r} has shape {tuple(slot.tensor.shape)}, its average {tuple(sources[name].shape)}; "
                "pass a model of the same structure"
            )
    write(targets, sources)


def reshard(model: nn.Module) -> None:
    """Bring fully sharded modules (FSDP2) back to their shards; a forward pass alone leaves some of them whole.

    Args:
        model: Any module.
    """
    for module in filter(is_fully_sharded, model.modules()):
        cast(Any, module).reshard()


def is_fully_sharded(module: nn.Module) -> bool:
    """Return whether a module gathers its parameters for each forward pass (FSDP2)."""
    return hasattr(type(module), "reshard") and hasattr(type(module), "unshard")


def plain_name(name: str) -> str:
    """Return a tensor's name without the parts that wrappers (compile, DDP, FSDP, checkpointing) put into it.

    Example:
        >>> plain_name("module._orig_mod.layer.weight")
        'layer.weight'
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def plain_names(named: Mapping[str, _T]) -> Mapping[str, _T]:
    """Return a mapping under plain names, or as it is where two names would become one."""
    plain = {plain_name(name): value for name, value in named.items()}
    return plain if len(plain) == len(named) else named


def under_same_names(one: Mapping[str, _T], other: Mapping[str, _U]) -> tuple[Mapping[str, _T], Mapping[str, _U]]:
    """Return two mappings as they are if their names agree, under plain names otherwise."""
    return (one, other) if one.keys() == other.keys() else (plain_names(one), plain_names(other))


def differences(have: Iterable[str], want: Iterable[str]) -> str:
    """Describe how two sets of names differ, naming up to three on each side; empty if they agree."""
    have, want = set(have), set(want)
    parts = []
    for label, found in (("missing", want - have), ("unexpected", have - want)):
        if names := sorted(map(str, found)):
            parts.append(f"{label}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}")
    return "; ".join(parts)
