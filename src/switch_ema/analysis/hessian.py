"""The Hessian of any objective."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.analysis.curvature import (
    Curvature,
    Multiply,
    Numbered,
    NumberedBatches,
    linear_operator,
    try_out,
    twice_differentiable,
)
from switch_ema.analysis.objective import Objective, num_examples
from switch_ema.errors import InputError

_AGREEMENT = 1e-3  # float32 differs by some 1e-5


def hessian(objective: Objective, *, chunk: int | None = None) -> Curvature:
    """Make the Hessian of an objective: H = d^2 L / dw^2 over all parameters that require gradients.

    L is the mean over all examples, so batches of unequal size weigh by their size. Products are derivatives, no finite
    differences: forward over reverse by curvlinops where `torch.func` follows the model rightly, else reverse over
    reverse.
    BatchNorm is as the objective says: ``eval`` holds the statistics fixed, ``train`` differentiates through those of
    each batch.

    Args:
        objective: Model, loss and data.
        chunk: Columns multiplied at once, from 1 on; chosen by memory if not given.

    Returns:
        The matrix, for the functions of `switch_ema.analysis.spectrum`.

    Raises:
        InputError: curvlinops is missing, the parameters have several types or devices or half precision, the loss
            cannot be differentiated twice, or the chunk is below 1.

    Example:
        >>> from switch_ema.analysis.objective import supervised
        >>> batches = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.zeros(2, 1))]  # the loss is (a^2 + 9 b^2) / 2
        >>> objective = Objective(nn.Linear(2, 1, bias=False), supervised(nn.functional.mse_loss), batches)
        >>> hessian(objective).dense().tolist()
        [[1.0, 0.0], [0.0, 9.0]]

    References:
        Pearlmutter: Fast Exact Multiplication by the Hessian, Neural Computation 6(1), 1994.
        Dangel, Eschenhagen, Ormaniec, Fernandez, Tatzel, Kristiadi: Position: Curvature Matrices Should Be
        Democratized via Linear Operators, arXiv:2501.19183, 2025 (curvlinops).
    """
    data = NumberedBatches(objective, lambda batch: (batch, torch.zeros(())))
    operator = linear_operator("HessianLinearOperator", Numbered(objective, objective.loss), _Itself(), data)
    multiply: Multiply = operator._matmat
    if try_out(operator, objective, data) is not None or not _agrees(operator, objective, data):
        multiply = partial(_reverse_over_reverse, objective)
    return Curvature("Hessian", multiply, objective, chunk)


def _agrees(operator: Any, objective: Objective, data: NumberedBatches) -> bool:
    """Compare both ways on the first batch: torch.func is wrong in silence for BatchNorm with a batch's statistics.

    See https://github.com/pytorch/pytorch/issues/196699.
    """
    generator = torch.Generator().manual_seed(0)
    column = [torch.randn(*p.shape, 1, generator=generator).to(p) for p in objective.parameters.values()]
    (numbered, targets) = next(iter(data))
    with objective.frozen_randomness(), twice_differentiable(objective.model):
        ours = torch.cat([part.flatten() for part in operator._matmat_batch(numbered, targets, column)])
        objective.seed(0)
        try:
            theirs = torch.cat([part.flatten() for part in _batch_products(objective, numbered[1], column)])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError):  # nothing to compare with
            return True
    return bool((ours - theirs).norm() <= _AGREEMENT * theirs.norm())


class _Itself(nn.Module):
    """The loss of a loss, as curvlinops wants one."""

    reduction = "mean"

    def forward(self, loss: Tensor, _target: Tensor) -> Tensor:
        return loss


def _reverse_over_reverse(objective: Objective, columns: list[Tensor]) -> list[Tensor]:
    """Differentiate each batch's gradient times each column: one by one, but wherever autograd goes twice."""
    sums = [torch.zeros_like(column) for column in columns]
    count = 0
    for number, batch in enumerate(objective.batches):
        objective.seed(number)
        try:
            products = _batch_products(objective, batch, columns)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"the loss of batch {number} cannot be differentiated twice: {reason}") from error
        for total, product in zip(sums, products, strict=True):
            total.add_(product, alpha=num_examples(batch))
        count += num_examples(batch)
    return [total / count for total in sums]


def _batch_products(objective: Objective, batch: object, columns: list[Tensor]) -> list[Tensor]:
    parameters = [p for p in objective.model.parameters() if p.requires_grad]
    with torch.enable_grad():
        loss = objective.loss(objective.model, batch)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    _refuse_dead_ends(gradients)
    bent = [place for place, gradient in enumerate(gradients) if gradient.requires_grad]  # the others are constant
    if not bent:
        return [torch.zeros_like(column) for column in columns]
    products = [
        torch.autograd.grad(
            [gradients[place] for place in bent],
            parameters,
            [columns[place][..., column] for place in bent],
            retain_graph=True,
            materialize_grads=True,
        )
        for column in range(columns[0].shape[-1])
    ]
    return [torch.stack(parts, dim=-1) for parts in zip(*products, strict=True)]


def _refuse_dead_ends(gradients: Sequence[Tensor]) -> None:
    """Look for functions marked `once_differentiable`, which autograd would leave out of the products in silence."""
    nodes = [gradient.grad_fn for gradient in gradients]
    seen = set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("Error"):
            raise RuntimeError("it has a function that is marked once_differentiable")
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
