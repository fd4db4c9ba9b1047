"""The tie between averagers and the optimizers that train a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

from torch import Tensor
from torch.optim import Optimizer


@final
class Handle:
    """What `attach` returns; `remove()` detaches from the optimizers again.

    Args:
        optimizers: The optimizers; a step of the last one completes a step of training.
        before: Called before each step of any of them.
        after: Called after each step of the last one.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], before: Callable[[], None] | None, after: Callable[[], None]
    ) -> None:
        self.optimizers = tuple(optimizers)
        self._after = after
        self._is_stepping = False
        last = self.optimizers[-1]
        self._hooks = [last.register_step_pre_hook(self._begin), last.register_step_post_hook(self._end)]
        if before is not None:
            self._hooks += [each.register_step_pre_hook(lambda *_: before()) for each in self.optimizers]

    def _begin(self, *_: Any) -> None:
        self._is_stepping = True

    def _end(self, optimizer: Optimizer, *_: Any) -> None:
        """End a step, once: torch calls hooks in each `step()` of a subclass that calls its base class's."""
        if self._is_stepping:
            self._is_stepping = False
            if not _skipped(optimizer):
                self._after()

    @property
    def is_attached(self) -> bool:
        """Whether `remove()` was not called yet."""
        return bool(self._hooks)

    def remove(self) -> None:
        """Stop updating after the optimizer's steps; harmless if done before."""
        while self._hooks:
            self._hooks.pop().remove()

    def reset(self, parameters: Iterable[Tensor]) -> None:
        """Drop what the optimizers remember of parameters (momenta)."""
        for parameter in parameters:
            for optimizer in self.optimizers:
                optimizer.state.pop(parameter, None)


def _skipped(optimizer: Optimizer) -> bool:
    """Return whether a GradScaler let a fused optimizer skip: its `step()` runs, looks at this, and changes nothing."""
    found: Tensor | None = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def attach(
    known: Handle | None,
    optimizers: Sequence[Optimizer],
    parameters: Iterable[Tensor],
    *,
    before: Callable[[], None] | None = None,
    after: Callable[[], None],
) -> Handle:
    """Have functions called before and after the steps of optimizers.

    Args:
        known: The handle of the attachment before, if any.
        optimizers: The optimizers; a step of the last one completes a step of training.
        parameters: What is averaged.
        before: Called before each step of any of them.
        after: Called after each step of the last one.

    Raises:
        RuntimeError: If an optimizer is attached already.
        ValueError: If no optimizer is given, or none holds one of the parameters.
    """
    if known is not None and known.is_attached:
        raise RuntimeError("an optimizer is attached already; call remove() on the handle that attach() returned first")
    if not optimizers:
        raise ValueError("attach() needs the optimizer that trains the model; write attach(optimizer)")
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    if held.isdisjoint(map(id, parameters)):
        raise ValueError("the optimizer holds none of the averaged model's parameters; attach the one that trains it")
    return Handle(optimizers, before, after)
