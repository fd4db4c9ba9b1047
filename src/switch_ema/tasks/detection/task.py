"""Object detection and instance segmentation: find the objects in an image, their classes, boxes and masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.bench.exhibit import Picture
from switch_ema.bench.task import WHOLE, Metric, Shard, Split, Task
from switch_ema.data.detection.load import load
from switch_ema.errors import InputError
from switch_ema.tasks.detection import options as accepted
from switch_ema.tasks.detection.average_precision import AveragePrecision, Found, encoded, sizes_there
from switch_ema.tasks.detection.batches import Batch, SceneBatches, held_out, on_device
from switch_ema.tasks.detection.exhibits import picture, shown
from switch_ema.tasks.detection.losses import summed_losses
from switch_ema.tasks.detection.models.build import build_detector
from switch_ema.tasks.options import read_options

_EVALUATION_BATCH = 8  # images; those of photographs fill gigabytes
_USUAL_FLIP = 0.5
_FOREGROUND = 0.5  # from which probability on a pixel belongs to a mask


class Detection(Task):
    """Find the objects in an image, with their classes and boxes.

    The loss is the sum of the detector's own. The metrics are COCO's average precision of boxes, ``ap``, ``ap50`` and
    ``ap75``, and of small, medium and large objects where both held-out splits have such (see
    `switch_ema.tasks.detection.average_precision`). Crowds are left out of training. The splits are the same for every
    seed and every ``train_size``.

    Args:
        data: A named data set or a folder (see `switch_ema.data.detection.catalog`).
        model: A detector (see `switch_ema.tasks.detection.models`).
        seed: Not used: nothing is drawn that belongs to the problem.
        options: Any of `switch_ema.tasks.detection.options.OPTIONS`.

    Raises:
        InputError: An argument or the data are wrong, or they do not go together.

    Example:
        >>> task = Detection(train_size=8)
        >>> images, targets = next(task.train_batches(4, seed=0, device=torch.device("cpu")))
        >>> len(images), images[0].shape[0], sorted(targets[0])
        (4, 3, ['boxes', 'labels'])
    """

    name = "detection"
    _masks = False

    def __init__(
        self, *, data: str = accepted.DEFAULT_DATA, model: str = "fcos", seed: int = 0, **options: Any
    ) -> None:
        check = accepted.check_segmentation if self._masks else accepted.check_detection
        source = check(data, model, options)
        chosen = accepted.Chosen(**read_options(accepted.OPTIONS, options))
        found = load(source, train_size=chosen.train_size, masks=self._masks, skip_invalid=chosen.skip_invalid)
        if self._masks and not found.has_masks:
            raise InputError(f"{data} has no masks; write sema compare detection, or add a segmentation to its objects")
        embedded = data == accepted.DEFAULT_DATA
        flip = chosen.flip if chosen.flip is not None else 0.0 if embedded else _USUAL_FLIP
        self.data, self.model = data, model
        self.num_train = len(found.train)
        self.skipped = found.skipped
        self._options = chosen
        self._sizes = chosen.sizes or ((int(found.train.sizes.min()),) if embedded else (accepted.USUAL_SIZE,))
        self._class_names = found.class_names
        self._batches = SceneBatches(found.train, flip=flip, masks=self._masks)
        self._scenes = {"val": found.val, "test": found.test}
        self._truth: dict[str, AveragePrecision] = {}
        names = ("ap", "ap50", "ap75", *sizes_there(found.val, found.test))
        names += ("box_ap", "box_ap50", "box_ap75") if self._masks else ()
        self.metrics = tuple(Metric(name, higher_is_better=True) for name in names)

    def build_model(self) -> nn.Module:
        """Make a new detector; its weights come from torch's global random generator, or in part from a file."""
        chosen = self._options
        return build_detector(
            self.model, len(self._class_names), masks=self._masks, backbone=chosen.backbone, sizes=self._sizes,
            max_size=chosen.max_size, weights=chosen.weights, frozen_stages=chosen.frozen_stages,
        )  # fmt: skip

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Return one epoch of shuffled batches; a last, smaller one is dropped.

        The order and which images are mirrored are drawn at once on the CPU, so they are the same for every device and
        number of processes; each process takes its slice of every batch.

        Args:
            batch_size: Images in a batch, over all processes.
            seed: Decides order and mirroring; torch's global random generator is left alone.
            device: Where the batches are made.
            shard: Which slice of every batch to take.

        Raises:
            InputError: The batch is larger than the training set, or its processes cannot share it equally.
        """
        return self._batches.epoch(batch_size, seed, device, shard)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of the detector's losses of a batch (see `switch_ema.tasks.detection.losses`)."""
        return summed_losses(model, batch)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure average precision over every image of a split.

        Args:
            model: The detector, which the caller has put in evaluation mode.
            split: ``val`` or ``test``.
            device: Where the detector is.

        Returns:
            The values of `metrics`, from 0 to 1.
        """
        scenes = self._scenes[split]
        if split not in self._truth:
            self._truth[split] = AveragePrecision(scenes, len(self._class_names), masks=self._masks)
        truth = self._truth[split]
        batches = held_out(scenes, _EVALUATION_BATCH, device)
        found = [_found(output, self._masks) for images in batches for output in model(images)]
        values = truth.masks(found) if self._masks else truth.boxes(found)
        if self._masks:
            values |= {f"box_{name}": value for name, value in truth.boxes(found).items()}
        return {metric.name: values[metric.name] for metric in self.metrics}

    @torch.no_grad()
    def exhibits(self, model: nn.Module, device: torch.device) -> Sequence[Picture]:
        """Return the first test images that have objects, with what the detector finds in them and the truth."""
        test = self._scenes["test"]
        numbers = shown(test)
        images = on_device(map(test.image, numbers), device)
        return [
            picture(place, image.cpu(), test.objects[number], _on_cpu(output, self._masks), self._class_names)
            for place, (number, image, output) in enumerate(zip(numbers, images, model(images), strict=True))
        ]


class Segmentation(Detection):
    """Find the objects in an image, with their classes, boxes and masks.

    As `Detection`, but ``ap``, ``ap50`` and ``ap75``, and those of small, medium and large objects, are of masks; those
    of boxes are ``box_ap``, ``box_ap50`` and ``box_ap75``.

    Args:
        data: A named data set or a folder, with masks.
        model: A detector that draws masks.
        seed: Not used: nothing is drawn that belongs to the problem.
        options: Any of `switch_ema.tasks.detection.options.OPTIONS`.

    Raises:
        InputError: An argument or the data are wrong, or they do not go together, or the data have no masks.
    """

    name = "segmentation"
    _masks = True

    def __init__(
        self, *, data: str = accepted.DEFAULT_DATA, model: str = "mask-rcnn", seed: int = 0, **options: Any
    ) -> None:
        super().__init__(data=data, model=model, seed=seed, **options)


def _on_cpu(output: dict[str, Tensor], masks: bool) -> dict[str, Tensor]:
    """Take what is used of what the detector returned for an image."""
    taken = {name: output[name].float() for name in ("boxes", "scores")} | {"labels": output["labels"]}
    if masks:
        taken["masks"] = output["masks"] >= _FOREGROUND
    return {name: values.cpu() for name, values in taken.items()}


def _found(output: dict[str, Tensor], masks: bool) -> Found:
    taken = {name: values.numpy() for name, values in _on_cpu(output, masks).items()}
    codes = encoded(taken["masks"][:, 0].view("uint8")) if masks else None
    return Found(taken["boxes"], taken["scores"], taken["labels"] - 1, codes)
