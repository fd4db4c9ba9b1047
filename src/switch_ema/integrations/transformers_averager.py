"""The averager of a Trainer's training: what of the model it averages, and what it is told of the training's length."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from switch_ema.averaging.averager import Averager
from switch_ema.errors import InputError
from switch_ema.integrations.method import EXAMPLE, make_averager


def averager_of(
    model: nn.Module, method: Callable[..., Any], args: TrainingArguments, state: TrainerState, batches: Any
) -> Averager:
    """Call a method; of a PEFT model it averages what is trained, unless it says which parameters itself.

    Args:
        model: The model that is trained.
        method: Makes an averager from it.
        args: The Trainer's arguments.
        state: The Trainer's state when training begins; knows how many steps there will be.
        batches: What the Trainer loads an epoch's batches from.

    Returns:
        The averager.

    Raises:
        InputError: The method makes none, or one of several averages.
    """
    if hasattr(model, "peft_config") and "parameters" not in getattr(method, "keywords", {}):
        taken = inspect.signature(method).parameters.values()
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken):
            method = functools.partial(method, parameters=lambda name, parameter: parameter.requires_grad)
    averager = make_averager(method, model, **_length(args, state, batches))
    if not isinstance(averager, Averager):
        raise InputError(
            f"the Trainer evaluates one average, and {type(averager).__name__} has several; write {EXAMPLE}"
        )
    return averager


def _length(args: TrainingArguments, state: TrainerState, batches: Any) -> dict[str, Any]:
    """Return how long training is, as far as it is known; its last epoch may be a part of one."""
    steps = math.ceil(len(batches) / args.gradient_accumulation_steps) if has_length(batches) else None
    return {"steps_per_epoch": steps, "epochs": state.max_steps / steps if steps else None}
