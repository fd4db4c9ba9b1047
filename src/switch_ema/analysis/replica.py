"""A copy of a model that is evaluated with other weights, at many points at once where the model allows it."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from switch_ema.analysis.memory import affordable

Moves = Mapping[str, list[tuple[int, Tensor]]]
"""By the name of a tensor: the columns of the coefficients that move it, and where to."""

_CPU_BYTES = 24 * 2**20  # for all points evaluated at once: with more, caches miss
_CPU_FEWEST = 8  # where fewer fit, the work of a point outweighs the cost of a call, and the loop is as fast
_LIVE_OUTPUTS = 4  # tensors of a layer's size alive at once: its input, its output, and copies


@final
class Replica:
    """A copy of a model in evaluation mode, and its loss on a batch with any weights.

    Args:
        model: Any module on one device; it is left alone.
        loss: (model, batch) -> mean loss of the batch, a scalar.
        batch_statistics: Whether BatchNorm layers normalise by the statistics of the batch.
    """

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Any], Tensor], *, batch_statistics: bool) -> None:
        self.model = copy.deepcopy(model).eval()
        self.names = _canonical_names(self.model)  # by all names that the model itself knows
        if batch_statistics:
            _use_batch_statistics(self.model)
        self.state = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        self._whole = _Whole(self.model, loss)
        self._vmap_works = True
        self._most = sys.maxsize  # points that fit at once, as far as is known
        self._output_bytes = 0

    @property
    def device(self) -> torch.device:
        """Where the first of its tensors is."""
        return next(iter(self.state.values())).device

    def loss(self, weights: Mapping[str, Tensor], batch: Any, number: int) -> Tensor:
        """Return the loss of a batch with these weights in the place of the model's; its number seeds what it draws."""
        self.seed(number)
        named = {f"model.{name}": weight for name, weight in weights.items()}
        loss: Tensor = functional_call(self._whole, named, (batch,))
        return loss

    def losses(self, steps: Tensor, moves: Moves, batch: Any, number: int) -> Tensor:
        """Return the losses (points,) of a batch at weights + steps (points, k) * moves, together where that works."""
        if len(steps) > self._most:
            return torch.cat([self.losses(part, moves, batch, number) for part in steps.split(self._most)])
        if len(steps) > 1 and self._vmap_works:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="There is a performance drop")  # one operation is looped
                    weights = self._weights(steps, moves)
                    return vmap(lambda point: self.loss(point, batch, number), randomness="same")(weights)
            except torch.OutOfMemoryError:
                self._most = len(steps) // 2
            except Exception:  # of many types; what is not vmap's doing comes again in the loop
                self._vmap_works = False
            return self.losses(steps, moves, batch, number)  # outside the handlers, which hold what has to be freed
        return torch.stack([self.loss(self._weights(point, moves), batch, number) for point in steps])

    def _weights(self, steps: Tensor, moves: Moves) -> dict[str, Tensor]:
        """Return the weights at one point, for steps (k,), or stacked for many, for steps (points, k)."""
        weights = {}
        for name, columns in moves.items():
            weight = self.state[name].detach()
            lengths = steps.to(weight.dtype).reshape(*steps.shape, *[1] * weight.dim())
            for column, move in columns:
                weight = weight + lengths.select(steps.dim() - 1, column) * move
            weights[name] = weight
        return weights

    def affordable_chunk(self, moves: Moves) -> int:
        """Return how many points to evaluate at once; 1 where the loop is as fast."""
        moved = sum(self.state[name].numel() * self.state[name].element_size() for name in moves)
        chunk = affordable(2 * moved + _LIVE_OUTPUTS * self._output_bytes, self.device, _CPU_BYTES)
        return chunk if chunk >= _CPU_FEWEST or self.device.type == "cuda" else 1

    def seed(self, number: int) -> None:
        """Seed torch's random generators of the CPU and of the model's device."""
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(number)

    @contextmanager
    def frozen_randomness(self) -> Iterator[None]:
        """Leave torch's random generators as they were, whatever happens inside."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            yield

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note how large a layer's output becomes."""

        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self._output_bytes = max(self._output_bytes, output.numel() * output.element_size())

        handles = [module.register_forward_hook(note) for module in self.model.modules()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Whole(nn.Module):
    """The loss as a module, so that `functional_call` can put other weights in."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Any) -> Tensor:
        return self.loss(self.model, batch)


def _canonical_names(model: nn.Module) -> dict[str, str]:
    """Return, by each of the names of a tensor, the first of them, which `named_parameters` gives."""
    first: dict[int, str] = {}
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


def _use_batch_statistics(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _BatchNorm):  # without running statistics it uses the batch's, also in evaluation mode
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
