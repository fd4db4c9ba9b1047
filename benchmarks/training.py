"""Training throughput of our image classification, and of its batches alone, beside a plain torch script.

All train the same CIFAR-style ResNet-18 by the same optimizer, with batches of the same augmentation and size. A round
is a whole epoch of each, from the order of the images to the last step; on a CPU the epoch has only a few steps. Ours
is what `sema compare` runs: the images lie on the device and are changed there. The scripts read Pillow images through
a DataLoader, with 2 workers on a CPU and one for each core on a GPU, which live on from epoch to epoch.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import plain
from benchmarks.baseline import baseline_run, baseline_settings
from benchmarks.cifar import TEST, TRAIN, cifar_folder
from benchmarks.measure import Action, interleave
from benchmarks.peers import OURS
from benchmarks.rows import Row, throughput_rows
from switch_ema.data.catalog import locate
from switch_ema.data.images import ImageSet, load
from switch_ema.tasks.catalog import create
from switch_ema.tasks.models import build_model

if TYPE_CHECKING:
    from switch_ema.bench.train import Run

BATCH = 128
STEPS = {"cpu": 4, "cuda": (TRAIN - TRAIN // 10) // BATCH}
"""Training steps in an epoch."""
BATCHES = {"cpu": 16, "cuda": STEPS["cuda"]}
"""Batches in an epoch where nothing is trained."""
HEAVY = {
    "randaugment": "7", "randaugment_ops": "timm", "erasing": "0.25", "mixup": "0.8", "cutmix": "1.0",
}  # fmt: skip
STRONG = "strong: RandAugment, erasing, and mixup or CutMix, too"
SCRIPT, NAMES = "torch + torchvision", {"cpu": "2 workers", "cuda": f"{os.cpu_count()} workers"}
Transform = Callable[[Sequence[float], Sequence[float]], Callable[[Any], Any]]


def measure_training(
    device: torch.device, rounds: int, *, steps: int | None = None, model: str = "resnet18", autocast: bool = False
) -> Iterator[Row]:
    """Time epochs of training, and yield the rows: images a second, and how many times as fast ours is.

    Args:
        device: Where to train.
        rounds: Rounds that count.
        steps: Steps in an epoch; by default `STEPS`.
        model: The network.
        autocast: Whether forward passes run in bfloat16.
    """
    steps = steps or STEPS[device.type]
    with _data(steps) as (folder, found, what):
        ours = _our_run(folder, device, steps, model, autocast)
        actions: dict[str, Callable[[], float]] = {OURS.name: ours.train_epoch}
        for name, channels_last in ((SCRIPT, False), (f"{SCRIPT}, channels_last", True)):
            torch.manual_seed(0)
            network = build_model(model, 10, 3, 32).to(device)
            batches = _loader(found, plain.crop_flip, device)
            script = plain.Script(network, batches, device, ours.lr, channels_last, autocast)
            actions[name] = script.train_epoch
        for name, action in actions.items():  # fills caches, and is the check
            if not math.isfinite(loss := action()):
                raise RuntimeError(f"{name} does not train: its mean loss is {loss}")
        times = interleave(actions, rounds, device, warm_up=0)
    precision = ", bfloat16 autocast" if autocast else ""
    table = f"{model}, batch {BATCH}, {steps} steps a round, {NAMES[device.type]}{precision}; {what}"
    yield from throughput_rows("training", table, "images/s", times, OURS.name, steps * BATCH, "images/s")


def measure_data(device: torch.device, rounds: int, *, batches: int | None = None) -> Iterator[Row]:
    """Time epochs of batches that nobody trains on, and yield the rows: batches a second.

    Args:
        device: Where the batches are to be.
        rounds: Rounds that count.
        batches: Batches in an epoch; by default `BATCHES`.
    """
    number = batches or BATCHES[device.type]
    kinds: dict[str, tuple[Mapping[str, str], dict[str, Transform], bool]] = {
        "crop, flip": (
            {}, {"torchvision": plain.crop_flip, "torchvision v2": plain.crop_flip_v2}, False,
        ),
        "strong": (
            HEAVY, {"torchvision v2": plain.heavy_torchvision, "timm, torchvision v2": plain.heavy_timm}, True,
        ),
    }  # fmt: skip
    with _data(number) as (folder, found, what):
        for kind, (options, peers, mixed) in kinds.items():
            actions = {OURS.name: _our_batches(folder, number, options, device)}
            for name, transform in peers.items():
                actions[name] = plain.through(_loader(found, transform, device, mixed), device)
            times = interleave(actions, rounds, device, warm_up=1)
            table = f"batches of {BATCH}, {number} a round, {NAMES[device.type]}; {what}; {STRONG}"
            yield from throughput_rows("data", table, kind, times, OURS.name, number, "/s")


@contextmanager
def _data(steps: int) -> Iterator[tuple[Path, ImageSet, str]]:
    """Lend a folder with the images of an epoch, these images, and what they are."""
    num_train = min(TRAIN, math.ceil(steps * BATCH / 45) * 50)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what = cifar_folder(folder, num_train, TEST // 10)
        yield folder, load(locate(str(folder)), train_size=steps * BATCH), what


def _our_run(folder: Path, device: torch.device, steps: int, model: str, autocast: bool) -> Run:
    given = {
        "data": str(folder), "model": model, "batch_size": BATCH, "lr": 0.01,
        "precision": "bf16-mixed" if autocast else "32-true",
    }  # fmt: skip
    settings = baseline_settings("classification", given, {"train_size": str(steps * BATCH)})
    return baseline_run(settings, device, steps)


def _our_batches(folder: Path, number: int, options: Mapping[str, str], device: torch.device) -> Action:
    given = {"train_size": str(number * BATCH), **options}
    task = create("classification", seed=0, data=str(folder), options=given)
    seeds = count()

    def run() -> None:
        taken = sum(1 for _ in task.train_batches(BATCH, next(seeds), device))
        if taken != number:
            raise RuntimeError(f"our epoch has {taken} batches, not {number}")

    return run


def _loader(found: ImageSet, transform: Transform, device: torch.device, mixed: bool = False) -> Any:
    mean, std = ([value / 255 for value in values] for values in (found.mean, found.std))
    data = plain.PILImages(found.train.images, found.train.labels, transform(mean, std))
    workers = 2 if device.type == "cpu" else os.cpu_count() or 1
    return plain.loader(data, BATCH, workers, device, plain.Mixed(10) if mixed else None)
