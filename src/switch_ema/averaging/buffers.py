"""Buffers: which are averaged and which copied, and how BatchNorm statistics are measured anew for averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from switch_ema.averaging.slots import Slot
from switch_ema.averaging.tensors import is_averaged


def copied_names(model: nn.Module, slots: dict[str, Slot]) -> frozenset[str]:
    """Return the names whose average is a copy of the latest value.

    These are whole numbers (counters, token ids, quantized weights), the vectors of spectral normalization, whose
    mean has not unit length, and buffers with infinite values (attention masks), which have no mean.

    Args:
        model: The model.
        slots: Its tensors by name.
    """
    unit_vectors = set(_unit_vectors(model))
    return frozenset(
        name
        for name, slot in slots.items()
        if name in unit_vectors
        or not is_averaged(slot.tensor)
        or not (slot.is_parameter or bool(slot.tensor.isfinite().all()))
    )


def _unit_vectors(model: nn.Module) -> Iterator[str]:
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        if isinstance(module, _SpectralNorm):
            yield from (f"{dot}_u", f"{dot}_v")
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                yield from (f"{dot}{hook.name}_u", f"{dot}{hook.name}_v")


def has_batchnorm(model: nn.Module) -> bool:
    """Return whether some BatchNorm layer of the model would be re-estimated."""
    return bool(_layers(model))


def reestimate_batchnorm(
    model: nn.Module, batches: Iterable[Any], forward: Callable[[nn.Module, Any], Any] | None = None
) -> int:
    """Measure the running statistics of BatchNorm layers anew, for weights they were not measured with.

    The statistics become the plain mean over the batches; every other layer works as in evaluation (dropout is off).
    Layers without running statistics, and frozen ones (momentum 0, or set to evaluation while the model trains), are
    left alone. Modes and momenta are as before afterwards, also after an exception, which leaves
    the old statistics.

    Args:
        model: The model, with the weights in place (for an average: inside `average_parameters()`).
        batches: Batches of training data, at least one.
        forward: Runs the model on a batch. By default a tensor goes in as it is, a dictionary as keyword arguments,
            and of a tuple or list the first element.

    Returns:
        The number of batches used.

    Raises:
        ValueError: If there is no batch.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        >>> reestimate_batchnorm(model, [torch.randn(8, 3) for _ in range(5)])
        5
    """
    layers = _layers(model)
    if not layers:
        return 0
    count = 0
    with _measuring(model, layers), torch.no_grad():
        for batch in batches:
            (forward or _forward)(model, batch)
            count += 1
        if count == 0:
            raise ValueError("there was no batch to estimate BatchNorm statistics from; pass training batches")
    return count


def _layers(model: nn.Module) -> list[_BatchNorm]:
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm)
        and module.track_running_stats
        and module.running_mean is not None
        and module.momentum != 0
        and not (model.training and not module.training)
    ]


@contextmanager
def _measuring(model: nn.Module, layers: list[_BatchNorm]) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    statistics = [(b, b.clone()) for layer in layers for b in layer.buffers(recurse=False)]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.training = True
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in statistics:
                buffer.copy_(value)
        raise
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode


def _forward(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(batch[0] if isinstance(batch, (tuple, list)) else batch)
