"""A Keras model's weights as a dict, and the arithmetic of their average, on every backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from switch_ema.averaging.slots import differences
from switch_ema.errors import InputError


def variables(model: Any) -> dict[str, Any]:
    """Return the weights that are averaged: all floats, those that are not trained (BatchNorm's) too.

    They go by their place: a variable's path is another one when the model was loaded, or is built again.
    """
    weights = enumerate(model.weights)
    return {f"{i}/{weight.name}": weight for i, weight in weights if keras.backend.is_float_dtype(weight.dtype)}


def copies(model: Any) -> dict[str, Any]:
    """Return what these weights are now."""
    return {name: ops.copy(_value(variable)) for name, variable in variables(model).items()}


def assign(model: Any, values: Mapping[str, Any]) -> None:
    """Give the model other weights."""
    for name, variable in variables(model).items():  # copies: JAX reuses the memory of what it trains
        variable.assign(ops.copy(ops.cast(values[name], variable.dtype)))


def check_fit(averages: Mapping[str, Any], model: Any) -> None:
    """Refuse averages that are not those of such a model.

    Raises:
        InputError: If names or shapes differ.
    """
    cure = "load the state that belongs to it"
    if names := differences(averages, variables(model)):
        raise InputError(f"the average does not fit the model ({names}); {cure}")
    for name, variable in variables(model).items():
        shape, expected = tuple(averages[name].shape), tuple(variable.shape)
        if shape != expected:
            raise InputError(f"the average of {name!r} has shape {shape}, the model's {expected}; {cure}")


def widened(variable: Any) -> Any:
    """Return a copy, in float32 if the weight's type is narrower."""
    return ops.copy(ops.cast(_value(variable), keras.backend.result_type(variable.dtype, "float32")))


def lerp(average: Any, variable: Any, share: float) -> Any:
    """Return `(1 - share) * average + share * variable`, exact at both ends."""
    value = ops.cast(_value(variable), average.dtype)
    difference = value - average
    return average + share * difference if share < 0.5 else value - (1 - share) * difference


def _value(variable: Any) -> Any:
    return ops.stop_gradient(variable.value)
