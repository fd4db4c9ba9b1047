"""Image classification: cross entropy, accuracy, and batches that depend on their seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from switch_ema.bench.task import Metric, Shard, Split
from switch_ema.data.catalog import locate
from switch_ema.data.images import load
from switch_ema.data.splits import flip_labels
from switch_ema.errors import InputError
from switch_ema.tasks.catalog import TASKS, check_model, check_option
from switch_ema.tasks.models import build_model

if TYPE_CHECKING:
    from switch_ema.data.images import Images

Batch = tuple[Tensor, Tensor]
"""Normalised images (n, channels, size, size) and labels (n,)."""

_EVALUATION_BATCH = 256  # larger ones are slower on a CPU
_WHOLE = Shard()


class Classification:
    """Name the class of an image.

    The splits are the same for every seed and every `train_size` (see `switch_ema.data.splits.divide`). Images are
    normalised by the mean and standard deviation of the training images.

    Args:
        data: A named data set or a folder (see `switch_ema.data.catalog`).
        model: A network (see `switch_ema.tasks.models.build_model`).
        seed: Draws which training labels are wrong, and what they become.
        label_noise: Share of the training labels to make wrong; exactly ``round(label_noise * num_train)`` of them.
            Validation and test labels stay clean.
        train_size: Number of training images, a stratified subset; None takes all.
        image_size: Side in pixels to scale and crop the images to; None keeps them.
        augment: ``crop-flip`` shifts each training image by up to an eighth of its side, reflecting at the borders, and
            mirrors every other one; ``none`` leaves them; ``auto`` is crop-flip for colour images, none for grey ones.

    Raises:
        InputError: An argument or the data are wrong.
    """

    name = "classification"
    metrics = (Metric("accuracy", higher_is_better=True), Metric("loss", higher_is_better=False))

    def __init__(
        self,
        *,
        data: str = "digits",
        model: str = "small-resnet",
        seed: int = 0,
        label_noise: float = 0.0,
        train_size: int | None = None,
        image_size: int | None = None,
        augment: str = "auto",
    ) -> None:
        options = {"label_noise": label_noise, "train_size": train_size, "image_size": image_size, "augment": augment}
        for name, value in options.items():
            check_option(name, value)
        check_model(model, TASKS[self.name].models)
        images = load(locate(data), train_size=train_size, image_size=image_size)
        self.data = data
        self.model = model
        self._num_classes = len(images.class_names)
        self._splits = {"train": _tensors(images.train), "val": _tensors(images.val), "test": _tensors(images.test)}
        pixels = self._splits["train"][0]
        noisy = flip_labels(images.train.labels, label_noise, self._num_classes, seed)
        self._splits["train"] = pixels, torch.from_numpy(noisy)
        self._mean = torch.tensor(images.mean)
        self._std = torch.tensor(images.std)
        self._augments = augment == "crop-flip" or (augment == "auto" and pixels.shape[3] == 3)

    @property
    def num_train(self) -> int:
        """Number of training images."""
        return len(self._splits["train"][1])

    def build_model(self) -> nn.Module:
        """Make a new network; its weights come from torch's global random generator."""
        _, _, size, channels = self._splits["train"][0].shape
        return build_model(self.model, self._num_classes, channels, size)

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = _WHOLE) -> Iterator[Batch]:
        """Yield one epoch of shuffled, augmented batches; a last, smaller one is dropped.

        All random numbers are drawn at once on the CPU and for whole batches, so they are the same for every device
        and number of processes; each process takes its slice of every batch.

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
        if not 1 <= batch_size <= self.num_train:
            raise InputError(f"batch size {batch_size}: write 1 to {self.num_train}, the number of training images")
        if batch_size % shard.world_size:
            raise InputError(
                f"batch size {batch_size}: write a multiple of {shard.world_size}, the number of processes"
            )
        return self._epoch(batch_size, seed, device, shard)

    def _epoch(self, batch_size: int, seed: int, device: torch.device, shard: Shard) -> Iterator[Batch]:
        images, labels = self._on(device, "train")
        size = images.shape[2]
        shift = size // 8
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(labels), generator=generator).to(device)
        shifts = torch.randint(-shift, shift + 1, (2, len(labels), 1), generator=generator).to(device)
        mirrored = torch.randint(2, (len(labels), 1), generator=generator).bool().to(device)
        share = batch_size // shard.world_size
        pixels = torch.arange(size, device=device)
        for start in range(0, len(labels) - batch_size + 1, batch_size):
            mine = slice(start + shard.rank * share, start + (shard.rank + 1) * share)
            chosen = order[mine]
            if self._augments:
                rows = _reflect(pixels + shifts[0, mine], size)
                columns = _reflect(pixels + shifts[1, mine], size)
                columns = torch.where(mirrored[mine], columns.flip(1), columns)
                batch = images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
            else:
                batch = images[chosen]
            yield self._normalised(batch), labels[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross entropy of a batch."""
        images, labels = batch
        return cross_entropy(model(images), labels)

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
        images, labels = self._on(device, split)
        sums = []
        for start in range(0, len(labels), _EVALUATION_BATCH):
            truth = labels[start : start + _EVALUATION_BATCH]
            logits = model(self._normalised(images[start : start + _EVALUATION_BATCH])).float()
            sums.append(torch.stack([(logits.argmax(1) == truth).sum(), cross_entropy(logits, truth, reduction="sum")]))
        correct, loss = torch.stack(sums).cpu().double().sum(0).tolist()  # the only wait for the device
        return {"accuracy": correct / len(labels), "loss": loss / len(labels)}

    def _normalised(self, images: Tensor) -> Tensor:
        """Map uint8 (n, size, size, channels) to floats (n, channels, size, size), stored channels-last: faster."""
        return ((images.float() - self._mean) / self._std).permute(0, 3, 1, 2)

    def _on(self, device: torch.device, split: str) -> Batch:
        """Return a split on the device, where it stays."""
        images, labels = self._splits[split] = cast(Batch, tuple(t.to(device) for t in self._splits[split]))
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return images, labels


def _tensors(part: Images) -> Batch:
    return torch.from_numpy(part.images), torch.from_numpy(part.labels)


def _reflect(index: Tensor, size: int) -> Tensor:
    """Fold positions just outside 0 to size - 1 back at the border, as reflect padding does."""
    last = size - 1
    return last - (last - index.abs()).abs()
