"""Weight averaging in PyTorch-Ignite: a handler for the training engine."""

from __future__ import annotations

from typing import Generic, final

from torch import nn
from torch.optim import Optimizer

from switch_ema.averaging.attach import Handle
from switch_ema.integrations.method import Method, Tracker, make_averager
from switch_ema.libraries import require

require("the Ignite handler", "ignite>=0.5", extra="ignite")

from ignite.engine import Engine, Events  # noqa: E402


@final
class WeightAveraging(Generic[Tracker]):
    """Average the weights while an engine trains them.

    The average is updated after every real step of the (last) optimizer, and epochs end at `Events.EPOCH_COMPLETED`,
    before all handlers that are attached there until then (so `Checkpoint` saves what comes after the epoch's end). An
    epoch that is cut short by `terminate()` or `max_iters` does not end. `averager` goes into the `to_save` of Ignite's
    `Checkpoint`, and `averager.average_parameters()` around `evaluator.run(...)`.

    Args:
        method: Makes the averager from the model: `partial(SwitchEMA, decay=0.999, switch_every="1 epoch")`.
        model: The model, placed and sharded; of a wrapper (DDP) the model inside.

    Raises:
        InputError: The method makes no averager.
        ValueError: The method refuses the model or its own arguments.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from switch_ema import SwitchEMA
        >>> model = nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> def step(engine, batch):
        ...     optimizer.zero_grad()
        ...     model(batch).square().mean().backward()
        ...     optimizer.step()
        >>> trainer = Engine(step)
        >>> averaging = WeightAveraging(partial(SwitchEMA, decay=0.5, switch_every="1 epoch"), model)
        >>> averaging.attach(trainer, optimizer)
        >>> _ = trainer.run([torch.ones(2, 1)] * 4, max_epochs=3)
        >>> averaging.averager.n_averaged, averaging.averager.n_switches
        (12, 3)
    """

    def __init__(self, method: Method[Tracker], model: nn.Module) -> None:
        self.averager: Tracker = make_averager(method, model)
        self._handle: Handle | None = None

    def attach(self, trainer: Engine, *optimizers: Optimizer) -> None:
        """Update after the optimizer's steps, and end epochs with the trainer's.

        Args:
            trainer: The engine that trains.
            optimizers: What trains the model; of several, the one that steps last comes last.

        Raises:
            RuntimeError: It is attached already.
            ValueError: No optimizer is given, or none trains the model.
        """
        self._handle = self.averager.attach(*optimizers)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.averager.end_epoch)
        handlers = trainer._event_handlers[Events.EPOCH_COMPLETED]
        handlers.insert(0, handlers.pop())  # Ignite runs them in the order in which they came

    def detach(self, trainer: Engine) -> None:
        """Stop averaging.

        Args:
            trainer: The engine to which it is attached.

        Raises:
            ValueError: It is not attached to this engine.
        """
        trainer.remove_event_handler(self.averager.end_epoch, Events.EPOCH_COMPLETED)
        if self._handle is not None:
            self._handle.remove()
