"""Image classification: cross entropy, accuracy, and batches that depend on their seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from switch_ema.bench.task import WHOLE, Metric, Part, Shard, Split, Task
from switch_ema.data.splits import noisy_labels
from switch_ema.tasks.augment.base import cut
from switch_ema.tasks.augment.mixing import soft_targets
from switch_ema.tasks.classification_options import OPTIONS, Chosen, check
from switch_ema.tasks.imagesource import read_images
from switch_ema.tasks.models import build_model
from switch_ema.tasks.models.names import check_model
from switch_ema.tasks.options import read_options
from switch_ema.tasks.policies import augmentation, mixing

Batch = tuple[Tensor, Tensor]
"""Normalised images (n, channels, size, size), and labels (n,) or soft targets (n, classes)."""

_EVALUATION_BATCH = 256  # larger ones are slower on a CPU


class Classification(Task):
    """Name the class of an image.

    The splits are the same for every seed and every ``train_size`` (see `switch_ema.data.splits.divide`), and only
    training labels are made wrong. Images are normalised by the mean and standard deviation of the training images.
    With label smoothing, mixup or CutMix the targets are shares of classes; evaluation knows nothing of them.

    Args:
        data: A named data set or a folder (see `switch_ema.data.catalog`).
        model: A network (see `switch_ema.tasks.models.build_model`).
        seed: Draws which training labels are wrong, and what they become.
        options: Any of `switch_ema.tasks.classification_options.OPTIONS`.

    Raises:
        InputError: An argument or the data are wrong.

    Example:
        >>> task = Classification(data="digits", label_noise=0.4)
        >>> task.num_train, [metric.name for metric in task.metrics]
        (1294, ['accuracy', 'loss'])
    """

    name = "classification"
    metrics = (Metric("accuracy", higher_is_better=True), Metric("loss", higher_is_better=False))

    def __init__(self, *, data: str = "digits", model: str = "small-resnet", seed: int = 0, **options: Any) -> None:
        source = check(data, model, options)
        check_model(model)
        chosen = Chosen(**read_options(OPTIONS, options))
        self.data = data
        self.model = model
        self._options = chosen
        found = read_images(
            source, train_size=chosen.train_size, image_size=chosen.image_size, skip_corrupt=chosen.skip_corrupt,
            stream=chosen.stream, workers=chosen.workers, val_share=chosen.val_share,
        )  # fmt: skip
        self.num_train = len(found.train.labels)
        self._num_classes = len(found.class_names)
        kind, rate = ("human", 0.0) if chosen.label_file else (chosen.noise_kind, chosen.label_noise)
        noisy = noisy_labels(
            found.train.labels, kind, rate, self._num_classes, seed,
            file=chosen.label_file or "", rows=found.train.rows, source_labels=found.source_labels,
        )  # fmt: skip
        labels = {"train": noisy, "val": found.val.labels, "test": found.test.labels, "true": found.train.labels}
        self._labels = {split: torch.from_numpy(values) for split, values in labels.items()}
        if chosen.memorisation:
            self.training_metrics = (Metric("clean_accuracy", True), Metric("memorised", False))
        self._batches = found.batches(augmentation(chosen, found.size, found.mean, found.std))
        self._shape = len(found.mean), found.size
        self._mean, self._std, self._white = found.mean, found.std, found.white
        self._mixing = mixing(chosen)

    def build_model(self) -> nn.Module:
        """Make a new network; its weights come from torch's global random generator."""
        channels, size = self._shape
        drop_path, dropout = self._options.drop_path, self._options.dropout
        return build_model(self.model, self._num_classes, channels, size, drop_path=drop_path, dropout=dropout)

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Yield one epoch of shuffled, augmented batches; a last, smaller one is dropped.

        All random numbers are drawn at once on the CPU and for whole batches, so they are the same for every device
        and number of processes; each process takes its slice of every batch. Only mixup and CutMix, which find an
        image's partner in that slice, depend on the number of processes.

        Args:
            batch_size: Images in a batch, over all processes.
            seed: Decides order and augmentation; torch's global random generator is left alone.
            device: Where the batches are made.
            shard: Which slice of every batch to take.

        Returns:
            An iterator over batches.

        Raises:
            InputError: The batch is larger than the training set, or its processes cannot share it equally.
        """
        batches = self._batches.epoch(batch_size, seed, device, shard)
        return self._with_targets(batches, seed, device)

    def _with_targets(
        self, batches: Iterator[tuple[Tensor, Tensor, slice]], seed: int, device: torch.device
    ) -> Iterator[Batch]:
        labels = self._labels_on(device, "train")
        smoothing = self._options.label_smoothing
        generator = torch.Generator().manual_seed(seed ^ 1)  # not the one that the images were drawn from
        draws = cut(self._mixing.draw(self.num_train, generator), slice(None), device) if self._mixing else ()
        for images, numbers, where in batches:
            targets = labels[numbers]
            if self._mixing or smoothing or self._options.loss == "bce":
                targets = soft_targets(targets, self._num_classes, smoothing)
            mine = cut(draws, where, device)
            yield self._mixing(images, targets, mine) if self._mixing else (images, targets)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""
        images, targets = batch
        logits = model(images)
        if self._options.loss == "bce":
            return binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
        return cross_entropy(logits, targets)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure accuracy and mean cross entropy over every image of a split.

        Args:
            model: The network, which the caller has put in evaluation mode.
            split: ``val`` or ``test``.
            device: Where the network is.

        Returns:
            ``accuracy`` as a fraction, and ``loss``, which is not finite when training has diverged.
        """
        labels = self._labels_on(device, split)
        sums = []
        for images, index in self._batches.held_out(split, _EVALUATION_BATCH, device):
            truth = labels[index]
            logits = model(images).float()
            count = torch.tensor(len(truth), device=device)
            right = (logits.argmax(1) == truth).sum()
            sums.append(torch.stack([count, right, cross_entropy(logits, truth, reduction="sum")]))
        count, right, loss = torch.stack(sums).cpu().double().sum(0).tolist()  # the only wait for the device
        return {"accuracy": right / count, "loss": loss / count}

    @torch.no_grad()
    def evaluate_training(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Measure what has been learned of right and of wrong training labels.

        Args:
            model: The network, which the caller has put in evaluation mode.
            device: Where the network is.

        Returns:
            ``clean_accuracy``: the share predicted of the training labels that are right; ``memorised``: the share
            predicted of those that are wrong; nan where there are none.
        """
        if not self.training_metrics:
            return {}
        given, true = self._labels_on(device, "train"), self._labels_on(device, "true")
        found = [
            torch.stack([model(images).argmax(1) == given[index], true[index] == given[index]])
            for images, index in self._batches.held_out("train", _EVALUATION_BATCH, device)
        ]
        learned, is_clean = torch.cat(found, 1).cpu()
        return {
            "clean_accuracy": float(learned[is_clean].double().mean()),
            "memorised": float(learned[~is_clean].double().mean()),
        }

    def fixed_batches(self, part: Part, device: torch.device) -> Iterator[Batch]:
        """Yield a part of the data in its own order, not augmented; training labels as they are trained on."""
        labels = self._labels_on(device, part)
        for images, index in self._batches.held_out(part, _EVALUATION_BATCH, device):
            yield images, labels[index]

    def changed_batches(self, part: Part, device: torch.device, change: Callable[[Tensor], Tensor]) -> Iterator[Batch]:
        """Yield what `fixed_batches` does, with images changed before they are normalised, such as corrupted.

        Args:
            part: ``train``, ``val`` or ``test``.
            device: Where the batches are made.
            change: Takes images (n, channels, size, size) from 0, black, to 1, white (the highest value of the training
                images), and returns as many.
        """
        black, white = (
            torch.tensor([(value - mean) / std for mean, std in zip(self._mean, self._std, strict=True)], device=device)
            for value in (0.0, self._white)
        )
        low, width = black[:, None, None], (white - black)[:, None, None]
        for images, labels in self.fixed_batches(part, device):
            yield low + width * change(((images - low) / width).clamp(0, 1)), labels

    def _labels_on(self, device: torch.device, split: str) -> Tensor:
        self._labels[split] = self._labels[split].to(device)
        return self._labels[split]
