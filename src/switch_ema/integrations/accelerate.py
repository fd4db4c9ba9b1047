"""Weight averaging with Hugging Face Accelerate: an averager that steps and is saved with the accelerator."""

from __future__ import annotations

from typing import Any, Generic, final

from torch import nn
from torch.optim import Optimizer

from switch_ema.errors import InputError
from switch_ema.integrations.method import Method, Tracker, make_averager
from switch_ema.integrations.whole import whole
from switch_ema.libraries import require

require("averaging with Accelerate", "accelerate>=1.3", extra="accelerate")

from accelerate import Accelerator, DistributedType  # noqa: E402
from accelerate.optimizer import AcceleratedOptimizer  # noqa: E402


def average(accelerator: Accelerator, method: Method[Tracker], model: nn.Module, *optimizers: Optimizer) -> Tracker:
    """Make the averager of a prepared model; it steps with the optimizer and is saved with the accelerator's state.

    The average is updated after every real step of the (last) optimizer: not while gradients accumulate, nor when a
    gradient scaler skips a step. `save_state` and `load_state` take the averager along, so that training goes on bit
    for bit. Left to the loop: `end_epoch()` at the end of every epoch, and `average_parameters()` around evaluation.

    Args:
        accelerator: What prepared model and optimizers.
        method: Makes the averager from the model: `partial(SwitchEMA, decay=0.999, switch_every="1 epoch")`.
        model: The model, after `accelerator.prepare`.
        optimizers: What trains it, after `accelerator.prepare`; of several, the one that steps last comes last.

    Returns:
        What the method makes.

    Raises:
        InputError: The method makes no averager, or the accelerator keeps the weights in a form of its own (DeepSpeed,
            Megatron-LM).
        ValueError: No optimizer is given, or none trains the model; or the method refuses the model, such as one in
            FSDP1.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from switch_ema import EMA
        >>> accelerator = Accelerator(cpu=True)
        >>> model = nn.Linear(2, 1)
        >>> model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        >>> averager = average(accelerator, partial(EMA, decay=0.9), model, optimizer)
        >>> optimizer.step()
        >>> averager.n_averaged
        1
    """
    if accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise InputError(
            f"{accelerator.distributed_type.value} keeps the weights in flat pieces, which cannot be averaged one by "
            "one; use FSDP2 (fsdp_version=2)"
        )
    averager = make_averager(method, accelerator.unwrap_model(model))
    averager.attach(*(one.optimizer if isinstance(one, AcceleratedOptimizer) else one for one in optimizers))
    accelerator.register_for_checkpointing(_Saved(averager))
    return averager


@final
class _Saved(Generic[Tracker]):
    """An averager as `save_state` saves it, on one process: with whole tensors."""

    def __init__(self, averager: Tracker) -> None:
        self._averager = averager

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = whole(self._averager.state_dict())
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._averager.load_state_dict(state)
