"""Whatever may happen in training, in random order, beside slow float64 twins that are plain dictionaries.

All seeds are fixed. `SEMA_EXAMPLES=1000` runs more examples, and looks for the shortest one that fails, for minutes.
"""

from __future__ import annotations

import copy
import io
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import torch
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import Tensor, nn

from switch_ema import EMA, LAWA, SWA, Averager, AveragerGroup, Lookahead, PowerEMA, SwitchEMA

from .cases import bits
from .reference import Weights, exact

Event = Literal["step", "epoch"]
COPIED = frozenset({"calls", "ids", "mask", "norm.num_batches_tracked"})
STEPS_PER_EPOCH = 5
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
TOLERANCE = {True: 1e-5, False: 1e-12}  # whether an average was ever in float32


class Net(nn.Module):
    """One of each kind: a large weight (a swap lends it), a convolution, tied and odd tensors, all sorts of buffers."""

    calls: Tensor
    ids: Tensor
    mask: Tensor
    cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.large = nn.Linear(8, 2048, bias=False)  # 2 ** 14 elements
        self.square = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8, bias=False)
        self.tied.weight = self.square.weight
        self.table = nn.Parameter(torch.randn(6, 4))
        self.gaps = nn.Parameter(torch.randn(3, 6)[:, ::2])
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.register_parameter("none", None)
        self.adapters = nn.ModuleDict()
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("ids", torch.arange(3))
        self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))
        self.register_buffer("cache", torch.zeros(2))
        self.register_buffer("unsaved", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).mean((2, 3))
        x = self.tied(torch.tanh(self.square(x)))
        for adapter in self.adapters.values():
            x = x + adapter(x)
        out: Tensor = self.large(x).sum(1) * self.gain
        for tensor in (self.table, self.gaps, self.empty, self.cache, self.mask.exp()):
            out = out + tensor.sum()
        return out


# methods, and when and how they act, in the words of a textbook


@dataclass
class Clock:
    steps: int = 0
    epochs: int = 0
    step_in_epoch: int = 0

    def tick(self, event: Event) -> None:
        if event == "step":
            self.steps, self.step_in_epoch = self.steps + 1, self.step_in_epoch + 1
        else:
            self.epochs, self.step_in_epoch = self.epochs + 1, 0


When = Callable[[Event, Clock], bool]


def steps(n: int, after: int = 0, until: float = math.inf) -> When:
    return lambda event, at: event == "step" and after < at.steps <= until and (at.steps - after) % n == 0


def epochs(n: int, after: int = 0) -> When:
    return lambda event, at: event == "epoch" and at.epochs > after and (at.epochs - after) % n == 0


def half_epochs(event: Event, at: Clock) -> bool:
    return event == "epoch" or at.step_in_epoch == 3  # of 5


def never(event: Event, at: Clock) -> bool:
    return False


@dataclass(frozen=True)
class Plan:
    """A method with settings, and the same worked out by hand.

    `kept` says what share of the old average is left, from the updates so far and the steps from s to t since `start`.
    """

    make: Callable[..., Averager]
    kept: Callable[[int, int, int], float] | None
    update: When
    switch: When = never
    by_steps: bool = True  # whether steps between updates enter the average at a switch
    unit: Event = "step"
    start: int = 0
    window: int = 0


def warming(n: int, s: int, t: int) -> float:
    return math.prod(min(0.6, (1 + i) / (10 + i)) for i in range(s, t))


def mean(n: int, s: int, t: int) -> float:
    return n / (n + 1)


def constant(decay: float) -> Callable[[int, int, int], float]:
    return lambda n, s, t: decay ** (t - s)


def power(gamma: float) -> Callable[[int, int, int], float]:
    return lambda n, s, t: float((s / t) ** (gamma + 1))


def reset(model: nn.Module, **options: Any) -> Averager:
    averager = SwitchEMA(model, 0.6, switch_every=4, optimizer_state="reset", **options)
    averager.attach(torch.optim.SGD(model.parameters(), lr=0.1))  # it takes no step
    return averager


PASSIVE = {
    "ema": Plan(lambda m, **o: EMA(m, 0.8, **o), constant(0.8), steps(1)),
    "ema-warmup": Plan(lambda m, **o: EMA(m, "warmup 0.6", update_every=2, **o), warming, steps(2)),
    "ema-every-3": Plan(lambda m, **o: EMA(m, 0.9, update_every=3, **o), constant(0.9), steps(3)),
    "ema-late": Plan(
        lambda m, **o: EMA(m, 0.7, update_every=2, update_after_step=3, **o), constant(0.7), steps(2, 3), start=3
    ),
    "swa": Plan(SWA, mean, epochs(1), by_steps=False, unit="epoch"),
    "swa-late": Plan(
        lambda m, **o: SWA(m, update_every="1 epoch after 1", **o),
        mean,
        epochs(1, 1),
        by_steps=False,
        unit="epoch",
        start=1,
    ),
    "swa-steps": Plan(lambda m, **o: SWA(m, update_every=2, **o), mean, steps(2), by_steps=False),
    "lawa": Plan(lambda m, **o: LAWA(m, window=2, **o), None, epochs(1), by_steps=False, unit="epoch", window=2),
    "lawa-steps": Plan(lambda m, **o: LAWA(m, window=3, update_every=2, **o), None, steps(2), by_steps=False, window=3),
    "power": Plan(lambda m, **o: PowerEMA(m, 2.0, **o), power(2.0), steps(1)),
    "power-every-3": Plan(
        lambda m, **o: PowerEMA(m, 1.0, update_every=3, update_after_step=2, **o), power(1.0), steps(3, 2), start=2
    ),
}
ACTIVE = {
    "sema-epoch": Plan(lambda m, **o: SwitchEMA(m, 0.7, **o), constant(0.7), steps(1), epochs(1)),
    "sema-half": Plan(
        lambda m, **o: SwitchEMA(m, 0.5, switch_every="0.5 epoch", steps_per_epoch=STEPS_PER_EPOCH, **o),
        constant(0.5),
        steps(1),
        half_epochs,
    ),
    "sema-unaligned": Plan(
        lambda m, **o: SwitchEMA(m, 0.8, update_every=4, switch_every="3 steps after 2 until 20", **o),
        constant(0.8),
        steps(4),
        steps(3, 2, 20),
    ),
    "sema-reset": Plan(reset, constant(0.6), steps(1), steps(4)),
    "lookahead": Plan(
        lambda m, **o: Lookahead(m, k=3, alpha=0.25, **o), lambda n, s, t: 0.75, steps(3), steps(3), by_steps=False
    ),
}
OPTIONS: list[dict[str, Any]] = [{}, {}, {"dtype": torch.float64}, {"dtype": torch.float32}, {"use_buffers": False}]


@dataclass
class Twin:
    """The average of a model as dictionaries of float64 tensors, told when a step or an epoch is over."""

    plan: Plan
    options: dict[str, Any]
    clock: Clock = field(default_factory=Clock)
    average: Weights = field(default_factory=dict)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)  # of the averages
    coarse: set[str] = field(default_factory=set)  # names whose average was once in float32
    snapshots: list[Weights] = field(default_factory=list)
    taken: int = -1  # time of the last update
    switched: int = 0
    lag: float = 0.0  # how far behind a steadily moving model
    n_averaged: int = 0
    n_switches: int = 0
    n_skipped: int = 0
    stale: bool = False  # whether the model has parameters that the averager does not know of

    @property
    def now(self) -> int:
        return self.clock.steps if self.plan.unit == "step" else self.clock.epochs

    def can_switch(self) -> bool:
        return self.n_averaged > 0 or self.is_pending()

    def is_pending(self) -> bool:
        return self.plan.by_steps and self.now > self.taken

    def tick(self, event: Event, model: nn.Module, *, alive: bool = True) -> tuple[bool, bool]:
        """Let time pass; return whether the averager must act, and whether it switches.

        With `alive` false the model cannot be averaged now, and only time passes.
        """
        self.clock.tick(event)
        starts = event == self.plan.unit and self.now == self.plan.start
        updates = self.plan.update(event, self.clock)
        if alive and starts:
            self.take_up(model)
            live = self.seen(model)
            kept = COPIED if self.skips(live) else live.keys()
            self.average.update({name: live[name] for name in self.average if name in kept})
        if alive and updates:
            self.take(model)
        switches = self.plan.switch(event, self.clock) and (updates or self.can_switch())
        if alive and switches:
            self.switch(model)
        return starts or updates or switches, switches

    def take(self, model: nn.Module) -> None:
        self.take_up(model)
        live = {name: value for name, value in self.seen(model).items() if name in self.average}
        averaged = [name for name in live if name not in COPIED]
        elapsed, kept = self.now - self.taken, 0.0
        if self.plan.kept is None:
            self.lag = elapsed * (min(self.n_averaged + 1, self.plan.window) - 1) / 2
        else:
            kept = self.plan.kept(self.n_averaged, self.taken - self.plan.start, self.now - self.plan.start)
            self.lag = kept * (self.lag + elapsed)
        self.average.update({name: live[name] for name in live if name in COPIED})
        if self.skips(live):
            self.n_skipped += 1
        elif self.plan.kept is None:
            self.snapshots = [*self.snapshots, {name: live[name] for name in averaged}][-self.plan.window :]
            for name in averaged:
                for snapshot in self.snapshots:
                    snapshot.setdefault(name, live[name])  # a tensor that is new, or was reshaped, starts anew
                self.average[name] = torch.stack([snapshot[name] for snapshot in self.snapshots]).mean(0)
        else:
            for name in averaged:
                self.average[name] = kept * self.average[name] + (1 - kept) * live[name]
        self.n_averaged, self.taken = self.n_averaged + 1, self.now

    def skips(self, live: Weights) -> bool:
        finite = all(value.isfinite().all() for name, value in live.items() if name in self.average.keys() - COPIED)
        return bool(self.options["skip_nonfinite"]) and not finite

    def switch(self, model: nn.Module) -> None:
        self.take_up(model)
        if self.is_pending():
            self.take(model)
        self.n_switches, self.switched, self.lag = self.n_switches + 1, self.now, 0.0

    def take_up(self, model: nn.Module) -> None:
        """Take the tensors that there are; new and reshaped ones start with their present value."""
        if self.taken < 0:
            self.taken = self.switched = self.plan.start
        live, now = self.seen(model), tensors_of(model)
        if self.stale:  # the averager does not know of what is new
            live = {name: value for name, value in live.items() if name in self.average}
        for name, value in live.items():
            if name not in self.average or self.average[name].shape != value.shape:
                self.average[name] = value
                for snapshot in self.snapshots:
                    snapshot.pop(name, None)
            self.dtypes[name] = self.dtype_of(name, now[name], self.dtypes.get(name))
            if self.dtypes[name] is torch.float32:
                self.coarse.add(name)
        for gone in self.average.keys() - live.keys():
            for tensors in (self.average, self.dtypes, *self.snapshots):
                tensors.pop(gone, None)  # type: ignore[attr-defined]

    def dtype_of(self, name: str, tensor: Tensor, before: torch.dtype | None) -> torch.dtype:
        if name in COPIED:
            return tensor.dtype
        if isinstance(tensor, nn.Parameter) and "dtype" in self.options:
            chosen: torch.dtype = self.options["dtype"]
            return chosen
        wide = torch.promote_types(tensor.dtype, torch.float32)
        return wide if before is None else torch.promote_types(wide, before)

    def seen(self, model: nn.Module) -> Weights:
        found = exact(model)
        if not self.options.get("use_buffers", True):
            found = {name: found[name] for name, _ in model.named_parameters()}
        return found

    def resumed(self, model: nn.Module) -> Twin:
        """What goes on in a new averager, whose averages are in the types that fit the model now."""
        other = copy.deepcopy(self)
        other.dtypes = {}
        other.take_up(model)
        return other

    def check(self, averager: Averager, model: nn.Module) -> None:
        """Compare with an averager, but for buffers whose new shape it has not met yet."""
        counts = (averager.n_averaged, averager.n_switches, averager.n_skipped)
        assert counts == (self.n_averaged, self.n_switches, self.n_skipped)
        averages, snapshots = inside(averager)
        assert vars(averager._times.clock).items() >= vars(self.clock).items()
        assert (averager._times.count.taken, averager._times.count.switched) == (self.taken, self.switched)
        assert averager._times.count.lag == pytest.approx(self.lag)
        assert averages.keys() == self.average.keys()
        live = tensors_of(model)
        known = {n: t for n, t in averages.items() if n not in live or live[n].shape == t.shape}
        assert {name: tensor.dtype for name, tensor in known.items()} == {name: self.dtypes[name] for name in known}
        self.compare(known, self.average)
        assert len(snapshots) == len(self.snapshots)
        for snapshot, expected in zip(snapshots, self.snapshots, strict=True):
            # others are replaced at the next update
            self.compare(
                {n: t for n, t in snapshot.items() if n in expected and t.shape == expected[n].shape}, expected
            )
        theirs = {tensor.untyped_storage().data_ptr() for tensor in live.values() if tensor.numel()}
        for tensors in (averages, *snapshots):
            ours = {tensor.untyped_storage().data_ptr() for tensor in tensors.values() if tensor.numel()}
            assert ours.isdisjoint(theirs), "an average shares memory with the model"

    def compare(self, found: Weights, expected: Weights) -> None:
        by_tolerance: dict[float, list[str]] = {}
        for name in found:
            assert found[name].shape == expected[name].shape, name
            near = 0.0 if name in COPIED else TOLERANCE[name in self.coarse]  # weights are of about 1
            by_tolerance.setdefault(near, []).append(name)
        for near, names in by_tolerance.items():
            if not torch.allclose(flat(found, names), flat(expected, names), near, near, equal_nan=True):
                for name in names:
                    one, other = flat(found, [name]), flat(expected, [name])
                    torch.testing.assert_close(
                        one, other, rtol=near, atol=near, equal_nan=True, msg=f"average of {name}"
                    )


def flat(tensors: Weights, names: list[str]) -> Tensor:
    return torch.cat([tensors[name].reshape(-1).double() for name in names])


def inside(averager: Averager) -> tuple[dict[str, Tensor], list[Weights]]:
    """Return averages and snapshots as they are; `state_dict` would look the model up first."""
    averages = dict(averager._averages.tensors)
    return averages, averager.fold.snapshots(averages)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters (tied ones once) and saved buffers."""
    saved = model.state_dict().keys()
    found: dict[str, Tensor] = dict(model.named_parameters())
    return found | {name: buffer for name, buffer in model.named_buffers() if name in saved}


class StopError(Exception):
    """Raised inside a swap."""


INSIDE = ["evaluate", "train", "grow", "replace", "double", "bfloat16", "refused", "stop"]
REPLACED = ["to", "assign", "clone", "channels_last", "contiguous", "transposed", "turned in place", "there and back"]


class Training(RuleBasedStateMachine):
    """A model in training, its averagers (in a group if several), and a twin for each."""

    method: str
    model: Net
    averagers: list[Averager]
    twins: list[Twin]

    def __init__(self) -> None:
        super().__init__()
        self.random = torch.Generator().manual_seed(0)
        self.stale = False  # parameters were added, and the averagers do not know of them yet
        self.poisoned = False
        self.n_adapters = 0
        self.saved: list[tuple[bytes, Twin]] = []

    @initialize(
        others=st.lists(st.sampled_from(sorted(PASSIVE)), max_size=2),
        active=st.sampled_from(sorted(ACTIVE)),
        options=st.lists(st.sampled_from(OPTIONS), min_size=4, max_size=4),
        skip=st.booleans(),
        dtype=st.sampled_from(FLOATS),
    )
    def begin(
        self, others: list[str], active: str, options: list[dict[str, Any]], skip: bool, dtype: torch.dtype
    ) -> None:
        """Begin with the method alone, or in a group with others of which one switches."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = Net().to(dtype)
        plans = [(PASSIVE | ACTIVE)[name] for name in (self.method, *others)]
        if others and self.method in PASSIVE:
            plans.insert(len(others[0]) % 2, ACTIVE[active])  # before or after it
        self.twins = [Twin(plan, {**o, "skip_nonfinite": skip}) for plan, o in zip(plans, options, strict=False)]
        for twin in self.twins:
            twin.take_up(self.model)
        self.grouped = bool(others)
        self.make()
        self.note()

    def make(self) -> None:
        self.averagers = [twin.plan.make(self.model, **twin.options) for twin in self.twins]
        self.group = AveragerGroup(*self.averagers) if self.grouped else None

    def note(self) -> None:
        """Remember the model as it is: only what is changed on purpose may differ from now on."""
        held = tensors_of(self.model)
        self.known = bits(held)
        self.identities = {name: (id(p), p.requires_grad, p.data_ptr()) for name, p in self.model.named_parameters()}

    def noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.random, dtype=torch.float64).to(like.dtype)

    def batch(self) -> Tensor:
        return torch.randn(3, 1, 5, 5, generator=self.random).to(self.model.gain.dtype)

    @torch.no_grad()
    def drift(self) -> None:
        for parameter in self.model.parameters():
            parameter.mul_(0.95).add_(self.noise(parameter), alpha=0.1)
        statistics = [self.model.norm.running_mean, self.model.norm.running_var, self.model.cache]
        for buffer in [b for b in statistics if b is not None]:
            buffer.mul_(0.9).add_(self.noise(buffer).abs(), alpha=0.1)
        self.model.calls += 1
        self.model.ids.copy_(torch.randint(9, (3,), generator=self.random))
        self.note()

    def tick(self, event: Event) -> None:
        """Let averagers and twins see that a step or an epoch is over."""
        switched = []
        for averager, twin in zip(self.averagers, self.twins, strict=True):
            if event == "epoch":
                twin.take_up(self.model)
            _, switches = twin.tick(event, self.model)
            switched += [averager] if switches else []
        doer = self.group or self.averagers[0]
        (doer.update if event == "step" else doer.end_epoch)()
        for averager in switched:
            self.expect_average(averager)

    def expect_average(self, averager: Averager) -> None:
        """Expect the average in the model, in the model's own memory, and nothing else of it changed."""
        live = tensors_of(self.model)
        averages, _ = inside(averager)
        self.known |= {name: bits(average.to(live[name].dtype)) for name, average in averages.items()}

    # training

    @rule(n=st.integers(1, 6), epoch=st.booleans())
    def train(self, n: int, epoch: bool) -> None:
        for _ in range(n):
            self.drift()
            self.tick("step")
            self.all_is_as_the_twins_say()
        if epoch and not self.stale:
            self.end_epoch()

    @precondition(lambda self: not self.stale)
    @rule()
    def end_epoch(self) -> None:
        self.tick("epoch")

    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        averager, twin = self.choose(data)
        optimizer = None
        if not twin.can_switch():
            with pytest.raises(RuntimeError, match="nothing is averaged yet"):
                averager.switch()
            return
        if twin.plan == ACTIVE["sema-reset"]:
            optimizer = self.refuse_reset(averager)
        twin.switch(self.model)
        averager.switch()
        assert optimizer is None or not optimizer.state
        self.expect_average(averager)

    def refuse_reset(self, averager: Averager) -> torch.optim.Optimizer:
        """Without an optimizer no switch can reset its state; return one that is attached, and has a state."""
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        assert averager._handle is not None
        averager._handle.remove()
        with pytest.raises(RuntimeError, match=r"call attach\(optimizer\) first"):
            averager.switch()
        self.all_is_as_the_twins_say()
        averager.attach(optimizer)
        optimizer.state[self.model.table]["momentum_buffer"] = torch.ones(2)
        return optimizer

    def choose(self, data: st.DataObject) -> tuple[Averager, Twin]:
        which = data.draw(st.integers(0, len(self.twins) - 1))
        return self.averagers[which], self.twins[which]

    @rule(data=st.data(), on=st.booleans())
    def freeze(self, data: st.DataObject, on: bool) -> None:
        names = sorted(name for name, _ in self.model.named_parameters())
        self.model.get_parameter(data.draw(st.sampled_from(names))).requires_grad_(not on)
        self.note()

    @precondition(lambda self: all(twin.options["skip_nonfinite"] for twin in self.twins))
    @rule(
        value=st.sampled_from([math.nan, math.inf, -math.inf]), name=st.sampled_from(["table", "large.weight", "gaps"])
    )
    @torch.no_grad()
    def poison(self, value: float, name: str) -> None:
        parameter = self.model.get_parameter(name)
        parameter[-1, -1] = value
        self.poisoned = True
        self.note()
        self.train(2, epoch=True)

    @precondition(lambda self: self.poisoned)
    @rule()
    @torch.no_grad()
    def heal(self) -> None:
        for parameter in self.model.parameters():
            parameter.nan_to_num_(0.0, 0.0, 0.0)
        self.poisoned = False
        self.note()

    # reading the average

    @precondition(lambda self: not self.stale)
    @rule(
        data=st.data(),
        exchange=st.sampled_from([None, True, False]),
        inside=st.lists(st.sampled_from(INSIDE), max_size=3),
        write=st.booleans(),
        shared=st.booleans(),
    )
    def swap(self, data: st.DataObject, exchange: bool | None, inside: list[str], write: bool, shared: bool) -> None:
        self.train(2, epoch=True)
        averager, twin = self.choose(data)
        own = {name: tensor.detach().clone() for name, tensor in tensors_of(self.model).items()}
        before = self.identities
        other = self.model.large.weight.detach().view_as(self.model.large.weight) if shared else None
        twin.take_up(self.model)
        try:
            with averager.average_parameters(exchange=exchange):
                # as copies: numpy would take for a write what `bits` does
                entered = bits({name: tensor.detach().clone() for name, tensor in tensors_of(self.model).items()})
                assert other is None or torch.equal(other, self.model.large.weight)
                for what in ["write", *inside] if write else inside:
                    self.inside_swap(what, averager)
        except StopError:
            pass
        assert entered == bits(self.averaged(averager, own))
        final = self.model.gain.dtype  # a model that was moved inside stays moved, with its own values
        assert bits(tensors_of(self.model)) == bits({n: t.to(final) if is_float(t) else t for n, t in own.items()})
        self.note()
        if not {"replace", "double", "bfloat16"} & set(inside):
            assert self.identities == before

    def averaged(self, averager: Averager, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a model that holds these tensors holds with the average in it."""
        averages = inside(averager)[0] if averager.n_averaged else {}
        return {name: averages.get(name, tensor).to(tensor.dtype) for name, tensor in own.items()}

    def inside_swap(self, what: str, averager: Averager) -> None:
        model = self.model
        if what in ("evaluate", "train"):
            with torch.set_grad_enabled(what == "train"):
                out = model.train(what == "train")(self.batch())
            if what == "train" and out.requires_grad:
                out.sum().backward()
                model.zero_grad()
        elif what == "write":
            with torch.no_grad():
                for tensor in tensors_of(model).values():
                    tensor.copy_(torch.ones_like(tensor))
        elif what == "grow":
            model.cache = torch.ones(7, dtype=model.cache.dtype)
        elif what == "replace":
            model.load_state_dict({n: t.clone() for n, t in model.state_dict().items()}, assign=True)
            model.tied.weight = model.square.weight
        elif what == "refused":
            self.refuse_inside(averager)
        elif what == "stop":
            raise StopError
        else:
            model.to(getattr(torch, what))

    def refuse_inside(self, averager: Averager) -> None:
        before = bits({name: tensor.detach().clone() for name, tensor in tensors_of(self.model).items()})
        names = ["update", "end_epoch", "switch", "state_dict", "averaged_state_dict", "refresh"]
        calls: dict[str, Callable[[], object]] = {name: getattr(averager, name) for name in names}
        calls["load_state_dict"] = lambda: averager.load_state_dict({})
        calls["copy_to"] = lambda: averager.copy_to(self.model)
        calls["functional_call"] = lambda: averager.functional_call(self.batch())
        calls["average_parameters"] = lambda: averager.average_parameters().__enter__()
        for name, call in calls.items():
            with pytest.raises(RuntimeError, match=rf"^{name}\(\) inside average_parameters"):
                call()
        if self.group is not None:
            for refused in (self.group.update, self.group.end_epoch):
                with pytest.raises(RuntimeError, match=r"inside average_parameters"):
                    refused()
        assert bits(tensors_of(self.model)) == before

    @precondition(lambda self: not self.stale)
    @rule(data=st.data(), training=st.booleans())
    def call(self, data: st.DataObject, training: bool) -> None:
        averager, twin = self.choose(data)
        twin.take_up(self.model)
        self.model.train(training)
        x = self.batch()
        with torch.no_grad():
            found = averager.functional_call(x)
        other = copy.deepcopy(self.model)
        put(other, self.averaged(averager, tensors_of(self.model)))
        with torch.no_grad():
            expected = other(x)
        near = max(1e-10, 100 * torch.finfo(x.dtype).eps)  # memory is laid out in another way: sums differ in order
        torch.testing.assert_close(found, expected, rtol=min(near, 0.1), atol=min(near, 0.1), equal_nan=True)

    @precondition(lambda self: not self.stale)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        averager, twin = self.choose(data)
        twin.take_up(self.model)
        other = copy.deepcopy(self.model)
        found = averager.averaged_state_dict()
        assert list(found) == list(self.model.state_dict())
        expected = self.averaged(averager, tensors_of(self.model))
        assert bits({name: found[name] for name in expected}) == bits(expected)
        with torch.no_grad():
            for tensor in found.values():
                tensor.zero_()  # they are copies
            for parameter in other.parameters():
                parameter.zero_()
        averager.copy_to(other)
        assert bits(tensors_of(other)) == bits(expected)

    # saving

    def state(self) -> list[tuple[bytes, Twin]]:
        states = []
        for averager, twin in zip(self.averagers, self.twins, strict=True):
            file = io.BytesIO()
            torch.save(averager.state_dict(), file)
            states.append((file.getvalue(), copy.deepcopy(twin)))
        return states

    @rule()
    def save(self) -> None:
        self.saved = self.state()

    @precondition(lambda self: not self.stale)
    @rule()
    def resume(self) -> None:
        """Go on in new averagers of the same model."""
        states = self.state()
        self.make()
        self.twins = [twin.resumed(self.model) for twin in self.twins]
        for averager, (state, _) in zip(self.averagers, states, strict=True):
            load(averager, state)

    @precondition(lambda self: self.saved)
    @rule()
    def restore(self) -> None:
        """Go back to what was saved, in the same averagers; it is refused if it does not fit them."""
        for i, (averager, (saved, then)) in enumerate(zip(self.averagers, self.saved, strict=True)):
            now = self.twins[i]
            reshaped = {name for name in now.average if name in then.average and differ(name, now, then)}
            if now.average.keys() != then.average.keys() or reshaped - {"cache"}:
                with pytest.raises(ValueError, match=r"the average (does not fit|of '.*' has shape)"):
                    load(averager, saved)
                continue
            load(averager, saved)
            twin = self.twins[i] = copy.deepcopy(then)
            twin.dtypes, twin.stale = now.dtypes, now.stale
            twin.coarse |= {name for name, dtype in now.dtypes.items() if dtype is torch.float32}
            for name in reshaped:  # a buffer of another shape is left alone
                twin.average[name] = now.average[name]
                for snapshot in twin.snapshots:
                    snapshot.pop(name, None)

    @rule(data=st.data(), damage=st.sampled_from(["name", "shape", "kind", "counter"]))
    def load_what_does_not_fit(self, data: st.DataObject, damage: str) -> None:
        averager, _ = self.choose(data)
        state = averager.state_dict()
        if damage == "name":
            del state["averages"]["table"]
        elif damage == "shape":
            state["averages"]["table"] = torch.zeros(1, 1, 1)
        elif damage == "kind":
            state["made_of"]["kind"] = "unknown"
        else:
            state["counters"]["steps"] = -1
        with pytest.raises(ValueError, match=r"fit|shape|kind|damaged"):
            averager.load_state_dict(state)

    # a model that changes

    @precondition(lambda self: not self.stale)
    @rule(dtype=st.sampled_from(FLOATS))
    def move(self, dtype: torch.dtype) -> None:
        self.model.to(dtype)
        self.note()

    @precondition(lambda self: not self.stale)
    @rule(how=st.sampled_from(REPLACED))
    def replace(self, how: str) -> None:
        """Change where and how the same values lie."""
        model = self.model
        if how == "to":
            model.to("cpu")
        elif how == "assign":
            model.load_state_dict({n: t.clone() for n, t in model.state_dict().items()}, assign=True)
            model.tied.weight = model.square.weight
        elif how in ("channels_last", "contiguous"):
            model.to(memory_format=torch.channels_last if how == "channels_last" else torch.contiguous_format)
        elif how == "there and back":
            dtype = model.gain.dtype
            model.double().to(dtype)
        for parameter in model.parameters():
            if how == "clone":
                parameter.data = parameter.data.clone()
            elif how == "turned in place" and parameter is model.square.weight:  # other values in the same memory
                parameter.data = parameter.data.t()
            elif how == "transposed" and parameter.dim() == 2:
                parameter.data = parameter.data.t().contiguous().t()
        self.note()

    @precondition(lambda self: not self.stale)
    @rule(size=st.integers(0, 4), in_place=st.booleans())
    def reshape_buffer(self, size: int, in_place: bool) -> None:
        """Give a saved buffer another shape, in new memory or in what it has; averages take it up by themselves."""
        fits = in_place and size <= len(self.model.cache)
        self.model.cache = self.model.cache[:size] if fits else torch.full((size,), 0.5, dtype=self.model.cache.dtype)
        self.note()

    @precondition(lambda self: not self.stale)
    @rule(gone=st.booleans())
    def change_buffers(self, gone: bool) -> None:
        """Buffers come and go without a word; the next look at the model finds them."""
        late = self.model.norm._buffers.pop("late", None)
        if late is None and not gone:
            self.model.norm.register_buffer("late", torch.ones(2, dtype=self.model.gain.dtype))
        self.look()
        self.note()

    def look(self) -> None:
        """Let averagers take up what buffers there are, and where the model's tensors lie."""
        for averager, twin in zip(self.averagers, self.twins, strict=True):
            averager.averaged_state_dict()
            twin.take_up(self.model)

    @precondition(lambda self: not self.stale and self.n_adapters < 3)
    @rule()
    def add_adapter(self) -> None:
        """Put in parameters that the averagers do not know of."""
        self.look()  # an averager that must look the model up anew finds the adapter too, and refuses
        adapter = nn.Linear(8, 8)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.copy_(self.noise(parameter))
        self.model.adapters[str(self.n_adapters)] = adapter.to(self.model.gain.dtype)
        self.n_adapters += 1
        self.set_stale(True)
        self.note()

    @precondition(lambda self: self.stale)
    @rule()
    def refused_while_stale(self) -> None:
        self.refused_until_refresh()

    def refused_until_refresh(self) -> None:
        averager = self.averagers[-1]
        for call in (
            self.group.end_epoch if self.group else averager.end_epoch,
            averager.averaged_state_dict,
            lambda: averager.copy_to(self.model),
            lambda: averager.functional_call(self.batch()),
            lambda: averager.average_parameters().__enter__(),
        ):
            with pytest.raises(RuntimeError, match=r"call refresh\(\)"):
                call()
        self.all_is_as_the_twins_say()

    @precondition(lambda self: self.stale)
    @rule()
    def refresh(self) -> None:
        self.heal()
        self.set_stale(False)
        for averager, twin in zip(self.averagers, self.twins, strict=True):
            averager.refresh()
            twin.take_up(self.model)

    def set_stale(self, stale: bool) -> None:
        self.stale = stale
        for twin in self.twins:
            twin.stale = stale

    @precondition(lambda self: not self.stale)
    @rule(how=st.sampled_from(["module", "parameter", "grow", "narrow", "turn"]), step=st.booleans())
    def change_parameters(self, how: str, step: bool) -> None:
        """Remove or reshape parameters: all refuse to go on, an update that is due too, until `refresh`."""
        table, adapters = self.model.table, list(self.model.adapters)
        if how == "module":
            if not adapters:
                return
            del self.model.adapters[adapters[-1]]
        elif how == "parameter":
            if not adapters or self.model.adapters[adapters[-1]].bias is None:
                return
            self.model.adapters[adapters[-1]].register_parameter("bias", None)
        elif how == "narrow" and len(table) > 1:  # as to drop words from a vocabulary
            table.data = table.data[:-1]
        elif how == "turn" and table.shape[0] != table.shape[1]:
            table.data = table.data.t()
        else:
            table.data = torch.cat([table.data, table.data[:1]])
        self.note()
        self.refused_until_refresh()
        if step and how != "module":  # a module that was taken out is not missed before the epoch ends
            due = [twin.tick("step", self.model, alive=False)[0] for twin in self.twins]
            update = (self.group or self.averagers[0]).update
            if any(due):
                with pytest.raises(RuntimeError, match=r"call refresh\(\)"):
                    update()
            else:
                update()
        self.refresh()

    # what always holds

    @invariant()
    def all_is_as_the_twins_say(self) -> None:
        live = tensors_of(self.model)
        assert bits(live) == self.known
        places = {name: (id(p), p.requires_grad, p.data_ptr()) for name, p in self.model.named_parameters()}
        assert places == self.identities
        for averager, twin in zip(self.averagers, self.twins, strict=True):
            twin.check(averager, self.model)


def load(averager: Averager, saved: bytes) -> None:
    state = torch.load(io.BytesIO(saved), weights_only=True)
    averager.load_state_dict(state)
    for tensors in (state["averages"], *state["snapshots"]):
        for tensor in tensors.values():
            tensor.zero_()  # the averager has taken copies


def is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def differ(name: str, one: Twin, other: Twin) -> bool:
    return one.average[name].shape != other.average[name].shape


@torch.no_grad()
def put(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors_of(model).items():
        tensor.copy_(values[name])


EXAMPLES = int(os.environ.get("SEMA_EXAMPLES", "0"))
BATCH = 3  # so few that hypothesis does not begin to repeat itself


@pytest.mark.timeout(0 if EXAMPLES else 300)
@pytest.mark.filterwarnings("ignore:a switch every")  # at random moments, some keep little
@pytest.mark.parametrize("method", [*PASSIVE, *ACTIVE])
def test_whatever_happens_averagers_do_as_their_twins(method: str) -> None:
    for batch in range(max(1, EXAMPLES // BATCH // len(PASSIVE | ACTIVE))):
        training = seed(f"{method} {batch}")(type(f"Training{batch}", (Training,), {"method": method}))
        run_state_machine_as_test(
            training,
            settings=settings(
                max_examples=BATCH,
                stateful_step_count=30,
                deadline=None,
                database=None,
                phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )


# what it found, one short example each


def test_a_group_in_which_one_member_is_swapped_in_ends_no_epoch() -> None:
    model = nn.Linear(2, 2)
    group = AveragerGroup(SWA(model), EMA(model, 0.5))
    group.update()
    with group.averagers[1].average_parameters(), pytest.raises(RuntimeError, match=r"end_epoch\(\) inside"):
        group.end_epoch()
    assert group.averagers[0].n_averaged == 0


def test_a_refused_end_of_an_epoch_does_not_take_up_what_is_swapped_in() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("cache", torch.zeros(2))
    group = AveragerGroup(EMA(model, 0.5), EMA(model, 0.5))
    group.update()
    before = bits(group.averagers[0].state_dict())
    with group.averagers[1].average_parameters():
        model.register_buffer("cache", torch.ones(3))
        with pytest.raises(RuntimeError, match=r"end_epoch\(\) inside"):
            group.end_epoch()
    assert bits(group.averagers[0].state_dict()) == before


@pytest.mark.parametrize("switching_first", [True, False])
def test_in_a_group_all_are_updated_before_one_switches_at_the_end_of_an_epoch_too(switching_first: bool) -> None:
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    swa, sema = SWA(model), SwitchEMA(model, 0.5)
    group = AveragerGroup(sema, swa) if switching_first else AveragerGroup(swa, sema)
    nn.init.ones_(model.weight)
    group.update()
    group.end_epoch()
    assert model.weight.item() == 0.5
    assert swa.averaged_state_dict()["weight"].item() == 1.0


def test_the_clocks_of_a_group_stay_together_where_an_update_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    group = AveragerGroup(EMA(model, 0.5, update_after_step=1), SWA(model, update_every=2))
    model.get_submodule("1").register_parameter("bias", None)
    with pytest.raises(RuntimeError, match=r"call refresh\(\)"):
        group.update()
    assert len({averager.state_dict()["counters"]["steps"] for averager in group.averagers}) == 1


@pytest.mark.parametrize("change", [lambda t: t[:2], lambda t: t.t(), lambda t: t.view(3, 4)])
def test_a_parameter_that_is_reshaped_in_its_own_memory_is_an_error(change: Callable[[Tensor], Tensor]) -> None:
    model = nn.Embedding(4, 3)
    averager = EMA(model, 0.5)
    averager.update()
    model.weight.data = change(model.weight.data)
    with pytest.raises(RuntimeError, match=r"call refresh\(\)"):
        averager.update()
    with pytest.raises(RuntimeError, match=r"call refresh\(\)"), averager.average_parameters():
        pass


def test_a_square_parameter_that_is_transposed_in_its_own_memory_is_followed() -> None:
    model = nn.Linear(2, 2, bias=False)
    averager = EMA(model, 0.0)
    averager.update()
    model.weight.data = model.weight.data.t()
    averager.update()
    assert torch.equal(averager.averaged_state_dict()["weight"], model.weight)


def test_a_parameter_with_gaps_that_is_transposed_in_its_own_memory_is_followed() -> None:
    model = nn.Linear(4, 2, bias=False)
    model.weight.data = torch.arange(8.0).view(2, 4)[:, :3]
    averager = EMA(model, 0.0)
    averager.update()
    model.weight.data = model.weight.data.t()
    averager.refresh()
    averager.update()
    assert torch.equal(averager.averaged_state_dict()["weight"], model.weight)


@pytest.mark.parametrize("change", ["added", "removed", "reshaped"])
def test_a_window_can_be_saved_after_a_refresh(change: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    averager = LAWA(model, window=2, update_every=1)
    averager.update()
    if change == "added":
        model.append(nn.Linear(2, 2))
    elif change == "removed":
        del model[1]
    else:
        model[1] = nn.Linear(2, 3)
    averager.refresh()
    again = LAWA(model, window=2, update_every=1)
    again.load_state_dict(averager.state_dict())
    for each in (averager, again):
        each.update()
    assert bits(again.averaged_state_dict()) == bits(averager.averaged_state_dict())


def test_a_window_does_not_go_back_to_snapshots_from_before_a_change_of_shape() -> None:
    model = nn.Linear(1, 2, bias=False)
    nn.init.ones_(model.weight)
    averager = LAWA(model, window=3, update_every=1)
    averager.update()
    for size in (3, 2):
        model.weight.data = torch.zeros(size, 1)
        averager.refresh()
    averager.update()
    assert torch.equal(averager.averaged_state_dict()["weight"], torch.zeros(2, 1))


@pytest.mark.parametrize("make", [lambda m: EMA(m, 0.5, update_every=2), lambda m: LAWA(m, update_every=2)])
def test_averages_can_be_saved_after_a_buffer_grew(make: Callable[[nn.Module], Averager]) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("cache", torch.zeros(2))
    averager = make(model)
    for _ in range(2):
        averager.update()
    model.register_buffer("cache", torch.zeros(3))
    make(model).load_state_dict(averager.state_dict())


def test_functional_call_leaves_buffers_alone_that_are_not_averaged() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    averager = EMA(model, 0.5, use_buffers=False)
    averager.update()
    before = bits(model.state_dict())
    averager.functional_call(torch.randn(4, 2))
    assert bits(model.state_dict()) == before


def test_an_average_that_skips_weights_that_are_not_finite_does_not_start_from_them() -> None:
    model = nn.Linear(2, 2)
    averager = EMA(model, 0.5, update_after_step=1, skip_nonfinite=True)
    start = model.weight.detach().clone()
    nn.init.constant_(model.weight, math.nan)
    averager.update()
    with torch.no_grad():
        model.weight.copy_(start)
    averager.update()
    assert averager.averaged_state_dict()["weight"].isfinite().all()
