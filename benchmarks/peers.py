"""Every library behind the same five verbs, set up as well as it can be for one job: a plain EMA update at every call.

Warm-ups are set so that the decay is constant; some still copy the weights at the first call, which is made before any
timing. For a bfloat16 model the averages are made float32 in the way the library has, or by `.float()` on its second
model where it has none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

import switch_ema
from benchmarks.shapes import has_buffers, is_tied

BY_HAND = "no swap of its own: done by hand, its second model serves evaluation without one"


class Average(Protocol):
    """An average of one model, kept by some library."""

    def update(self) -> None:
        """Fold the weights in, once."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what is kept, by the model's names."""

    def swapped(self) -> AbstractContextManager[None]:
        """Lend the averaged weights to the model for the length of a `with` block."""

    def state(self) -> dict[str, Any]:
        """Return what its users save."""

    def load(self, state: dict[str, Any]) -> None:
        """Take a saved state."""


class Ours:
    """`switch_ema.EMA`."""

    def __init__(self, model: nn.Module, decay: float, use_buffers: bool = True) -> None:
        self._averager = switch_ema.EMA(model, decay, use_buffers=use_buffers)
        self.update = self._averager.update
        self.swapped = self._averager.average_parameters
        self.state = self._averager.state_dict
        self.load = self._averager.load_state_dict

    def tensors(self) -> dict[str, Tensor]:
        """Return what is kept, by the model's names."""
        return dict(self._averager.state_dict()["averages"])


class SecondModel:
    """A library that averages into a copy of the model."""

    def __init__(self, model: nn.Module, keeper: nn.Module, second: nn.Module, update: Callable[[], None]) -> None:
        self._model = model
        self._second = second
        self.update = update
        self.state = keeper.state_dict
        self._keeper = keeper

    def tensors(self) -> dict[str, Tensor]:
        """Return what is kept, by the model's names."""
        return {name: t.detach() for name, t in chain(self._second.named_parameters(), self._second.named_buffers())}

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Lend the averaged weights to the model, as a user would write it by hand."""
        with torch.no_grad():
            live = list(chain(self._model.parameters(), self._model.buffers()))
            own = [tensor.clone() for tensor in live]
            torch._foreach_copy_(live, list(chain(self._second.parameters(), self._second.buffers())))
            try:
                yield
            finally:
                torch._foreach_copy_(live, own)

    def load(self, state: dict[str, Any]) -> None:
        """Take a saved state."""
        self._keeper.load_state_dict(state)


class Shadows:
    """A library that averages into a list of tensors (diffusers, torch-ema)."""

    def __init__(self, model: nn.Module, keeper: Any, step: Callable[[list[nn.Parameter]], None]) -> None:
        self._model = model
        self._keeper = keeper
        self._step = step
        if _is_half(model):
            keeper.to(dtype=torch.float32)

    def update(self) -> None:
        """Fold the weights in, once."""
        self._step(list(self._model.parameters()))

    def tensors(self) -> dict[str, Tensor]:
        """Return what is kept, by the model's names."""
        return {
            name: t for (name, _), t in zip(self._model.named_parameters(), self._keeper.shadow_params, strict=True)
        }

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Lend the averaged weights to the model by the library's own store, copy and restore."""
        parameters = list(self._model.parameters())
        self._keeper.store(parameters)
        self._keeper.copy_to(parameters)
        try:
            yield
        finally:
            self._keeper.restore(parameters)

    def state(self) -> dict[str, Any]:
        """Return what its users save."""
        return dict(self._keeper.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        """Take a saved state."""
        self._keeper.load_state_dict(state)


def _is_half(model: nn.Module) -> bool:
    return next(model.parameters()).dtype.itemsize < 4


def _timm(model: nn.Module, decay: float, exclude_buffers: bool = False) -> Average:
    from timm.utils.model_ema import ModelEmaV3

    dtype = torch.float32 if _is_half(model) else None
    ema = ModelEmaV3(model, decay=decay, foreach=True, dtype=dtype, exclude_buffers=exclude_buffers)
    return SecondModel(model, ema, ema.module, lambda: ema.update(model))


def _torch(model: nn.Module, decay: float, use_buffers: bool = False) -> Average:
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=use_buffers)
    return _averaged_model(model, averaged)


def _torch_single(model: nn.Module, decay: float) -> Average:
    return _averaged_model(model, AveragedModel(model, avg_fn=get_ema_avg_fn(decay)))


def _averaged_model(model: nn.Module, averaged: AveragedModel) -> Average:
    if _is_half(model):
        averaged.module.float()
    return SecondModel(model, averaged, averaged.module, lambda: averaged.update_parameters(model))


def _ema_pytorch(model: nn.Module, decay: float) -> Average:
    from ema_pytorch import EMA

    half = _is_half(model)
    ema = EMA(
        model,
        copy.deepcopy(model).float() if half else None,
        beta=decay,
        min_value=decay,
        update_after_step=0,
        update_every=1,
        use_foreach=True,
        coerce_dtype=half,
        include_online_model=False,
    )
    return SecondModel(model, ema, ema.ema_model, ema.update)


def _diffusers(model: nn.Module, decay: float) -> Average:
    from diffusers.training_utils import EMAModel

    ema = EMAModel(model.parameters(), decay=decay, min_decay=decay, foreach=True)
    return Shadows(model, ema, ema.step)


def _torch_ema(model: nn.Module, decay: float) -> Average:
    from torch_ema import ExponentialMovingAverage

    ema = ExponentialMovingAverage(model.parameters(), decay=decay, use_num_updates=False)
    return Shadows(model, ema, ema.update)


@dataclass(frozen=True)
class Peer:
    """A library, in one of the ways to use it.

    Attributes:
        name: What tables call it.
        make: Builds its average of a model, for a decay.
        loads: The statement that imports it.
        suits: Whether this way differs, for a model, from the others of the same library.
        swap: Remark on its swap.
    """

    name: str
    make: Callable[[nn.Module, float], Average]
    loads: str
    suits: Callable[[nn.Module], bool] = lambda model: True
    swap: str = ""


OURS = Peer("switch_ema", Ours, "import switch_ema; switch_ema.EMA")
_TIMM = "from timm.utils.model_ema import ModelEmaV3"
_TORCH = "from torch.optim.swa_utils import AveragedModel"
PEERS = (
    OURS,
    Peer("switch_ema, no buffers", lambda m, d: Ours(m, d, use_buffers=False), OURS.loads, has_buffers),
    Peer("timm V3", _timm, _TIMM, swap=BY_HAND),
    Peer(
        "timm V3, exclude_buffers",
        lambda m, d: _timm(m, d, exclude_buffers=True),
        _TIMM,
        lambda m: has_buffers(m) or is_tied(m),
        BY_HAND,
    ),
    Peer("torch AveragedModel", _torch, _TORCH, swap=BY_HAND),
    Peer("torch, use_buffers", lambda m, d: _torch(m, d, use_buffers=True), _TORCH, has_buffers, BY_HAND),
    Peer("torch, avg_fn", _torch_single, _TORCH, _is_half, BY_HAND),
    Peer("ema-pytorch", _ema_pytorch, "from ema_pytorch import EMA", swap=BY_HAND),
    Peer("diffusers EMAModel", _diffusers, "from diffusers.training_utils import EMAModel"),
    Peer("torch-ema", _torch_ema, "from torch_ema import ExponentialMovingAverage"),
)


def make_all(model: nn.Module, decay: float) -> tuple[dict[str, Average], dict[str, str]]:
    """Build every average that suits a model.

    Returns:
        The averages by name, and for those that could not be built, why.
    """
    made: dict[str, Average] = {}
    faults: dict[str, str] = {}
    for peer in PEERS:
        if peer.suits(model):
            try:
                made[peer.name] = peer.make(model, decay)
            except Exception as error:
                faults[peer.name] = reason(error)
    return made, faults


def reason(error: Exception) -> str:
    """Return in a line why a library cannot do what it was asked."""
    return f"cannot: {next(iter(str(error).splitlines()), type(error).__name__)}"
