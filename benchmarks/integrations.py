"""What averaging adds to a training step inside other frameworks: `python -m benchmarks.integrations`.

A ResNet-18 is trained for some steps. Whole trainings with and without the average take turns, in an order drawn anew:
what this says has the noise of a machine over minutes. And a training that updates the average after every second step
has each such step compared with the one before, so that little else can differ.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from scipy.stats import quantile_test
from torch import Tensor, nn

from benchmarks.machine import describe
from benchmarks.measure import ratio
from benchmarks.rows import Row
from benchmarks.steps import DECAY, NETWORKS, Setting
from switch_ema import EMA, Averager

EVERY_STEP, EVERY_SECOND = partial(EMA, decay=DECAY), partial(EMA, decay=DECAY, update_every=2)
Method = Callable[[nn.Module], Averager]
WARM_UP = 4
"""Steps of each training that do not count; an even number."""


@dataclass
class Window:
    """The steps of a training that are timed.

    Attributes:
        steps: How many, after `WARM_UP`.
        setting: The training step.
        device: Where it is done.
    """

    steps: int
    setting: Setting
    device: torch.device
    _ends: list[Any] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Steps that a training makes."""
        return WARM_UP + self.steps

    @property
    def seconds(self) -> list[float]:
        """What each step took; the first one has an odd number."""
        counted = itertools.pairwise(self._ends[WARM_UP - 1 :])
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return [begin.elapsed_time(end) / 1e3 for begin, end in counted]
        return [end - begin for begin, end in counted]

    def step_done(self) -> None:
        """Count a step; call it after each."""
        if self.device.type == "cuda":
            self._ends.append(torch.cuda.Event(enable_timing=True))
            self._ends[-1].record()
        else:
            self._ends.append(time.perf_counter())

    def network(self) -> nn.Module:
        """Return the network, the same in every training."""
        torch.manual_seed(0)
        return NETWORKS[self.setting.network]()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the same random batch for ever."""
        size = self.setting.image_size
        images = torch.randn(self.setting.batch, 3, size, size, device=self.device)
        return itertools.repeat((images, torch.randint(10, (self.setting.batch,), device=self.device)))


Train = Callable[[Window, Method | None], None]
"""Trains `window.network()` for `window.total` steps with a method or without, calling `step_done()` after each."""


def whole_trainings(name: str, train: Train, setting: Setting, device: torch.device, rounds: int, steps: int) -> Row:
    """Return what averaging after every step adds to a framework's own training, in percent of that, with quartiles.

    Args:
        name: The framework.
        train: How it trains.
        setting: The training step.
        device: Where to train.
        rounds: Rounds that count; one more goes before.
        steps: Steps in each training.
    """
    times: dict[Method | None, list[float]] = {None: [], EVERY_STEP: []}
    order, draw = list(times), random.Random(0)
    for _ in range(rounds + 1):
        draw.shuffle(order)
        for method in order:
            window = Window(steps, setting, device)
            train(window, method)
            times[method].append(statistics.fmean(window.seconds))
    share = ratio(times[EVERY_STEP][1:], times[None][1:])
    note = f"{1e3 * statistics.median(times[None][1:]):.1f} ms a step without"
    return _row(setting, "whole trainings, quartiles", name, (share.median, share.low, share.high), note)


def neighbouring_steps(name: str, train: Train, setting: Setting, device: torch.device, rounds: int, steps: int) -> Row:
    """Return what an update adds to a step, in percent of the one before it that has none, with a 95 % interval.

    Args:
        name: The framework.
        train: How it trains.
        setting: The training step.
        device: Where to train.
        rounds: Trainings that count; one more goes before.
        steps: Steps in each training, an even number.
    """
    without, updated = list[float](), list[float]()
    for number in range(rounds + 1):
        window = Window(steps, setting, device)
        train(window, EVERY_SECOND)
        if number:
            without += window.seconds[::2]
            updated += window.seconds[1::2]
    shares = [each / before for each, before in zip(updated, without, strict=True)]
    interval = quantile_test(shares, p=0.5).confidence_interval(0.95)
    note = f"{1e3 * statistics.median(without):.1f} ms a step without, {len(shares)} pairs"
    middle = statistics.median(shares)
    return _row(setting, "neighbouring steps, 95 % interval", name, (middle, interval.low, interval.high), note)


def _row(setting: Setting, case: str, name: str, share: tuple[float, float, float], note: str) -> Row:
    middle, low, high = (100 * (value - 1) for value in share)
    return Row("integrations", str(setting), case, name, "%", middle, low, high, None, note)


def train_plain(window: Window, method: Method | None) -> None:
    """Train in a loop of one's own, beside which the frameworks' own cost is seen."""
    model = window.network().to(window.device)
    optimizer = sgd(model)
    averager = method(model) if method else None
    for images, labels in itertools.islice(window.batches(), window.total):
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if averager is not None:
            averager.update()
        window.step_done()


def train_lightning(window: Window, method: Method | None) -> None:
    """Train with Lightning's Trainer."""
    from lightning.pytorch import Callback, LightningModule, Trainer

    from switch_ema.integrations.lightning import WeightAveraging

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = window.network()

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self.net)

    class Timer(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            window.step_done()

    class Batches:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return window.batches()

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            callbacks=[*([WeightAveraging(method)] if method else []), Timer()],
            accelerator=window.device.type,
            max_steps=window.total,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(Module(), Batches())


def train_accelerate(window: Window, method: Method | None) -> None:
    """Train in a loop with Accelerate."""
    from accelerate import Accelerator

    from switch_ema.integrations.accelerate import average

    accelerator = Accelerator(cpu=window.device.type == "cpu")
    network = window.network()
    model, optimizer = accelerator.prepare(network, sgd(network))
    if method:
        average(accelerator, method, model, optimizer)
    for images, labels in itertools.islice(window.batches(), window.total):
        accelerator.backward(nn.functional.cross_entropy(model(images), labels))
        optimizer.step()
        optimizer.zero_grad()
        window.step_done()


def train_ignite(window: Window, method: Method | None) -> None:
    """Train with an engine of Ignite."""
    from ignite.engine import Events, create_supervised_trainer

    from switch_ema.integrations.ignite import WeightAveraging

    model = window.network().to(window.device)
    optimizer = sgd(model)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.cross_entropy, window.device)
    if method:
        WeightAveraging(method, model).attach(trainer, optimizer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, window.step_done)
    trainer.run(window.batches(), max_epochs=1, epoch_length=window.total)


def train_transformers(window: Window, method: Method | None) -> None:
    """Train with the Trainer of transformers."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    from switch_ema.integrations.transformers import WeightAveragingCallback

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = window.network()

        def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": nn.functional.cross_entropy(self.net(images), labels)}

    class Timer(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            window.step_done()

    images, labels = next(window.batches())
    rows = [{"images": image.cpu(), "labels": label.cpu()} for image, label in zip(images, labels, strict=True)]
    network = Network()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=window.total,
            per_device_train_batch_size=len(rows),
            use_cpu=window.device.type == "cpu",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            save_strategy="no",
            remove_unused_columns=False,
        )
        trainer = Trainer(network, arguments, train_dataset=rows, optimizers=(sgd(network), None), callbacks=[Timer()])
        trainer.remove_callback(PrinterCallback)
        if method:
            WeightAveragingCallback(method).attach(trainer)
        trainer.train()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of all trainings."""
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


FRAMEWORKS: dict[str, Train] = {
    "plain loop": train_plain,
    "Lightning": train_lightning,
    "Accelerate": train_accelerate,
    "Ignite": train_ignite,
    "Hugging Face Trainer": train_transformers,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integrations", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="rounds that count (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="steps in each training, even (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(FRAMEWORKS), default=list(FRAMEWORKS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    device = torch.device(options.device)
    setting = Setting(batch=options.batch)
    machine = describe(device, options.rounds)
    print(f"{setting}; {machine['device']}, {machine['processor']}, {machine['threads']} threads, {machine['date']}")
    for name in options.only:
        for measure in (neighbouring_steps, whole_trainings):
            row = measure(name, FRAMEWORKS[name], setting, device, options.rounds, options.steps)
            spread = f"{row.value:+.2f} % ({row.low:+.2f} to {row.high:+.2f})"
            print(f"{row.contender}, {row.case}: {spread}, {row.note}", flush=True)


if __name__ == "__main__":
    main()
