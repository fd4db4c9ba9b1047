"""Optimizers of the bench."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from switch_ema.bench.settings import Settings
from switch_ema.errors import FieldError, InputError

_LIBRARIES = {
    "lamb": ("timm.optim", "Lamb"),
    "lars": ("timm.optim", "Lars"),
    "adan": ("timm.optim", "Adan"),
    "schedulefree": ("pytorch_optimizer", "ScheduleFreeAdamW"),
}
_NUM_BETAS = {"adam": 2, "adamw": 2, "lamb": 2, "adan": 3, "schedulefree": 2}
_NO_EPS = ("sgd", "lars")
_TRUST_RATIO = ("lamb", "lars")


def build_optimizer(model: nn.Module, settings: Settings) -> Optimizer:
    """Make the optimizer of a model's trainable parameters; the training loop sets its learning rate at every step.

    Unless `settings.decay_norms` is set, vectors and scalars (biases, norm weights) and the parameters that the model
    names in `no_weight_decay()` (class tokens, position embeddings) have no weight decay. LAMB and LARS scale the step
    of every other parameter by the ratio of its norm to that of its update, and leave these alone. Adam adds weight
    decay to the gradient, AdamW and Adan shrink the weights. LAMB clips gradients to a norm of 1 by itself.

    `settings.betas` and `settings.eps` stand for the optimizer's own where they are not given; `settings.momentum`
    belongs to SGD and LARS, `settings.nesterov` to SGD. The schedule-free optimizer weighs each step by the square of
    the largest rate so far, so warm-up comes from the loop as for the others; it wants a constant rate after it. It
    trains other weights than it is judged by: see `evaluation_weights`.

    Args:
        model: The model to train.
        settings: Optimizer, momentum, betas, epsilon and weight decay.

    Raises:
        InputError: If the optimizer takes no such betas or epsilon, the model has nothing to train, or a library is
            missing.

    References:
        You et al.: LARS, arXiv:1708.03888, 2017, and LAMB, arXiv:1904.00962, 2019.
        Xie et al.: Adan, arXiv:2208.06677, 2022. Defazio et al.: The Road Less Scheduled, arXiv:2405.15682, 2024.
    """
    name = settings.optimizer
    options: dict[str, Any] = {}
    _check_betas(name, settings.betas)
    if settings.betas:
        options["betas"] = settings.betas
    if settings.eps is not None:
        if name in _NO_EPS:
            raise FieldError("eps", f"{settings.eps:g}: the optimizer {name} takes none; leave it out")
        options["eps"] = settings.eps
    if name in ("sgd", "lars"):
        options["momentum"] = settings.momentum
    if name == "sgd":
        options["nesterov"] = settings.nesterov and settings.momentum > 0
    made: Optimizer = _optimizer_class(name)(parameter_groups(model, settings), lr=1.0, **options)
    return made


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Return the trainable parameters in groups: those with weight decay, then those without.

    Args:
        model: The model to train.
        settings: Optimizer, weight decay and whether everything decays.

    Raises:
        InputError: If no parameter can be trained.
    """
    exempt = set() if settings.decay_norms else set(_named_by_the_model(model))
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = settings.decay_norms or (parameter.ndim > 1 and name not in exempt)
            (decayed if decays else others).append(parameter)
    if not decayed and not others:
        raise InputError("the model has no parameter to train; let some have requires_grad = True")
    first: dict[str, Any] = {"params": decayed, "weight_decay": settings.weight_decay}
    if settings.optimizer in _TRUST_RATIO:
        first["always_adapt"] = True  # by itself timm adapts where there is weight decay
    return [group for group in (first, {"params": others, "weight_decay": 0.0}) if group["params"]]


def _named_by_the_model(model: nn.Module) -> Iterator[str]:
    """Yield the full names that any part of the model lists in `no_weight_decay()`."""
    for prefix, module in model.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        if callable(listed):
            yield from (f"{prefix}.{name}" if prefix else name for name in listed())


def _check_betas(name: str, betas: tuple[float, ...]) -> None:
    if not betas:
        return
    text = ",".join(f"{beta:g}" for beta in betas)
    if name not in _NUM_BETAS:
        raise FieldError("betas", f"{text}: the optimizer {name} takes none; leave them out")
    if len(betas) != _NUM_BETAS[name] or not all(0 <= beta < 1 for beta in betas):
        raise FieldError("betas", f"{text}: {name} takes {_NUM_BETAS[name]} numbers from 0 to below 1")
    if name == "schedulefree" and betas[0] == 0:
        raise FieldError("betas", f"{text}: the first one of {name} is above 0; write e.g. 0.9,0.999")


def _optimizer_class(name: str) -> Any:
    if name not in _LIBRARIES:
        return {"sgd": SGD, "adam": Adam, "adamw": AdamW}[name]
    module, attribute = _LIBRARIES[name]
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0].replace("_", "-")
        raise InputError(
            f'the optimizer {name} needs {library}, which is not installed; run: pip install "switch-ema[bench]"'
        ) from error


@contextmanager
def evaluation_weights(optimizer: Optimizer) -> Iterator[None]:
    """Within the block, have the model hold the weights that the optimizer is judged by.

    A schedule-free optimizer computes gradients at `y = (1 - beta) z + beta x`, and its result is the average `x`. The
    model holds `y` while it trains, so that is what averagers see; within the block it holds `x`, and after it every
    bit of `y` again. For other optimizers nothing happens.

    Args:
        optimizer: The optimizer, in training.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> with evaluation_weights(SGD(model.parameters())):
        ...     loss = model(torch.ones(1, 2)).sum()
    """
    to_result, to_training = getattr(optimizer, "eval", None), getattr(optimizer, "train", None)
    if to_result is None or to_training is None:
        yield
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    trained = [parameter.detach().clone() for parameter in parameters]
    to_result()
    try:
        yield
    finally:
        to_training()  # gives y up to rounding
        with torch.no_grad():
            torch._foreach_copy_(parameters, trained)
