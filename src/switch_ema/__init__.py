"""Weight averaging for PyTorch: EMA, Switch EMA, SWA, Lookahead, LAWA, power-function EMA.

The names below are loaded when they are first used, so that `import switch_ema` costs nothing by itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from switch_ema.averaging.averager import Averager as Averager
    from switch_ema.averaging.buffers import reestimate_batchnorm as reestimate_batchnorm
    from switch_ema.averaging.checkpoints import load_averaged as load_averaged
    from switch_ema.averaging.checkpoints import save_averaged as save_averaged
    from switch_ema.averaging.group import AveragerGroup as AveragerGroup
    from switch_ema.averaging.merge import average_checkpoints as average_checkpoints
    from switch_ema.averaging.methods import EMA as EMA
    from switch_ema.averaging.methods import LAWA as LAWA
    from switch_ema.averaging.methods import SWA as SWA
    from switch_ema.averaging.methods import Lookahead as Lookahead
    from switch_ema.averaging.methods import PowerEMA as PowerEMA
    from switch_ema.averaging.methods import SwitchEMA as SwitchEMA
    from switch_ema.averaging.posthoc import PostHocEMA as PostHocEMA
    from switch_ema.averaging.trigger import Every as Every

__version__ = "0.1.0"

_HOME = {
    "Averager": "averager",
    "reestimate_batchnorm": "buffers",
    "load_averaged": "checkpoints",
    "save_averaged": "checkpoints",
    "AveragerGroup": "group",
    "average_checkpoints": "merge",
    "EMA": "methods",
    "SwitchEMA": "methods",
    "SWA": "methods",
    "Lookahead": "methods",
    "LAWA": "methods",
    "PowerEMA": "methods",
    "PostHocEMA": "posthoc",
    "Every": "trigger",
}
__all__ = ["__version__", *_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.averaging.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
