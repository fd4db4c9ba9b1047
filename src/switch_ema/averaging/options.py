"""Which tensors of a model are averaged, and in which type and where their averages are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypedDict

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from switch_ema.averaging.slots import Slot, find_slots, plain_name
from switch_ema.averaging.tensors import is_averaged, is_sharded

Selection = str | Sequence[str] | Callable[[str, nn.Parameter], bool]
_DTYPES = (torch.float64, torch.float32, torch.bfloat16)


class AverageOptions(TypedDict, total=False):
    """Options that every method has.

    Attributes:
        use_buffers: Average float buffers (BatchNorm statistics) and copy the others; if false, buffers are left alone.
        parameters: Which parameters are averaged: a pattern for names such as `"*.lora_*"`, several of them, or a
            function of name and parameter such as `lambda name, p: p.requires_grad`; all by default.
        dtype: Type of the averages of float parameters: `torch.float32`, `torch.float64`, or `torch.bfloat16`, which
            is rounded stochastically and so does not stall; by default that of the weights, float32 at least.
        device: Where averages are kept; with the model by default. On `"cpu"` the weights of a model on an accelerator
            are fetched while the device works on.
        skip_nonfinite: Leave out an update if an averaged weight is not finite; `n_skipped` counts them.
    """

    use_buffers: bool
    parameters: Selection | None
    dtype: torch.dtype | None
    device: torch.device | str | None
    skip_nonfinite: bool


@dataclass(frozen=True)
class Options:
    """The same, checked; see `AverageOptions`."""

    use_buffers: bool = True
    parameters: Selection | None = field(default=None, compare=False)
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None
    skip_nonfinite: bool = False

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in _DTYPES:
            raise ValueError(
                f"dtype is {self.dtype!r}; write torch.float32, torch.float64 or torch.bfloat16, or leave it out"
            )
        try:
            device = None if self.device is None else torch.device(self.device)
        except RuntimeError:
            raise ValueError(f"device is {self.device!r}, which is none; write 'cpu' or leave it out") from None
        if device is not None and device.type == "meta":
            raise ValueError("device is 'meta', where nothing can be kept; write 'cpu' or leave it out")
        object.__setattr__(self, "device", device)

    def find(self, model: nn.Module) -> dict[str, Slot]:
        """Return the parameters and buffers that are averaged or copied, by name, parameters first.

        Left out are parameters of whole numbers and frozen quantized ones: they do not train.

        Raises:
            ValueError: If nothing is left, or a parameter cannot be averaged.
        """
        _refuse_flat_shards(model)
        slots = find_slots(model, use_buffers=self.use_buffers)
        found = {
            name: slot
            for name, slot in slots.items()
            if not slot.is_parameter or self._takes(name, slot.holder[slot.key])
        }
        if not any(slot.is_parameter for slot in found.values()):
            names = ", ".join([plain_name(name) for name, slot in slots.items() if slot.is_parameter][:3])
            raise ValueError(
                f"parameters={self.parameters!r} selects none of the model's parameters that can be averaged "
                f"({names}, ...); write e.g. parameters='*.weight'"
            )
        return found

    def _takes(self, name: str, parameter: nn.Parameter) -> bool:
        if not is_averaged(parameter):
            return False
        if self.parameters is not None and not self._selects(plain_name(name), parameter):
            return False
        wrapped: bool = is_traceable_wrapper_subclass(parameter)
        if wrapped and not is_sharded(parameter):
            if not parameter.requires_grad:
                return False
            raise _cannot(name, f"is a {type(parameter).__name__}, which is not made of plain numbers")
        if parameter.layout is not torch.strided:
            raise _cannot(name, "is sparse")
        return True

    def _selects(self, name: str, parameter: nn.Parameter) -> bool:
        if callable(self.parameters):
            return bool(self.parameters(name, parameter))
        patterns = [self.parameters] if isinstance(self.parameters, str) else self.parameters or ()
        return any(fnmatchcase(name, pattern) for pattern in patterns)


def _cannot(name: str, why: str) -> ValueError:
    return ValueError(
        f"parameter {name!r} {why} and cannot be averaged; leave it out with parameters=lambda name, p: ..."
    )


def _refuse_flat_shards(model: nn.Module) -> None:
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise ValueError(
            "the model is wrapped in FullyShardedDataParallel (FSDP1), whose shards cannot be averaged one by one; "
            "shard it with torch.distributed.fsdp.fully_shard (FSDP2) instead"
        )
