"""Sharpness-aware minimization: gradients are taken where the loss is highest nearby."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from switch_ema.averaging.tensors import copy_, is_sharded
from switch_ema.errors import InputError

_EPS = 1e-12


class SAM:
    """Move the weights `w` of an optimizer uphill for a second look at the gradient `g`, and back.

    `ascend` adds `rho g / ||g||`, with the norm over all gradients. The adaptive form (ASAM) does not depend on the
    scale of the weights: `rho w^2 g / ||w g||`, by elements. Loss scaling cancels out, and where processes share a
    model they have averaged their gradients already. If a gradient is not finite the weights stay where they are.

    Args:
        optimizer: The optimizer that makes the step, after `restore`.
        rho: Radius, at least 0; the papers use 0.05 to 0.1, and about ten times as much for the adaptive form.
        adaptive: Use the adaptive form.

    Raises:
        InputError: If `rho` is out of range.

    References:
        Foret, Kleiner, Mobahi, Neyshabur: Sharpness-Aware Minimization, arXiv:2010.01412, 2020 (algorithm 1, p = 2).
        Kwon, Kim, Park, Choi: ASAM, arXiv:2102.11600, 2021 (here without its eta).

    Example:
        >>> model = nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> sam = SAM(optimizer, rho=0.05)
        >>> model(torch.ones(4, 2)).square().mean().backward()
        >>> sam.ascend()
        >>> optimizer.zero_grad()
        >>> with frozen_statistics(model):
        ...     model(torch.ones(4, 2)).square().mean().backward()
        >>> sam.restore()
        >>> optimizer.step()
    """

    def __init__(self, optimizer: Optimizer, rho: float = 0.05, adaptive: bool = False) -> None:
        if not 0 <= rho < math.inf:
            raise InputError(f"rho {rho:g}: write a radius of at least 0, such as 0.05")
        self.optimizer = optimizer
        self.rho = rho
        self.adaptive = adaptive
        self._start: tuple[list[Tensor], list[Tensor]] | None = None

    @torch.no_grad()
    def ascend(self) -> None:
        """Move the weights by the gradients they have now; those without a gradient stay.

        Raises:
            RuntimeError: If they were moved before and not restored.
        """
        if self._start is not None:
            raise RuntimeError("the weights are moved already; call restore() before the next ascend()")
        held = (p for group in self.optimizer.param_groups for p in group["params"])
        pairs = [(p, p.grad) for p in held if p.grad is not None]
        weights, gradients = [p for p, _ in pairs], [gradient for _, gradient in pairs]
        steepest = torch._foreach_mul(gradients, torch._foreach_abs(weights)) if self.adaptive else gradients
        norm = float(_whole(get_total_norm(steepest))) if pairs else 0.0
        if not pairs or not math.isfinite(norm):
            self._start = ([], [])
            return
        self._start = (weights, [weight.clone() for weight in weights])
        if self.adaptive:
            torch._foreach_mul_(steepest, torch._foreach_abs(weights))
        torch._foreach_add_(weights, steepest, alpha=self.rho / (norm + _EPS))

    @torch.no_grad()
    def restore(self) -> None:
        """Put every bit of the weights back.

        Raises:
            RuntimeError: If they were not moved.
        """
        if self._start is None:
            raise RuntimeError("the weights were not moved; call ascend() before restore()")
        weights, start = self._start
        copy_(weights, start)
        self._start = None


def _whole(norm: Tensor) -> Tensor:
    """Return a norm over all processes: that of a sharded model is a DTensor, of which torch 2.8 reads a part only."""
    return cast(Any, norm).full_tensor() if is_sharded(norm) else norm


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Undo what happens in the block to a model's buffers, such as BatchNorm's running statistics.

    Layers work within it as they do without it: in training BatchNorm normalises by the batch.

    Args:
        model: The model.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
