"""A method as the integrations take it: anything that makes an averager from a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from torch import nn

from switch_ema.averaging.averager import Averager
from switch_ema.averaging.posthoc import PostHocEMA
from switch_ema.errors import InputError

Tracker = TypeVar("Tracker", bound=Averager | PostHocEMA)
Method = Callable[[nn.Module], Tracker]

EXAMPLE = 'partial(SwitchEMA, decay=0.999, switch_every="1 epoch")'


def make_averager(
    method: Method[Tracker], model: nn.Module, *, steps_per_epoch: int | None = None, epochs: float | None = None
) -> Tracker:
    """Make the averager of a model, telling the method how long training is if it asks for that and was not told.

    Args:
        method: Takes the model and returns an averager, such as `partial(SwitchEMA, decay=0.999)`. If it has arguments
            `steps_per_epoch` and `epochs` that are `None`, they are filled in.
        model: The model that is trained.
        steps_per_epoch: Optimizer steps in an epoch, if known.
        epochs: Epochs of training, if known.

    Returns:
        What the method returns.

    Raises:
        InputError: The method cannot be called, or returns no averager.
        ValueError: The method refuses the model or its own arguments.

    Example:
        >>> from functools import partial
        >>> from switch_ema import SwitchEMA
        >>> method = partial(SwitchEMA, decay=0.9, switch_every="0.5 epoch")
        >>> make_averager(method, nn.Linear(2, 1), steps_per_epoch=10).switches
        True
    """
    check_method(method)
    known = {"steps_per_epoch": steps_per_epoch, "epochs": epochs}
    averager = method(model, **{name: value for name, value in known.items() if value and _asks_for(method, name)})
    if not isinstance(averager, (Averager, PostHocEMA)):
        raise InputError(f"method makes a {type(averager).__name__}, not an averager; write e.g. {EXAMPLE}")
    return averager


def check_method(method: object) -> None:
    """Refuse what cannot make an averager.

    Raises:
        InputError: It cannot be called.
    """
    if not callable(method):
        raise InputError(f"method is a {type(method).__name__}; give what makes the averager, e.g. {EXAMPLE}")


def _asks_for(method: Callable[..., object], name: str) -> bool:
    parameter = inspect.signature(method).parameters.get(name)
    return parameter is not None and parameter.default is None
