"""The traces of the empirical and of the true Fisher matrix, from the gradients of single examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from switch_ema.analysis.curvature import check_mean, twice_differentiable
from switch_ema.analysis.memory import affordable
from switch_ema.analysis.objective import Objective, supervised
from switch_ema.errors import InputError

LossFunction = Callable[[Tensor, Tensor], Tensor]


@final
@dataclass(frozen=True)
class FisherTrace:
    """An estimate of the trace of a true Fisher matrix.

    Attributes:
        value: The estimate.
        standard_error: Of the value, over the labels drawn.
        num_samples: Labels drawn for each example.
    """

    value: float
    standard_error: float
    num_samples: int


def empirical_fisher_trace(
    model: nn.Module, loss_fn: LossFunction, batches: Iterable[tuple[Tensor, Tensor]], *, chunk: int | None = None
) -> float:
    """Measure the trace of the empirical Fisher matrix: the mean squared norm of the gradients of single examples.

    tr(F) = 1 / N sum_n |d loss(x_n, y_n) / dw|^2, with the labels y_n of the data. It is the trace of the uncentred
    covariance of the gradients, and not of the Hessian: where the data is fitted it is close to 0. BatchNorm uses the
    statistics kept in the model, as a batch has no meaning for a single example.

    Args:
        model: A PyTorch module; it is copied and never touched. All parameters that require gradients count.
        loss_fn: (outputs, targets) -> mean loss, such as `torch.nn.functional.cross_entropy`; called for one example at
            a time, as a batch of 1.
        batches: Batches (inputs, targets) of two tensors, as for `Objective`.
        chunk: Examples whose gradients are taken at once, from 1 on; chosen by memory if not given. Where `torch.func`
            cannot follow the model they are taken one by one.

    Returns:
        The trace, 0 or more.

    Raises:
        InputError: As for `Objective`; the loss is no mean, a batch is no pair of tensors of one length, or the chunk
            is below 1.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 1.0)
        >>> batches = [(torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1))]  # gradients 2 x (w x - 0): 2 and 8
        >>> empirical_fisher_trace(model, F.mse_loss, batches)
        34.0

    References:
        Kunstner, Balles, Hennig: Limitations of the Empirical Fisher Approximation, arXiv:1905.12558, 2019.
    """
    check_mean(loss_fn)
    loss = supervised(loss_fn)
    objective = Objective(model, lambda model, batch: loss(model, _pair(batch)), batches)
    norms = _SquaredNorms(objective, loss_fn, chunk)
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for inputs, targets in map(_pair, objective.batches):
        total += norms(inputs, targets).sum().cpu()
        count += len(inputs)
    return float(total / count)


def true_fisher_trace(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_samples: int = 8,
    chunk: int | None = None,
    seed: int = 0,
) -> FisherTrace:
    """Estimate the trace of the true Fisher matrix of a classifier, with labels that are drawn from the model.

    tr(F) = 1 / N sum_n E[|d log p(y | x_n) / dw|^2], y ~ p(. | x_n) = softmax of the logits. In expectation over y it
    is the trace of the GGN of the cross entropy; the labels of the data do not enter.

    Args:
        model: A PyTorch module whose output are logits (examples, classes); it is copied and never touched.
        batches: Batches (inputs, targets), as for `Objective`.
        num_samples: Labels to draw for each example, from 2 on.
        chunk: Examples whose gradients are taken at once, from 1 on; chosen by memory if not given.
        seed: Draws the labels, on the CPU.

    Returns:
        The trace with its standard error over the draws.

    Raises:
        InputError: As for `empirical_fisher_trace`, the output has another shape, or `num_samples` is below 2.

    Example:
        >>> model = nn.Linear(1, 2, bias=False)
        >>> _ = nn.init.zeros_(model.weight)  # both labels have p = 1/2, and gradients of squared norm 1/4 + 1/4
        >>> true_fisher_trace(model, [(torch.ones(3, 1), torch.zeros(3, dtype=torch.long))])
        FisherTrace(value=0.5, standard_error=0.0, num_samples=8)

    References:
        Martens: New Insights and Perspectives on the Natural Gradient Method, arXiv:1412.1193, 2014.
    """
    if num_samples < 2:
        raise InputError(f"num_samples {num_samples}: write at least 2, so that there is a standard error")
    objective = Objective(model, _likeliest_label, batches)
    norms = _SquaredNorms(objective, F.cross_entropy, chunk)
    generator = torch.Generator().manual_seed(seed)
    totals = torch.zeros(num_samples, dtype=torch.float64)
    count = 0
    for inputs, _ in map(_pair, objective.batches):
        with torch.no_grad(), objective.frozen_randomness():
            probabilities = objective.model(inputs).double().softmax(1).cpu()
        labels = probabilities.multinomial(num_samples, replacement=True, generator=generator).to(inputs.device)
        squared = norms(inputs.repeat_interleave(num_samples, 0), labels.flatten())
        totals += squared.view(labels.shape).sum(0).cpu()
        count += len(inputs)
    estimates = totals / count
    return FisherTrace(float(estimates.mean()), float(estimates.std()) / math.sqrt(num_samples), num_samples)


class _SquaredNorms:
    """Squared norms of the gradients of single examples.

    Args:
        objective: Whose model.
        loss_fn: (outputs, targets) -> mean loss.
        chunk: Examples at once, or None.
    """

    def __init__(self, objective: Objective, loss_fn: LossFunction, chunk: int | None) -> None:
        if chunk is not None and chunk < 1:
            raise InputError(f"chunk {chunk}: write at least 1")
        self._objective = objective
        self._loss_fn = loss_fn
        self._weights = objective.parameters
        home = next(iter(self._weights.values())).device
        self._chunk = chunk or affordable(4 * sum(w.numel() * w.element_size() for w in self._weights.values()), home)
        self._vmap_works = True

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return them (examples,) in float64."""
        with self._objective.frozen_randomness(), twice_differentiable(self._objective.model):
            if self._vmap_works:
                try:
                    return vmap(self._one, chunk_size=self._chunk, randomness="same")(inputs, targets)
                except torch.OutOfMemoryError:
                    raise
                except (RuntimeError, TypeError, ValueError, NotImplementedError):
                    self._vmap_works = False  # an error that is not vmap's comes again in the loop
            return torch.stack([self._alone(*pair) for pair in zip(inputs, targets, strict=True)])

    def _one(self, example: Tensor, target: Tensor) -> Tensor:
        def loss(weights: dict[str, Tensor]) -> Tensor:
            return self._loss_fn(functional_call(self._objective.model, weights, (example[None],)), target[None])

        return _squared_norm(grad(loss)(self._weights).values())

    def _alone(self, example: Tensor, target: Tensor) -> Tensor:
        model = self._objective.model
        parameters = [p for p in model.parameters() if p.requires_grad]
        with torch.enable_grad():
            loss = self._loss_fn(model(example[None]), target[None])
        return _squared_norm(torch.autograd.grad(loss, parameters, materialize_grads=True))


def _squared_norm(gradients: Iterable[Tensor]) -> Tensor:
    return torch.stack([gradient.square().sum().double() for gradient in gradients]).sum()


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets of a batch."""
    whole = isinstance(batch, list | tuple) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
    if not whole or len(batch[0]) != len(batch[1]):
        raise InputError("a batch is no pair of tensors with as many inputs as targets; write (inputs, targets)")
    return batch[0], batch[1]


def _likeliest_label(model: nn.Module, batch: Any) -> Tensor:
    """The loss for the label that the model finds likeliest, which is finite where the logits are."""
    logits = model(_pair(batch)[0])
    if logits.dim() != 2:
        raise InputError(
            f"the output has shape {tuple(logits.shape)}; the true Fisher needs logits (examples, classes)"
        )
    return F.cross_entropy(logits, logits.argmax(1))
