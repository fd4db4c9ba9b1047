"""The generalised Gauss-Newton matrix: the curvature that the loss has through the model's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import Tensor, nn

from switch_ema.analysis.curvature import Curvature, Numbered, NumberedBatches, check_mean, linear_operator, try_out
from switch_ema.analysis.objective import Objective, supervised
from switch_ema.errors import InputError


def ggn(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    batches: Iterable[tuple[Any, Tensor]],
    *,
    batchnorm: Literal["eval", "train"] = "eval",
    chunk: int | None = None,
) -> Curvature:
    """Make the generalised Gauss-Newton matrix: G = mean over examples of J^T H J.

    J = d output / dw is the Jacobian of the model and H = d^2 loss / d output^2 that of the loss. G is the Hessian
    without the curvature of the model itself: positive semi-definite for convex losses, equal to the Hessian for models
    that are linear in their parameters, and to the true Fisher matrix for cross entropy.

    Args:
        model: A PyTorch module whose output is one tensor; it is copied and never touched.
        loss_fn: (outputs, targets) -> mean loss, such as `torch.nn.functional.cross_entropy`.
        batches: Batches (inputs, targets), as for `Objective`; they weigh by their number of examples.
        batchnorm: ``eval`` holds the statistics kept in the model fixed, ``train`` uses those of each batch.
        chunk: Columns multiplied at once, from 1 on; chosen by memory if not given.

    Returns:
        The matrix, for the functions of `switch_ema.analysis.spectrum`.

    Raises:
        InputError: As for `Objective`; the loss is no mean, curvlinops is missing, the parameters have several types or
            devices or half precision, or `torch.func` cannot differentiate the model.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1, bias=False)
        >>> batches = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.zeros(2, 1))]  # the loss is (a^2 + 9 b^2) / 2
        >>> ggn(model, nn.functional.mse_loss, batches).dense().tolist()
        [[1.0, 0.0], [0.0, 9.0]]

    References:
        Schraudolph: Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent, Neural Computation 14(7),
        2002.
        Martens: New Insights and Perspectives on the Natural Gradient Method, arXiv:1412.1193, 2014.
    """
    check_mean(loss_fn)
    objective = Objective(model, supervised(loss_fn), batches, batchnorm=batchnorm)
    module = Numbered(objective, lambda model, inputs: model(inputs))
    data = NumberedBatches(objective, lambda batch: (batch[0], batch[1]))
    operator = linear_operator("GGNLinearOperator", module, _Mean(loss_fn), data)
    problem = try_out(operator, objective, data)
    if problem is not None:
        raise InputError(f"the GGN needs a model and a loss that torch.func can differentiate: {problem}")
    return Curvature("GGN", operator._matmat, objective, chunk)


class _Mean(nn.Module):
    """A loss function as a module of curvlinops' kind."""

    reduction = "mean"

    def __init__(self, loss_fn: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss_fn = loss_fn

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self.loss_fn(output, target)
