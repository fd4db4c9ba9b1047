"""Sharded tensors of a state, gathered for frameworks that let one process save it."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from switch_ema.averaging.tensors import is_sharded


@torch.no_grad()
def whole(state: Any) -> Any:
    """Return a state with its sharded tensors (DTensors) gathered one by one on the CPU, and all else as it is.

    All processes must call this if there are any.

    Args:
        state: Nested dictionaries and lists with tensors in them.

    Example:
        >>> whole({"averages": {"weight": torch.ones(2)}, "format": 1})
        {'averages': {'weight': tensor([1., 1.])}, 'format': 1}
    """
    if isinstance(state, dict):
        return {name: whole(value) for name, value in state.items()}
    if isinstance(state, list):
        return [whole(value) for value in state]
    if isinstance(state, Tensor) and is_sharded(state):
        return cast(Any, state.detach()).full_tensor().cpu()
    return state
