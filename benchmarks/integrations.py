"""What averaging adds to a training step inside other frameworks: `python -m benchmarks.integrations`.

Each round trains a ResNet-18 for some steps, with and without the average, in an order drawn anew; the ratio is taken
round by round.
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
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import describe
from benchmarks.measure import ratio
from benchmarks.rows import Row
from benchmarks.steps import DECAY, NETWORKS, Setting
from switch_ema import EMA

METHOD = partial(EMA, decay=DECAY)
WARM_UP = 3
"""Steps of each training that do not count."""


@dataclass
class Window:
    """The steps of a training that are timed.

    Attributes:
        steps: How many, after `WARM_UP`.
        setting: The training step.
        device: Where it is done.
        seconds: What they took.
    """

    steps: int
    setting: Setting
    device: torch.device
    seconds: float = float("nan")
    _begin: float = float("nan")
    _done: int = 0

    @property
    def total(self) -> int:
        """Steps that a training makes."""
        return WARM_UP + self.steps

    def step_done(self) -> None:
        """Count a step; call it after each."""
        self._done += 1
        if self._done in (WARM_UP, self.total):
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self._begin, self.seconds = time.perf_counter(), time.perf_counter() - self._begin

    def network(self) -> nn.Module:
        """Return the network, the same in every training."""
        torch.manual_seed(0)
        return NETWORKS[self.setting.network]()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the same random batch for ever."""
        size = self.setting.image_size
        images = torch.randn(self.setting.batch, 3, size, size, device=self.device)
        return itertools.repeat((images, torch.randint(10, (self.setting.batch,), device=self.device)))


Train = Callable[[Window, bool], None]
"""Trains `window.network()` for `window.total` steps with the method or without, calling `step_done()` after each."""


def measure_overhead(name: str, train: Train, setting: Setting, device: torch.device, rounds: int, steps: int) -> Row:
    """Return what averaging after every step adds to a framework's own training, in percent of that.

    Args:
        name: The framework.
        train: How it trains.
        setting: The training step.
        device: Where to train.
        rounds: Rounds that count; one more goes before.
        steps: Steps in each training.
    """
    times: dict[bool, list[float]] = {False: [], True: []}
    order, draw = [False, True], random.Random(0)
    for _ in range(rounds + 1):
        draw.shuffle(order)
        for averaged in order:
            window = Window(steps, setting, device)
            train(window, averaged)
            times[averaged].append(window.seconds / steps)
    share = ratio(times[True][1:], times[False][1:])
    low, median, high = (100 * (value - 1) for value in (share.low, share.median, share.high))
    note = f"{1e3 * statistics.median(times[False][1:]):.1f} ms a step without"
    return Row("integrations", str(setting), "every step", name, "%", median, low, high, None, note)


def train_lightning(window: Window, averaged: bool) -> None:
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
            callbacks=[*([WeightAveraging(METHOD)] if averaged else []), Timer()],
            accelerator=window.device.type,
            max_steps=window.total,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(Module(), Batches())


def train_accelerate(window: Window, averaged: bool) -> None:
    """Train in a loop with Accelerate."""
    from accelerate import Accelerator

    from switch_ema.integrations.accelerate import average

    accelerator = Accelerator(cpu=window.device.type == "cpu")
    network = window.network()
    model, optimizer = accelerator.prepare(network, sgd(network))
    if averaged:
        average(accelerator, METHOD, model, optimizer)
    for images, labels in itertools.islice(window.batches(), window.total):
        accelerator.backward(nn.functional.cross_entropy(model(images), labels))
        optimizer.step()
        optimizer.zero_grad()
        window.step_done()


def train_ignite(window: Window, averaged: bool) -> None:
    """Train with an engine of Ignite."""
    from ignite.engine import Events, create_supervised_trainer

    from switch_ema.integrations.ignite import WeightAveraging

    model = window.network().to(window.device)
    optimizer = sgd(model)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.cross_entropy, window.device)
    if averaged:
        WeightAveraging(METHOD, model).attach(trainer, optimizer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, window.step_done)
    trainer.run(window.batches(), max_epochs=1, epoch_length=window.total)


def train_transformers(window: Window, averaged: bool) -> None:
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
        if averaged:
            WeightAveragingCallback(METHOD).attach(trainer)
        trainer.train()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of all trainings."""
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


FRAMEWORKS: dict[str, Train] = {
    "Lightning": train_lightning,
    "Accelerate": train_accelerate,
    "Ignite": train_ignite,
    "Hugging Face Trainer": train_transformers,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integrations", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="rounds that count (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="steps in each training (default: %(default)s)")
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
        row = measure_overhead(name, FRAMEWORKS[name], setting, device, options.rounds, options.steps)
        print(f"{row.contender}: {row.value:+.2f} % ({row.low:+.2f} to {row.high:+.2f}), {row.note}", flush=True)


if __name__ == "__main__":
    main()
