"""What averaging adds to a training step of the demo's network: `make bench`.

Plain and averaged steps are interleaved in one process, and compared as a ratio of means.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import switch_ema
from switch_ema.averaging.averager import Averager
from switch_ema.tasks.models import build_model

METHODS: dict[str, Callable[[nn.Module], Averager]] = {
    "EMA": lambda model: switch_ema.EMA(model, 0.99),
    "SwitchEMA": lambda model: switch_ema.SwitchEMA(model, 0.9, switch_every=20),
    "Lookahead": switch_ema.Lookahead,
    "EMA, update_every=16": lambda model: switch_ema.EMA(model, 0.99, update_every=16),
}


def seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=400)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    images, labels = torch.randn(64, 1, 8, 8), torch.randint(10, (64,))
    model = build_model("small-resnet", num_classes=10, in_channels=1, image_size=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    averagers = {name: make(model) for name, make in METHODS.items()}

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    times: dict[str, list[float]] = {"step": [], **{name: [] for name in averagers}}
    for _ in range(options.repeats):
        times["step"].append(seconds(step))
        for name, averager in averagers.items():
            times[name].append(seconds(averager.update))
    mean_step = statistics.fmean(sorted(times["step"])[: int(0.98 * options.repeats)])
    print(
        f"small-resnet, batch 64, torch {torch.__version__}, {options.threads} threads: step {1e3 * mean_step:.2f} ms"
    )
    for name in averagers:
        # the mean, for methods that act now and then, without the slowest 2 % that the machine's other work takes
        mean = statistics.fmean(sorted(times[name])[: int(0.98 * options.repeats)])
        print(f"  {name:22} {1e6 * mean:7.0f} us  {100 * mean / mean_step:5.2f} % of a step")


if __name__ == "__main__":
    main()
