"""The table of methods and the table of models that every method must handle, and a small training loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

import switch_ema
from switch_ema import Averager

from .reference import ExponentialTwin, LookaheadTwin, PowerTwin, SnapshotTwin, Twin, Weights

STEPS_PER_EPOCH = 5  # odd, so that half an epoch falls between two steps
EPOCHS = 3
WIDTH = 4


@dataclass(frozen=True)
class Method:
    """A public method with settings, and its textbook twin with the same settings worked out by hand."""

    public: str
    settings: dict[str, Any]
    twin: Callable[[Weights, frozenset[str]], Twin]
    switches: bool = False

    def make(self, model: nn.Module) -> Averager:
        averager = getattr(switch_ema, self.public)(model, **self.settings)
        assert isinstance(averager, Averager)
        return averager


def _exponential(decay: Callable[[int], float], **when: Any) -> Callable[[Weights, frozenset[str]], Twin]:
    return lambda start, copied: ExponentialTwin(start, copied, decay, **when)


METHODS = {
    "ema": Method("EMA", {"decay": 0.8}, _exponential(lambda t: 0.8)),
    "ema-every-4-after-3": Method(
        "EMA", {"decay": 0.9, "update_every": 4, "update_after_step": 3}, _exponential(lambda t: 0.9, every=4, after=3)
    ),
    "ema-warmup": Method(
        "EMA", {"decay": "warmup 0.5", "update_every": 2}, _exponential(lambda t: min(0.5, (1 + t) / (10 + t)), every=2)
    ),
    "sema": Method(
        "SwitchEMA",
        {"decay": 0.7},
        _exponential(lambda t: 0.7, switch_at_epochs=(1, 2, 3)),
        switches=True,
    ),
    "sema-half-epoch": Method(
        "SwitchEMA",
        {"decay": 0.5, "switch_every": "0.5 epoch", "steps_per_epoch": STEPS_PER_EPOCH},
        _exponential(lambda t: 0.5, switch_at_steps=(3, 8, 13), switch_at_epochs=(1, 2, 3)),
        switches=True,
    ),
    "sema-unaligned": Method(
        "SwitchEMA",
        {"decay": 0.8, "update_every": 4, "switch_every": "3 steps after 2 until 9", "optimizer_state": "reset"},
        _exponential(lambda t: 0.8, every=4, switch_at_steps=(5, 8)),
        switches=True,
    ),
    "swa": Method("SWA", {}, lambda start, copied: SnapshotTwin(start, copied, at_epochs=(1, 2, 3))),
    "swa-steps": Method(
        "SWA",
        {"update_every": "3 steps after 2"},
        lambda start, copied: SnapshotTwin(start, copied, at_steps=(5, 8, 11, 14)),
    ),
    "lookahead": Method(
        "Lookahead", {"k": 3, "alpha": 0.25}, lambda s, c: LookaheadTwin(s, c, k=3, alpha=0.25), switches=True
    ),
    "lawa": Method(
        "LAWA", {"window": 2}, lambda start, copied: SnapshotTwin(start, copied, window=2, at_epochs=(1, 2, 3))
    ),
    "lawa-steps": Method(
        "LAWA",
        {"window": 3, "update_every": 2},
        lambda start, copied: SnapshotTwin(start, copied, window=3, at_steps=(2, 4, 6, 8, 10, 12, 14)),
    ),
    "power": Method("PowerEMA", {}, lambda start, copied: PowerTwin(start, copied, gamma=6.94)),
    "power-every-3-after-4": Method(
        "PowerEMA",
        {"gamma": 2.0, "update_every": 3, "update_after_step": 4},
        lambda start, copied: PowerTwin(start, copied, gamma=2.0, every=3, after=4),
    ),
}


@dataclass(frozen=True)
class Case:
    """A model, the names whose average is a copy of the latest value, and whether `copy.deepcopy` fails on it."""

    make: Callable[[], nn.Module]
    copied: frozenset[str] = field(default=frozenset())
    deepcopy_fails: bool = False


def mlp(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)


def batchnorm() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))


class IntegerBuffers(nn.Module):
    """Counts its calls, and keeps ids, a mask and bytes."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, 2)
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("ids", torch.arange(3))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("bytes", torch.tensor([250, 3], dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.fc(x)
        return out


class InfiniteBuffer(nn.Module):
    """Keeps an attention mask of minus infinities, as many language models do."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("mask", torch.full((WIDTH, WIDTH), float("-inf")).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.softmax(self.mask + self.fc.weight, -1) @ self.fc(x).T
        return out


class Tied(nn.Module):
    """An autoencoder whose two layers share one weight, as embeddings and heads of language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(WIDTH, WIDTH)
        self.decoder = nn.Linear(WIDTH, WIDTH, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(torch.tanh(self.encoder(x)))
        return out


def frozen() -> nn.Module:
    model = mlp()
    next(model.parameters()).requires_grad_(False)
    return model


class Nested(nn.Module):
    """Containers in containers, a module used in two places, and parameters beside modules."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList([nn.Sequential(shared, nn.Tanh()), nn.Sequential(shared, nn.LayerNorm(WIDTH))])
        self.heads = nn.ModuleDict({"main": nn.Linear(WIDTH, 2)})
        self.gains = nn.ParameterList([torch.ones(2), torch.ones(())])
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.heads["main"](x) * self.gains[0] * self.gains[1] + self.shift
        return out


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(WIDTH, 3)), nn.Tanh(), nn.Linear(3, 2))


class NonLeaf(nn.Module):
    """Holds tensors that are not leaves of the graph: one made at the start, one at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, 2)
        self.last = self.fc.weight * 2

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.fc(x)
        return self.last


def old_spectral_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.utils.spectral_norm(nn.Linear(WIDTH, 3)), nn.Tanh(), nn.Linear(3, 2))


def spectral_norm() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, 3)), nn.Tanh(), nn.Linear(3, 2))


class NonPersistent(nn.Module):
    """Keeps caches beside its weights: one fixed, one that grows."""

    cache: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, 2)
        self.register_buffer("scale", torch.full((WIDTH,), 0.5), persistent=False)
        self.register_buffer("cache", torch.zeros(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.cache = torch.zeros(len(self.cache) + 1)
        out: Tensor = self.fc(x * self.scale)
        return out


class OddSizes(nn.Module):
    """A scalar and an empty parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, 2)
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.empty = nn.Parameter(torch.zeros(0, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x) * self.gain + self.empty.sum()
        return out


class Complex(nn.Module):
    """A filter with complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(WIDTH // 2 + 1, dtype=torch.complex64))
        self.fc = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=WIDTH))
        return out


class MixedTypes(nn.Module):
    """A float32 body between a bfloat16 layer and a float64 gain."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 4, dtype=torch.bfloat16)
        self.body = nn.Linear(4, 2)
        self.gain = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.first(x.bfloat16()).float()) * self.gain
        return out


class ChannelsLast(nn.Module):
    """A convolution whose weight lies in memory in another order than its dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 2)
        self.conv.weight.data = self.conv.weight.data.to(memory_format=torch.channels_last)
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.conv(x.view(len(x), 1, 2, 2)).flatten(1))
        return out


class Gaps(nn.Module):
    """Weights that are every second column of a larger tensor, and one that is transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(WIDTH, 6)[:, ::2])
        self.second = nn.Parameter(torch.randn(2, 3).t())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.first @ self.second


class Quantized(nn.Module):
    """A frozen layer in whole numbers below a trained one, as adapters are trained on quantized models."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.adapter = nn.Linear(WIDTH, 2)
        packed = nn.Parameter(torch.randint(-8, 8, (WIDTH, WIDTH), dtype=torch.int8), requires_grad=False)
        self.base = nn.ParameterList([packed])
        self.register_buffer("scale", torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.adapter(x @ (self.base[0] * self.scale))
        return out


class LargeBeside(nn.Module):
    """A weight that is larger than what is worked on at once beside small ones."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Parameter(0.1 * torch.randn(9000, WIDTH, dtype=torch.bfloat16))
        self.fc = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x.float() + self.embed[: len(x)].float())
        return out


CASES = {
    "float32": Case(mlp),
    "bfloat16": Case(lambda: mlp(torch.bfloat16)),
    "float16": Case(lambda: mlp(torch.float16)),
    "float64": Case(lambda: mlp(torch.float64)),
    "mixed-types": Case(MixedTypes),
    "batchnorm": Case(batchnorm, frozenset({"1.num_batches_tracked"})),
    "integer-buffers": Case(IntegerBuffers, frozenset({"calls", "ids", "mask", "bytes"})),
    "infinite-buffer": Case(InfiniteBuffer, frozenset({"mask"})),
    "tied": Case(Tied),
    "frozen": Case(frozen),
    "nested": Case(Nested),
    "old-weight-norm": Case(old_weight_norm, deepcopy_fails=True),
    "non-leaf": Case(NonLeaf, deepcopy_fails=True),
    "old-spectral-norm": Case(old_spectral_norm, frozenset({"0.weight_u", "0.weight_v"})),
    "spectral-norm": Case(
        spectral_norm, frozenset({"0.parametrizations.weight.0._u", "0.parametrizations.weight.0._v"})
    ),
    "non-persistent": Case(NonPersistent),
    "odd-sizes": Case(OddSizes),
    "complex": Case(Complex),
    "channels-last": Case(ChannelsLast),
    "gaps": Case(Gaps),
    "quantized": Case(Quantized),
    "large": Case(LargeBeside),
}

Event = Literal["step", "epoch"]


def events(epochs: int = EPOCHS, steps_per_epoch: int = STEPS_PER_EPOCH) -> list[Event]:
    """What happens in training, in order: so many steps and then the end of the epoch, so many times."""
    one: list[Event] = [*["step"] * steps_per_epoch, "epoch"]  # type: ignore[list-item]
    return one * epochs


class Trainer:
    """A model under SGD with momentum; the batch of a step depends on the step's number alone."""

    def __init__(self, model: nn.Module, *, lr: float = 0.1) -> None:
        self.model = model
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=lr, momentum=0.9)
        self.steps = 0

    def step(self) -> None:
        """Take one optimizer step."""
        self.optimizer.zero_grad()
        loss_of(self.model, batch(self.steps)).backward()
        self.optimizer.step()
        self.steps += 1

    def run(self, averager: Averager, todo: list[Event]) -> Iterator[None]:
        """Train with an averager that is attached to the optimizer; pauses after each event."""
        for event in todo:
            if event == "step":
                self.step()
            else:
                averager.end_epoch()
            yield


def batch(number: int) -> Tensor:
    return torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(number))


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    dtype = next(model.parameters()).dtype
    out: Tensor = model(x.to(dtype) if dtype.is_floating_point else x)
    return (out.float() - x.mean()).square().mean()


def build(case: str, seed: int = 0) -> nn.Module:
    """Make a model of the table from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CASES[case].make()


def bits(tree: Any) -> Any:
    """Return a copy of nested containers in which tensors compare equal only if type and every bit are the same."""
    if isinstance(tree, Tensor):
        raw = tree.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return str(tree.dtype), tuple(tree.shape), raw
    if isinstance(tree, dict):
        return {key: bits(value) for key, value in tree.items()}
    return [bits(value) for value in tree] if isinstance(tree, (list, tuple)) else tree
