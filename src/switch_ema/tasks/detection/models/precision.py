"""Single precision for boxes, scores and losses, whatever the layers before them compute in."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor, nn

Part = TypeVar("Part", bound=nn.Module)


def single(module: Part) -> Part:
    """Let a module return its numbers in single precision, under autocast too.

    Anchors take the type of the feature maps, and boxes and scores that of the heads. In bfloat16, of 8 bits, boxes
    between 512 and 1024 pixels would be multiples of 4, and many scores equal.

    Args:
        module: What gives feature maps, or the last layers of a head.

    Returns:
        The module.
    """
    module.register_forward_hook(_returned)
    return module


def _returned(module: nn.Module, given: Any, output: Any) -> Any:
    return _floats(output)


def _floats(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: _floats(value) for name, value in output.items()}
    return [_floats(value) for value in output]
