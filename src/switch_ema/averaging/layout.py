"""Where averages lie in memory: side by side in one buffer for each device and type."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from switch_ema.averaging.tensors import PLAIN, copied_on_write

ALIGNMENT = 16  # elements: where averages start on accelerators, whose kernels read aligned memory faster
_SMALL = 1 << 10  # elements
_memories: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()


class Wanted(NamedTuple):
    """How the average of one tensor is to be kept."""

    device: torch.device
    dtype: torch.dtype
    kind: str


class Item(NamedTuple):
    """A tensor of the model beside the place of its average.

    Attributes:
        start: First element of the average in its buffer.
        source: The tensor's memory in one dimension, or the tensor as it is if there are gaps in its memory. It shares
            memory with the model's tensor.
    """

    start: int
    source: Tensor

    @property
    def end(self) -> int:
        """The element of the buffer after its average."""
        return self.start + self.source.numel()

    def target(self, buffer: Tensor) -> Tensor:
        """Return the average in a buffer, in the shape of the source."""
        return buffer[self.start : self.end].view(self.source.shape)


class Part(NamedTuple):
    """Tensors that can be folded in together: the same buffer, type and kind, in the order of the buffer."""

    buffer: int
    kind: str
    items: list[Item]


@final
class Layout:
    """Places for the averages of some tensors.

    Args:
        values: The tensors by name; dense or with gaps, of any device and type.
        wanted: How each average is kept.

    Attributes:
        buffers: One-dimensional memory for averages, one buffer for each device and type.
        views: The averages by name, in the shape and memory format of the tensors.
    """

    def __init__(self, values: Mapping[str, Tensor], wanted: Mapping[str, Wanted]) -> None:
        self._wanted = dict(wanted)
        self._forms = {name: form(value) for name, value in values.items()}
        self._starts: dict[str, int] = {}
        groups: dict[tuple[torch.device, torch.dtype], list[str]] = {}
        for name, want in wanted.items():
            groups.setdefault((want.device, want.dtype), []).append(name)
        self._names: list[list[str]] = []
        self._indexes: dict[str, int] = {}
        self.buffers: list[Tensor] = []
        self.views: dict[str, Tensor] = {}
        for (device, dtype), names in groups.items():
            in_order = sorted(names, key=lambda name: _neighbours(wanted[name], values[name]))
            pinned = device.type == "cpu" and any(values[name].is_cuda for name in names)
            buffer = torch.zeros(self._place(in_order, values, device), dtype=dtype, device=device, pin_memory=pinned)
            self._names.append(in_order)
            self.buffers.append(buffer)
            self.views.update({name: _view(buffer, self._starts[name], values[name]) for name in in_order})
            self._indexes.update(dict.fromkeys(in_order, len(self.buffers) - 1))
        self.views = {name: self.views[name] for name in values}
        self._geometry = {name: (v.shape, v.stride(), v.storage_offset()) for name, v in self.views.items()}

    @property
    def places(self) -> tuple[object, ...]:
        """Which element of which buffer belongs to which tensor; layouts of equal places can be worked on together."""
        return self._wanted, self._forms, self._starts

    def holds(self, values: Mapping[str, Tensor], wanted: Mapping[str, Wanted]) -> bool:
        """Return whether the places are right for other tensors too."""
        return self._wanted == wanted and self._forms == {name: form(value) for name, value in values.items()}

    def lend(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Return averages in memory that others may write to; it is copied when they do, which reading does not."""
        lent = {index: copied_on_write(self.buffers[index]) for index in {self._indexes[name] for name in names}}
        return {name: lent[self._indexes[name]].as_strided(*self._geometry[name]) for name in names}

    def parts(self, values: Mapping[str, Tensor]) -> list[Part]:
        """Return what can be folded in together.

        Args:
            values: Tensors that `holds` accepts.
        """
        found: list[Part] = []
        for index, names in enumerate(self._names):
            groups: dict[tuple[object, ...], Part] = {}
            for name in names:
                value, kind = values[name], self._wanted[name].kind
                if value.numel():
                    part = groups.setdefault((kind, value.device, value.dtype), Part(index, kind, []))
                    part.items.append(Item(self._starts[name], memory(value)))
            found.extend(groups.values())
        return found

    def _place(self, names: Sequence[str], values: Mapping[str, Tensor], device: torch.device) -> int:
        """Give each name its start; return the length of the buffer."""
        end, step = 0, 1 if device.type == "cpu" else ALIGNMENT
        for name in names:
            self._starts[name] = end
            end += -(-values[name].numel() // step) * step
        return end


def is_small(value: Tensor) -> bool:
    """Return whether a call costs more than the work on the tensor, so that it is better joined with others."""
    return value.numel() <= _SMALL


def _neighbours(wanted: Wanted, value: Tensor) -> tuple[object, ...]:
    """Return what neighbours in a buffer share, so that they can be worked on together."""
    return wanted.kind, str(value.dtype), is_small(value)


def memory(value: Tensor) -> Tensor:
    """Return a tensor's memory in one dimension, or the tensor as it is if there are gaps in it.

    All who ask get the same object, so that `is_only_ours` can tell it from what others hold.
    """
    known, dense = _memories.get(value), is_dense(value)
    geometry = ((value.numel(),), (1,)) if dense else (value.shape, value.stride())
    if known is None or known.data_ptr() != value.data_ptr() or (known.shape, known.stride()) != geometry:
        known = value.detach()
        if dense:  # not as a view, which would hold the memory twice
            known = known.new_empty(0).set_(value.untyped_storage(), value.storage_offset(), (value.numel(),), (1,))
        _memories[value] = known
    return known


def is_only_ours(value: Tensor) -> bool:
    """Return whether a tensor has its memory for itself: none but the tensor and its `memory` refer to it."""
    if type(value) not in PLAIN:
        return False
    storage = value.untyped_storage()
    holders = torch._C._storage_Use_Count(storage._cdata) - 1  # but for this one
    return holders == 2 and storage.nbytes() == value.numel() * value.itemsize and is_dense(value)


def is_dense(value: Tensor) -> bool:
    """Return whether a tensor fills its memory without gaps or overlaps, in whatever order."""
    if value.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(value.stride(), value.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def form(value: Tensor) -> tuple[object, ...]:
    """Return what places and passes depend on."""
    return value.shape, value.stride(), value.dtype, value.device


def _view(buffer: Tensor, start: int, value: Tensor) -> Tensor:
    if is_dense(value):
        return buffer.as_strided(value.shape, value.stride(), start)
    return buffer[start : start + value.numel()].view(value.shape)
