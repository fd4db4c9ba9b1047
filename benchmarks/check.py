"""Is the average right? Every contender must have computed it before it is timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.peers import Average, reason

UPDATES = 3
TOLERANCE = 1e-6  # of the largest value; an update moves an average by a thousandth of a change of about 1


@dataclass(frozen=True)
class Verdict:
    """What a contender did.

    Attributes:
        fault: Why its average of the parameters is not the one asked for, in a few words; empty if it is.
        buffers: What became of float and of integer buffers, where the model has some.
    """

    fault: str
    buffers: Mapping[str, str] = field(default_factory=dict)


@torch.no_grad()
def verify(model: nn.Module, contenders: Mapping[str, Average], decay: float) -> dict[str, Verdict]:
    """Move the weights a few times, update every contender beside a float64 twin, and compare.

    `a <- decay * a + (1 - decay) * w`, `a` the weights of the start, on parameters and float buffers.

    Args:
        model: The model that all contenders average; its weights are changed.
        contenders: Freshly made averages by name; a first update, at which some only copy, is made here.
        decay: The decay they were made with.

    Returns:
        A verdict for each contender.
    """
    live = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    twin = {name: value.double() for name, value in live.items() if value.is_floating_point()}
    faults: dict[str, str] = {name: _try_update(contender) for name, contender in contenders.items()}
    for _ in range(UPDATES):
        for value in live.values():
            if value.is_floating_point():
                value.mul_(-0.5).add_(1)
            else:
                value.add_(1)
        for name, expected in twin.items():
            expected.lerp_(live[name].double(), 1 - decay)
        for name, contender in contenders.items():
            faults[name] = faults[name] or _try_update(contender)
    rounded = {name: value.float() for name, value in twin.items()}
    return {
        name: Verdict(faults[name]) if faults[name] else _compare(model, contender.tensors(), rounded, decay)
        for name, contender in contenders.items()
    }


def _try_update(contender: Average) -> str:
    try:
        contender.update()
    except Exception as error:
        return reason(error)
    return ""


def _compare(model: nn.Module, kept: Mapping[str, Tensor], twin: Mapping[str, Tensor], decay: float) -> Verdict:
    for name, parameter in model.named_parameters():
        if name not in kept:
            return Verdict(f"wrong: keeps no average of {name}")
        if kept[name].dtype.itemsize < 4:
            return Verdict(f"stays {str(kept[name].dtype).removeprefix('torch.')}")
        if not _near(kept[name], twin[name]):
            return Verdict(_how_wrong(name, parameter, kept[name], twin[name], decay))
    return Verdict("", _buffers(model, kept, twin))


def _how_wrong(name: str, parameter: Tensor, average: Tensor, expected: Tensor, decay: float) -> str:
    """Tell an average whose every summand is rounded to the weights' type from one that is plainly another."""
    off = (average - expected).abs().max().item()
    added = (1 - decay) * parameter.abs().max().item()
    moves, dtype = (1 - decay) * (parameter - expected).abs().max().item(), parameter.dtype
    if average.dtype != dtype and off <= UPDATES * added * torch.finfo(dtype).eps:
        return f"inexact: off by {off:.0e}, for what a weight adds is rounded to {str(dtype).removeprefix('torch.')}"
    return f"wrong: the average of {name} is off by {off:.0e}, where an update moves it by {moves:.0e}"


def _buffers(model: nn.Module, kept: Mapping[str, Tensor], twin: Mapping[str, Tensor]) -> dict[str, str]:
    """Say what became of the buffers: each kind is averaged, copied, wrong or not kept."""
    done: dict[str, set[str]] = {}
    for name, buffer in model.named_buffers():
        kind = "floats" if name in twin else "integers"
        if name not in kept:
            what = "not kept"
        elif torch.equal(kept[name], buffer):
            what = "copied"
        else:
            what = "averaged" if name in twin and _near(kept[name], twin[name]) else "wrong"
        done.setdefault(kind, set()).add(what)
    return {kind: "/".join(sorted(whats)) for kind, whats in done.items()}


def _near(average: Tensor, expected: Tensor) -> bool:
    if not expected.numel():
        return True
    off = (average - expected).abs_().max().item()
    return off <= TOLERANCE * max(1.0, expected.abs().max().item())  # and false for a nan
