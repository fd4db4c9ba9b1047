"""Points in the plane: name the class of a point, so that what was learned can be seen as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.functional.classification import multiclass_calibration_error

from switch_ema.bench.exhibit import Picture
from switch_ema.bench.task import WHOLE, Metric, Part, Shard, Split, Task
from switch_ema.data.points import draw_points
from switch_ema.data.splits import noisy_labels
from switch_ema.tasks.models.names import check_model
from switch_ema.tasks.options import read_options
from switch_ema.tasks.points_options import MODELS, OPTIONS, Chosen, check
from switch_ema.tasks.points_picture import region_picture
from switch_ema.tasks.tables import TableBatches

Batch = tuple[Tensor, Tensor]
"""Coordinates, float32 (n, 2), and labels, int64 (n,)."""

_CLASSES = 2
_BINS = 15


class PointClasses(Task):
    """Name the class of a point in the plane, from few labelled points.

    Validation and test points are the same for every seed. Unlike elsewhere in the bench the seed draws the training
    points: with 50 of them, which they are matters more than initial weights and order of the batches, and what is said
    over seeds should hold for more than one draw. Methods are compared on the same draw. Only training labels are made
    wrong. Coordinates are not normalised, so that the network can be asked about any place in the plane. Besides
    accuracy and loss the expected calibration error is measured: with the points sorted into 15 bins of equal width by
    the probability of the class that is named,

        ece = sum over the bins of (points in it / points) |mean probability - accuracy|

    Args:
        data: One of `switch_ema.data.points.POINT_SETS`.
        model: ``points-mlp``, two hidden layers of ``width`` units with ReLU.
        seed: Draws the training points, which of their labels are wrong, and what they become.
        options: Any of `switch_ema.tasks.points_options.OPTIONS`.

    Raises:
        InputError: An argument is wrong, or they do not go together.

    Example:
        >>> task = PointClasses(data="moons", train_size=20)
        >>> task.num_train, [metric.name for metric in task.metrics]
        (20, ['accuracy', 'loss', 'ece'])

    References:
        Li et al., Switch EMA: A Free Lunch for Better Flatness and Sharpness, arXiv:2402.09240, 2024 (figure 4).
    """

    name = "points"
    metrics = (
        Metric("accuracy", higher_is_better=True),
        Metric("loss", higher_is_better=False),
        Metric("ece", higher_is_better=False),
    )

    def __init__(self, *, data: str = "circles", model: str = "points-mlp", seed: int = 0, **options: Any) -> None:
        check(data, model, options)
        check_model(model, MODELS)
        chosen = Chosen(**read_options(OPTIONS, options))
        self.data = data
        self.model = model
        self.num_train = chosen.train_size
        sizes = {"train": chosen.train_size, "val": chosen.val_size, "test": chosen.test_size}
        drawn = {
            split: draw_points(data, split, size, noise=chosen.noise, factor=chosen.factor, seed=seed)
            for split, size in sizes.items()
        }
        labels = {split: points.labels for split, points in drawn.items()}
        labels["train"] = noisy_labels(labels["train"], "symmetric", chosen.label_noise, _CLASSES, seed)
        inputs = {split: torch.from_numpy(points.inputs) for split, points in drawn.items()}
        self._drawn = drawn
        self._labels = {split: torch.from_numpy(values) for split, values in labels.items()}
        self._batches = TableBatches(inputs, mean=(0.0, 0.0), std=(1.0, 1.0))
        self._width = chosen.width

    def build_model(self) -> nn.Module:
        """Make a new network; its weights come from torch's global random generator."""
        return nn.Sequential(
            nn.Linear(2, self._width), nn.ReLU(), nn.Linear(self._width, self._width), nn.ReLU(),
            nn.Linear(self._width, _CLASSES),
        )  # fmt: skip

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Yield one epoch of shuffled batches; a last, smaller one is dropped.

        Args:
            batch_size: Points in a batch, over all processes.
            seed: Decides the order; torch's global random generator is left alone.
            device: Where the batches are made.
            shard: Which slice of every batch to take.

        Returns:
            An iterator over batches.

        Raises:
            InputError: The batch is larger than the training set, or its processes cannot share it equally.
        """
        batches = self._batches.epoch(batch_size, seed, device, shard)
        labels = self._labels_on(device, "train")
        return ((points, labels[numbers]) for points, numbers, _ in batches)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross entropy of a batch."""
        points, labels = batch
        return cross_entropy(model(points), labels)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure accuracy, mean cross entropy and calibration over every point of a split.

        Args:
            model: The network, which the caller has put in evaluation mode.
            split: ``val`` or ``test``.
            device: Where the network is.

        Returns:
            ``accuracy`` and ``ece`` as fractions, and ``loss``, which is not finite when training has diverged.
        """
        points, labels = next(self.fixed_batches(split, device))
        logits = model(points).float()
        measured = {
            "accuracy": (logits.argmax(1) == labels).float().mean(),
            "loss": cross_entropy(logits, labels),
            "ece": multiclass_calibration_error(
                logits.softmax(1), labels, _CLASSES, n_bins=_BINS, norm="l1", validate_args=False
            ),
        }
        values = torch.stack([*measured.values()]).tolist()  # the only wait for the device
        return dict(zip(measured, values, strict=True))

    def fixed_batches(self, part: Part, device: torch.device) -> Iterator[Batch]:
        """Yield a part of the data in its own order, as one batch; training labels as they are trained on."""
        labels = self._labels_on(device, part)
        for points, index in self._batches.held_out(part, len(labels), device):
            yield points, labels[index]

    @torch.no_grad()
    def exhibits(self, model: nn.Module, device: torch.device) -> tuple[Picture]:
        """Return the network's regions in the plane with the training points, on the same grid for every method."""
        return (
            region_picture(
                model, device, self._drawn["test"].inputs, self._drawn["train"], self._labels["train"].cpu().numpy()
            ),
        )

    def _labels_on(self, device: torch.device, part: str) -> Tensor:
        self._labels[part] = self._labels[part].to(device)
        return self._labels[part]
