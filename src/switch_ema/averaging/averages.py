"""The averages of a model's tensors, kept in step with a model that moves, grows buffers or replaces its parameters."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from switch_ema.averaging.buffers import copied_names
from switch_ema.averaging.cuda import SideStreams
from switch_ema.averaging.fold import Fold
from switch_ema.averaging.layout import Layout, Wanted, is_only_ours
from switch_ema.averaging.options import Options
from switch_ema.averaging.placement import Passes
from switch_ema.averaging.slots import Slot, Structure, differences, reshard, write
from switch_ema.averaging.swap import LARGE
from switch_ema.averaging.tensors import average_dtype, is_sharded, like, local, sharded_like

_shape = operator.attrgetter("shape")


@final
class Averages:
    """One tensor for every parameter and saved buffer of a model: a copy at first, an average after the first update.

    Args:
        model: The model; it is never copied.
        options: Which tensors are averaged, and how averages are kept.

    Raises:
        ValueError: If the model has no (initialised) parameters, or one that cannot be averaged.

    Attributes:
        side: The streams on which updates run beside the model's work, if they do.
    """

    def __init__(self, model: nn.Module, options: Options) -> None:
        self.side: SideStreams | None = None
        self._model = model
        self._options = options
        self._n_skipped: Tensor | int = 0
        self._slots: dict[str, Slot] = {}
        self._copied: frozenset[str] = frozenset()
        self._layout = Layout({}, {})
        self._passes = Passes([self._layout], [])
        self._joint: list[Passes] = []  # those that this one shares with others
        self._tensors: dict[str, Tensor] = {}
        self.refresh()

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The averages by name, in the model's order."""
        self._settle()
        return self._tensors

    @property
    def averaged_names(self) -> Sequence[str]:
        """Names of those that are averaged; the others are copies of the latest value."""
        return [name for name in self._tensors if name not in self._copied]

    @property
    def slots(self) -> Mapping[str, Slot]:
        """The model's tensors by name."""
        return self._slots

    @property
    def n_skipped(self) -> int:
        """Updates that were left out because a weight was not finite; to ask waits for the device."""
        return int(self._n_skipped)

    @n_skipped.setter
    def n_skipped(self, count: int) -> None:
        self._n_skipped = count

    def lerp_(self, share: float, seed: int) -> None:
        """Fold the model's tensors, as they are now, into the averages, and copy those that are not averaged.

        `average <- average + share * (value - average)`

        Args:
            share: Share of the value, in [0, 1].
            seed: For the random numbers of stochastic rounding.
        """
        self._follow()
        self._fold_in([self], self._passes, [share], [seed])

    def mean_(self, fold: Fold) -> None:
        """Let a fold set the averages from the model's tensors, and copy those that are not averaged."""
        self._follow()
        for one in self._passes.copied:
            one.copy_()
        if self._options.skip_nonfinite and not self._passes.finite():
            self._n_skipped = self._n_skipped + 1
            return
        names = self.averaged_names
        fold.mean({name: self._slots[name].tensor for name in names}, {name: self.tensors[name] for name in names})

    def copy_(self) -> None:
        """Make every average a copy of the model's tensor, unless one is not finite and such updates are skipped."""
        self._follow()
        self._settle()
        if self._options.skip_nonfinite:
            self._passes.lerp_([1.0], [0], self._passes.finite(), None)
            return
        for one in self._passes.all:
            one.copy_()

    def lend(self, exchange: bool | None) -> dict[str, Tensor]:
        """Return averages whose memory parameters may take over, by name; it is copied when something writes to it.

        They are those of parameters to whose memory nothing else refers, for that would not see the averages. Small
        ones are faster copied.

        Args:
            exchange: Whether there are any; `None` for those on the CPU.
        """
        lent = []
        for name, slot in self._slots.items():
            tensor = slot.tensor
            if not slot.is_parameter or tensor.numel() < LARGE:
                continue
            wanted = tensor.device.type == "cpu" if exchange is None else exchange
            if wanted and tensor.device == self._layout.views[name].device and is_only_ours(tensor):
                lent.append(name)
        return self._layout.lend(lent)

    def write_to_model(self) -> None:
        """Copy the averages into the model."""
        self._follow()
        write(self._slots, self.tensors)

    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Take the values of other averages of the same names and shapes."""
        with torch.no_grad():
            for name, average in self.tensors.items():
                loaded = averages[name]
                if loaded.shape != average.shape:  # a buffer that changed its shape starts anew
                    continue
                local([average])[0].copy_(local([like(loaded, average)])[0])

    def alike(self, snapshot: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return whole tensors laid out as the averages of their names are: of sharded ones this process's shards."""
        averages = self.tensors
        return {name: like(tensor, averages[name]) for name, tensor in snapshot.items()}

    def check(self) -> None:
        """Look the model's tensors up anew: parameters must be those it had, buffers may come and go.

        Raises:
            RuntimeError: If a parameter was added, removed or reshaped.
        """
        if self._sharded:
            reshard(self._model)
        if self._structure.is_unchanged() and self._is_current():
            return
        slots = self._options.find(self._model)
        names = differences(
            (name for name, slot in slots.items() if slot.is_parameter),
            (name for name, slot in self._slots.items() if slot.is_parameter),
        )
        if names:
            raise RuntimeError(
                f"the model's parameters are not those it had ({names}); call refresh() on the averager to go on with "
                "those it has"
            )
        for name, slot in slots.items():
            if is_sharded(slot.tensor) != is_sharded(self._tensors.get(name, slot.tensor)):
                raise RuntimeError(
                    f"parameter {name!r} was sharded after the averager was made; make the averager after fully_shard()"
                )
            if slot.is_parameter and self._tensors[name].shape != slot.tensor.shape:
                raise RuntimeError(
                    f"parameter {name!r} had shape {tuple(self._tensors[name].shape)} and now has "
                    f"{tuple(slot.tensor.shape)}; call refresh() on the averager to start its average anew"
                )
        self._take_up(slots)

    def refresh(self) -> None:
        """Take the model's tensors as they are: new and reshaped ones start anew, those that are gone are dropped."""
        reshard(self._model)
        self._take_up(self._options.find(self._model))

    def _take_up(self, slots: dict[str, Slot]) -> None:
        if slots.keys() != self._slots.keys():
            self._copied = copied_names(self._model, slots)
        self._slots = slots
        self._structure = Structure(self._model)
        self._arrange()

    def _settle(self, *, but: Passes | None = None) -> None:
        """Let what comes see all updates so far, but for those of passes that see to it themselves."""
        for passes in (self._passes, *self._joint):
            if passes is not but:
                passes.settle()
        if self.side is not None:
            self.side.join()

    def _follow(self) -> None:
        """Follow the model if it moved, or if a tensor was replaced."""
        if not self._is_current():
            self.check()

    def _is_current(self) -> bool:
        values = [holder.get(key) for holder, key in self._places]
        if not all(map(operator.is_, values, self._seen)):
            return False
        return _geometry(local(self._seen) if self._sharded else self._seen) == self._geometry

    def _arrange(self) -> None:
        """Lay out what an update needs; averages whose place is right stay where they are."""
        self._settle()
        self._places = [(slot.holder, slot.key) for slot in self._slots.values()]
        self._seen = [slot.tensor for slot in self._slots.values()]
        self._sharded = any(map(is_sharded, self._seen))
        values = dict(zip(self._slots, local(self._seen), strict=True))
        self._geometry = _geometry(list(values.values()))
        if self._sharded and self._options.device is not None:
            raise ValueError("averages of a sharded model lie beside its shards; leave device= out")
        wanted = {name: self._wanted(name, value) for name, value in values.items()}
        if not self._layout.holds(values, wanted):
            old, self._layout = self._layout, Layout(values, wanted)
            with torch.no_grad():
                for name, view in self._layout.views.items():
                    past = old.views.get(name)
                    view.copy_(past if past is not None and past.shape == view.shape else values[name])
        self._tensors = {
            name: sharded_like(view, self._slots[name].tensor) for name, view in self._layout.views.items()
        }
        self._parts = self._layout.parts(values)
        self._passes = Passes([self._layout], self._parts)
        self._joint = []
        self._arrangement = object()

    def _wanted(self, name: str, value: Tensor) -> Wanted:
        device = torch.device(self._options.device or value.device)
        if name in self._copied:
            return Wanted(device, value.dtype, "copied")
        is_parameter = self._slots[name].is_parameter
        dtype = self._options.dtype if is_parameter and value.dtype.is_floating_point else None
        if dtype is None:
            past = self._layout.views.get(name)
            dtype = average_dtype(value.dtype)
            dtype = dtype if past is None else torch.promote_types(dtype, past.dtype)
        return Wanted(device, dtype, "parameter" if is_parameter else "buffer")

    def _fold_in(self, rows: Sequence[Averages], passes: Passes, shares: Sequence[float], seeds: Sequence[int]) -> None:
        for row in rows:
            row._settle(but=passes)
        keep = passes.finite() if self._options.skip_nonfinite else None
        if keep is not None:
            for row in rows:
                row._n_skipped = row._n_skipped + keep.logical_not()
        passes.lerp_(shares, seeds, keep, self.side)


def _geometry(values: Sequence[Tensor]) -> tuple[list[object], ...]:
    """Return where tensors lie in memory, and in which shape; it may change while a parameter stays the same object."""
    return [*map(Tensor.data_ptr, values)], [*map(_shape, values)], [*map(Tensor.stride, values)]


@final
class Together:
    """Several averages of one model, which are folded in in one pass that reads the model once.

    Args:
        rows: The averages.
    """

    def __init__(self, rows: Sequence[Averages]) -> None:
        self._rows = list(rows)
        self._arrangements: list[object] = []
        self._passes: Passes | None = None

    def lerp_(self, shares: Sequence[float], seeds: Sequence[int]) -> None:
        """Fold the model's tensors into all averages; see `Averages.lerp_`.

        Args:
            shares: Share of the value for each of the averages.
            seeds: Seed of stochastic rounding for each of them.
        """
        for row in self._rows:
            row._follow()
        first, *others = self._rows
        if self._arrangements != [row._arrangement for row in self._rows]:
            self._arrangements = [row._arrangement for row in self._rows]
            alike = all(
                row._layout.places == first._layout.places
                and row._geometry == first._geometry
                and row._options.skip_nonfinite == first._options.skip_nonfinite
                for row in others
            )
            self._passes = Passes([row._layout for row in self._rows], first._parts) if alike else None
            for row in self._rows:
                row._joint += [self._passes] if self._passes is not None else []
        if self._passes is None:
            for row, share, seed in zip(self._rows, shares, seeds, strict=True):
                row._fold_in([row], row._passes, [share], [seed])
        else:
            first._fold_in(self._rows, self._passes, shares, seeds)
