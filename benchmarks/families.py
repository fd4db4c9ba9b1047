"""Training steps of every task but classification, beside a plain script of the library that its networks come from.

Both sides train the same network from the same weights, by the same optimizer, at the same rates, clipping and batch
size. A round is a whole epoch of each, of a few steps: of ours what `sema compare` runs, whose batches are read,
decoded or generated as they are there; of the script a loop over a DataLoader whose examples lie in memory as tensors,
with workers on a GPU. Networks for a CPU are small, those for a GPU have their real sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from benchmarks import plain
from benchmarks.baseline import baseline_run, baseline_settings
from benchmarks.cifar import use_data
from benchmarks.measure import interleave, spread
from benchmarks.peers import OURS
from benchmarks.plainloops import SCRIPTS, Loop
from benchmarks.rows import Row, plain_row, throughput_rows
from switch_ema.errors import FieldError, InputError

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from switch_ema.bench.settings import Settings
    from switch_ema.bench.train import Run
    from switch_ema.tasks.detection.average_precision import Found

SECTION = "families"
WORKERS = {"cpu": 0, "cuda": 4}
RATE = 1e-4  # a small one: hundreds of steps must not lead into numbers that are not finite
ALIKE = 1.25  # how many times the loss of one side may be that of the other in the first epoch
DETECTIONS = 100  # on an image: as many as COCO counts


@dataclass(frozen=True)
class Family:
    """A task with one of its networks.

    Attributes:
        task: Name of the task.
        model: Name of the network.
        batch_size: Examples in a batch.
        steps: Steps in a round.
        data: Name of the data; None for those that are embedded.
        options: Options of the task.
    """

    task: str
    model: str
    batch_size: int
    steps: int
    data: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Task and network."""
        return f"{self.task} {self.model}"

    def settings(self) -> Settings:
        """Return the settings of our run.

        Raises:
            InputError: The data are not there.
        """
        given = {"data": self.data, "model": self.model, "batch_size": self.batch_size, "lr": RATE}
        options = {**self.options, "train_size": str(self.steps * self.batch_size)}
        return baseline_settings(self.task, given, options)


_BCCD = {"backbone": "resnet50", "sizes": "480", "flip": "0", "skip_invalid": "true"}
_GPT = {"layers": "6", "width": "384", "heads": "6", "context": "256"}

FAMILIES: Mapping[str, tuple[Family, ...]] = {
    "cpu": (
        Family("detection", "fcos", 8, 4),
        Family("segmentation", "mask-rcnn", 8, 4),
        Family("generation", "unet-small", 32, 6),
        Family("video", "simvp-gsta", 16, 4),
        Family("language", "lstm", 16, 24),
        Family("language", "gpt", 16, 8),
        Family("textclass", "bert-small", 16, 8),
    ),
    "cuda": (
        Family("detection", "faster-rcnn", 4, 30, "bccd", _BCCD),
        Family("generation", "unet-cifar10", 128, 20, "cifar10", {"flip": "false"}),
        Family("video", "simvp-gsta", 16, 20, "moving-mnist"),
        Family("video", "convlstm", 16, 20, "moving-mnist"),
        Family("language", "gpt", 64, 18, options=_GPT),
        Family("textclass", "bert-base", 32, 16, options={"max_length": "128"}),
    ),
}
"""What is measured on each kind of device."""


def measure_family(family: Family, device: torch.device, rounds: int) -> Iterator[Row]:
    """Time epochs of training, and yield the rows: steps a second, and how many times as fast ours is.

    Args:
        family: What to train.
        device: Where to train.
        rounds: Rounds that count.

    Returns:
        Rows; only one, with a note, where the data are absent.
    """
    script = SCRIPTS[family.task]
    use_data()
    try:
        settings = family.settings()
    except FieldError:
        raise
    except InputError as error:
        yield Row(SECTION, family.name, "steps/s", OURS.name, note=f"not measured: {error}")
        return
    ours = baseline_run(settings, device, family.steps)
    loop = _plain_loop(family, ours, device)
    actions = {OURS.name: ours.train_epoch, script.library: loop.train_epoch}
    check_alike(family.name, {name: action() for name, action in actions.items()})  # and warm up
    times = interleave(actions, rounds, device, warm_up=0)
    clip = f", clip norm {settings.clip_norm:g}" if settings.clip_norm is not None else ""
    options = "".join(f", {name} {value}" for name, value in family.options.items())
    table = (
        f"{family.name}, {settings.data}{options}, {settings.optimizer}{clip}, batch {family.batch_size}, "
        f"{family.steps} steps a round, {WORKERS[device.type] or 'no'} workers"
    )
    yield from throughput_rows(SECTION, table, "steps/s", times, OURS.name, family.steps, "steps/s")


def check_alike(name: str, losses: Mapping[str, float]) -> None:
    """Refuse losses of a first epoch, by contender, that are not finite or that lie further apart than `ALIKE`.

    Raises:
        RuntimeError: They are.
    """
    low, high = min(losses.values()), max(losses.values())
    if not all(map(math.isfinite, losses.values())) or not 0 < high <= ALIKE * low:
        raise RuntimeError(f"{name}: the contenders do not train the same: their mean losses are {dict(losses)}")


def _plain_loop(family: Family, ours: Run, device: torch.device) -> Loop:
    """Return the script, with the examples and weights that ours has."""
    script, task = SCRIPTS[family.task], ours.task
    everything = next(task.train_batches(task.num_train, 0, torch.device("cpu")))
    examples = cast("Dataset[Any]", script.examples(everything))  # a list will do
    batches = plain.loader(examples, family.batch_size, WORKERS[device.type], device, script.collate)
    network = task.build_model().to(device)
    network.load_state_dict(ours.module.state_dict())
    return Loop(network, batches, script.loss, ours.settings, device)


def measure_evaluation(rounds: int) -> Iterator[Row]:
    """Time the average precision of detections on the test images of BCCD, the index of the truth included.

    Args:
        rounds: Rounds that count.

    Returns:
        One row; with a note where the data are absent.
    """
    from switch_ema.data.detection.catalog import locate
    from switch_ema.data.detection.load import load
    from switch_ema.tasks.detection.average_precision import AveragePrecision

    use_data()
    case = "average precision"
    try:
        data = load(locate("bccd"), skip_invalid=True)
    except InputError as error:
        yield Row(SECTION, "evaluation", case, OURS.name, note=f"not measured: {error}")
        return
    classes = len(data.class_names)
    generator = np.random.default_rng(0)
    found = [_guesses(size, classes, generator) for size in data.test.sizes]

    def evaluate() -> Any:
        return AveragePrecision(data.test, classes).boxes(found)

    taken = interleave({OURS.name: evaluate}, rounds, torch.device("cpu"), warm_up=1)[OURS.name]
    table = f"evaluation, {len(found)} test images of bccd, {DETECTIONS} random detections on each"
    yield plain_row(SECTION, table, case, OURS.name, "s", spread(taken))


def _guesses(size: np.ndarray[Any, Any], classes: int, generator: np.random.Generator) -> Found:
    """Return random boxes, at least a pixel wide and high, in an image of some height and width."""
    from switch_ema.tasks.detection.average_precision import Found

    corners = generator.uniform(0, 0.7, (DETECTIONS, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(0.05, 0.3, corners.shape)], 1)
    scale = np.tile(size[::-1], 2)
    scores, labels = generator.random(DETECTIONS), generator.integers(0, classes, DETECTIONS)
    return Found((boxes * scale).astype(np.float32), scores.astype(np.float32), labels)
