"""What an averager saves, and the checks before any of it is loaded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from torch import Tensor

from switch_ema.averaging.slots import differences
from switch_ema.averaging.trigger import Clock

_FORMAT = 1
_CLOCK = ("steps", "epochs", "step_in_epoch")


@dataclass
class Counters:
    """Where an averager stands; times are in the unit of its update trigger.

    Attributes:
        n_averaged: Updates so far.
        n_switches: Switches so far.
        n_skipped: Updates left out so far because a weight was not finite.
        taken: Time of the last update.
        switched: Time of the last switch.
        lag: How far the average is behind a model that moved steadily since the last switch.
        clock: Completed steps and epochs.
    """

    n_averaged: int = 0
    n_switches: int = 0
    n_skipped: int = 0
    taken: int = 0
    switched: int = 0
    lag: float = 0.0
    clock: Clock = field(default_factory=Clock)

    def to_dict(self) -> dict[str, int | float]:
        """Return all counters, those of the clock among them."""
        values = asdict(self)
        clock = values.pop("clock")
        return {**values, **{name: clock[name] for name in _CLOCK}}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Read counters, refusing missing, unknown, negative and non-numeric ones."""
        names = [*(f.name for f in fields(cls) if f.name != "clock"), *_CLOCK]
        if not isinstance(values, dict) or set(values) != set(names):
            found = differences(values if isinstance(values, dict) else (), names)
            raise ValueError(f"the averager state has not the counters it should have ({found}); load the right file")
        for name, value in values.items():
            kinds = (int, float) if name == "lag" else (int,)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < math.inf:
                raise ValueError(f"the averager state is damaged: {name} is {value!r}, not a count of at least 0")
        own = {name: value for name, value in values.items() if name not in _CLOCK}
        return cls(**own, clock=Clock(**{name: values[name] for name in _CLOCK}))


@dataclass(frozen=True)
class AveragerState:
    """The saved form of an averager.

    Attributes:
        made_of: Its parts in words: fold, update and switch.
        counters: Where it stands.
        averages: Averages by tensor name.
        snapshots: Snapshots of a moving window, the oldest first.
    """

    made_of: dict[str, str]
    counters: Counters
    averages: dict[str, Tensor]
    snapshots: list[dict[str, Tensor]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, which `torch.save` writes and `torch.load(weights_only=True)` reads."""
        return {
            "format": _FORMAT,
            "made_of": dict(self.made_of),
            "counters": self.counters.to_dict(),
            "averages": dict(self.averages),
            "snapshots": [dict(s) for s in self.snapshots],
        }

    @classmethod
    def from_dict(cls, state: Any) -> Self:
        """Read what `to_dict` returned, refusing anything else."""
        expected = ("format", "made_of", "counters", "averages", "snapshots")
        if not isinstance(state, dict) or set(state) != set(expected):
            raise ValueError("this is not the state of an averager; pass what averager.state_dict() returned")
        if state["format"] != _FORMAT:
            raise ValueError(f"the averager state has format {state['format']!r}, this version reads {_FORMAT}")
        made_of, averages, snapshots = state["made_of"], state["averages"], state["snapshots"]
        mappings = [made_of, averages, *(snapshots if isinstance(snapshots, list) else [snapshots])]
        if not all(isinstance(mapping, dict) for mapping in mappings):
            raise ValueError("the averager state is damaged: its parts are not dictionaries; load the right file")
        return cls(made_of, Counters.from_dict(state["counters"]), averages, snapshots)

    def check(self, made_of: Mapping[str, str], averages: Mapping[str, Tensor], buffers: Collection[str]) -> None:
        """Refuse a state that does not fit an averager; warn where only a setting differs.

        Args:
            made_of: The parts of the averager that is to go on from the state.
            averages: Its averages.
            buffers: The names of buffers, whose shapes may change; their averages start anew then.

        Raises:
            ValueError: If kind, names or shapes differ.
        """
        if self.made_of.get("kind") != made_of["kind"]:
            raise ValueError(
                f"the state was saved by an average of kind {self.made_of.get('kind')!r}, this one is of kind "
                f"{made_of['kind']!r}; make the averager with the method it was saved from"
            )
        _check_tensors("average", self.averages, averages, buffers)
        for snapshot in self.snapshots:  # tensors that came later are missing
            expected = {name: average for name, average in averages.items() if name in snapshot}
            _check_tensors("snapshot", snapshot, expected, buffers)
        for part, now in made_of.items():
            if self.made_of.get(part) != now:
                warnings.warn(
                    f"the averager was saved with {part} '{self.made_of.get(part)}' and goes on with '{now}'",
                    stacklevel=3,
                )


def _check_tensors(
    what: str, loaded: Mapping[str, Tensor], expected: Mapping[str, Tensor], buffers: Collection[str]
) -> None:
    if names := differences(loaded, expected):
        raise ValueError(f"the {what} does not fit the model ({names}); load the state that belongs to this model")
    for name, tensor in loaded.items():
        if not isinstance(tensor, Tensor) or (tensor.shape != expected[name].shape and name not in buffers):
            shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"the {what} of {name!r} has shape {shape}, the model's {tuple(expected[name].shape)}")
