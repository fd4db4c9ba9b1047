"""Networks for images, all with untrained weights.

The functions are loaded when they are first used: `names` beside them needs the standard library only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from switch_ema.tasks.models.build import Backbone as Backbone
    from switch_ema.tasks.models.build import build_backbone as build_backbone
    from switch_ema.tasks.models.build import build_model as build_model

__all__ = ["Backbone", "build_backbone", "build_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.build"), name)
