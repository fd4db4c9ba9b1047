"""What an average adds to a real training step: each round is one step, then every contender's update after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torchvision
from torch import nn

import switch_ema
from benchmarks.measure import Action, interleave, ratio, seconds, spread
from benchmarks.peers import OURS, PEERS, Average
from benchmarks.rows import Row, plain_row

DECAY = 0.999
STEP = "(training step)"
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(weights=None, num_classes=10),
    "resnet50": lambda: torchvision.models.resnet50(weights=None, num_classes=10),
}
METHODS: dict[str, tuple[Callable[[nn.Module], switch_ema.Averager], int]] = {
    "SwitchEMA, switch_every=20": (lambda model: switch_ema.SwitchEMA(model, 0.9, switch_every=20), 20),
    "Lookahead": (switch_ema.Lookahead, 5),
}
"""Other methods of ours, with the number of steps after which their work repeats."""


@dataclass(frozen=True)
class Setting:
    """The training step.

    Attributes:
        network: A network of `NETWORKS`.
        batch: Images in a batch.
        image_size: Their width and height.
        autocast: Whether the forward pass runs in bfloat16.
    """

    network: str = "resnet18"
    batch: int = 128
    image_size: int = 32
    autocast: bool = False

    def __str__(self) -> str:
        precision = ", bfloat16 autocast" if self.autocast else ""
        return f"{self.network}, batch {self.batch}, {self.image_size} x {self.image_size}{precision}"


def measure_steps(setting: Setting, device: torch.device, rounds: int, every: int = 16) -> Iterator[Row]:
    """Yield what each contender takes, in percent of the step: updated after every step, and after each `every`-th.

    A cost that comes every so many steps is timed over as many calls in a row and divided. Ours counts the steps itself
    (`update_every`); the peers are called at every 16th step by hand, which costs a sixteenth, and keeps their decay as
    it is: their average then looks back 16 times as far.
    """
    model = NETWORKS[setting.network]().to(device)
    step = training_step(model, setting, device)
    step()
    contenders: dict[str, Average] = {peer.name: peer.make(model, DECAY) for peer in PEERS if peer.suits(model)}
    slow = switch_ema.EMA(model, DECAY, update_every=every)
    methods = {name: (make(model), period) for name, (make, period) in METHODS.items()}
    actions: dict[str, Action] = {name: average.update for name, average in contenders.items()}
    actions["every"] = _repeat(slow.update, every)
    actions |= {name: _repeat(averager.update, period) for name, (averager, period) in methods.items()}
    steps: list[float] = []
    times = interleave(actions, rounds, device, before=lambda: steps.append(seconds(step, device)), warm_up=1)
    del steps[:-rounds]
    table, both = str(setting), ("every step", f"every {every} steps")
    milliseconds = spread([1e3 * value for value in steps])
    for case in both:
        yield plain_row("step", table, case, STEP, "ms", milliseconds)
    for name in contenders:
        share = ratio([100 * value for value in times[name]], steps)
        yield plain_row("step", table, both[0], name, "%", share)
        calls = [100 * value / every for value in times["every" if name == OURS.name else name]]
        yield plain_row("step", table, both[1], name, "%", ratio(calls, steps))
    for name, (_, period) in methods.items():
        share = ratio([100 * value / period for value in times[name]], steps)
        yield plain_row("step", table, both[0], f"{OURS.name} {name}", "%", share)


def training_step(model: nn.Module, setting: Setting, device: torch.device) -> Action:
    """Return a step of training on random images."""
    torch.manual_seed(0)
    images = torch.randn(setting.batch, 3, setting.image_size, setting.image_size, device=device)
    labels = torch.randint(10, (setting.batch,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=setting.autocast):
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    return step


def _repeat(action: Action, times: int) -> Action:
    def repeat() -> None:
        for _ in range(times):
            action()

    return repeat
