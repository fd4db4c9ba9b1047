"""Weights of a backbone from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.errors import FieldError, InputError

_CLASSIFIER = "fc."
_COUNTER = "num_batches_tracked"  # absent from old files, and from frozen BatchNorm


def load_weights(network: nn.Module, path: str, backbone: str) -> None:
    """Copy the weights of a file into a network, but for its classifier.

    Args:
        network: A ResNet of torchvision.
        path: A file with its state_dict, .safetensors or of torch; only tensors are read from it.
        backbone: The network's name, for messages.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    held, wanted = _needed(_read(path)), _needed(network.state_dict())
    problem = next(_differences(held, wanted), None)
    if problem:
        raise FieldError("weights", f"{path}: not those of {backbone}: {problem}; give torchvision's state_dict of it")
    network.load_state_dict(held, strict=False)


def _read(path: str) -> Mapping[Any, Any]:
    found: Any
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise InputError('safetensors is not installed; run: pip install "switch-ema[bench]"') from error
    except Exception as error:  # every kind of damage has its own
        raise FieldError("weights", f"{path}: not to be read as weights; use an undamaged file of tensors") from error
    if not isinstance(found, Mapping):
        raise FieldError("weights", f"{path}: it holds a {type(found).__name__}; give a state_dict")
    return found


def _needed(weights: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        name: weight
        for name, weight in weights.items()
        if not str(name).startswith(_CLASSIFIER) and not str(name).endswith(_COUNTER)
    }


def _differences(held: Mapping[Any, Any], wanted: Mapping[str, Tensor]) -> Iterator[str]:
    for name, weight in wanted.items():
        if not isinstance(held.get(name), Tensor):
            yield f"{name} is missing"
        elif held[name].shape != weight.shape:
            yield f"{name} is {_shape(held[name])}, not {_shape(weight)}"
    yield from (f"{name} is too much" for name in held if name not in wanted)


def _shape(weight: Tensor) -> str:
    return "x".join(map(str, weight.shape)) or "a scalar"
