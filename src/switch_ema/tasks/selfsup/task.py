"""Self-supervised learning as a task: trained without labels, measured by what labels say of its features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema.bench.task import WHOLE, Metric, Shard, Split, Task
from switch_ema.data.catalog import locate
from switch_ema.data.images import Images, load
from switch_ema.errors import FieldError
from switch_ema.tasks.augment.crop import ShiftFlip
from switch_ema.tasks.batching import shuffled
from switch_ema.tasks.images import Augment, ImageBatches
from switch_ema.tasks.models import build_backbone
from switch_ema.tasks.selfsup.finetune import accuracy, finetune
from switch_ema.tasks.selfsup.methods import build, views
from switch_ema.tasks.selfsup.module import SelfSupervised
from switch_ema.tasks.selfsup.options import METHODS, check
from switch_ema.tasks.selfsup.probe import Labelled, knn_accuracy, linear_probe

Batch = tuple[Tensor, ...]
"""What a method is shown: two views (n, c, h, w), or images (n, c, h, w) and masks (n, grid, grid)."""

_SPLITS: tuple[Split, ...] = ("val", "test")
_EVALUATION_BATCH = 256  # larger ones are slower on a CPU
_BANK = 5000  # labelled training images that the nearest neighbours are looked for among
_LOSS_IMAGES = 1000  # held-out images that the pretext loss is measured on
_MANY = 10_000  # labelled training images from which on 200 neighbours vote, not 20
_FIXED_SEED = 0


class SelfSup(Task):
    """Learn features from images without their labels.

    The training images are those that nobody has labelled, where the data have such, else the labelled ones without
    their labels. Metrics of a held-out split: ``knn_accuracy``, the share of images whose class is named right by the
    nearest neighbours in feature space, among at most 5,000 labelled training images, none of them augmented: 200
    neighbours at temperature 0.07 where there are 10,000 labelled ones or more, else 20; and ``loss``, of the method
    itself, on fixed views of at most 1,000 images, in batches of 256 or a little less. After the last epoch
    ``linear_accuracy``, of a linear classifier on the features (see `linear_probe`), and, if `finetune_epochs` is not
    0, ``finetune_accuracy``, of the backbone trained further on the labelled images (see `finetune`).

    The optimizer and the averager see the method's online network alone; its target network belongs to the task, and
    moves after every step. `switch_ema.tasks.selfsup.options` lists the options with their defaults.

    Args:
        data: A named data set or a folder (see `switch_ema.data.catalog`).
        model: ``auto`` (``small-resnet``, for mae and simmim ``vit-t``), or a network (see
            `switch_ema.tasks.models.build_backbone`).
        seed: Decides the order of the examples in the linear probe and in fine-tuning.
        method: One of `switch_ema.tasks.selfsup.options.METHODS`.
        train_size: Number of training images, a fixed subset, of labelled and unlabelled ones each; None takes all.
        image_size: Side in pixels to scale and crop the images to; None keeps them.
        skip_corrupt: Leave out images that cannot be read.
        probe_epochs: Epochs of the linear probe; 0 for none.
        finetune_epochs: Epochs of fine-tuning; 0 for none.
        **options: What is the method's own, such as ``temperature``.

    Raises:
        InputError: An argument or the data are wrong, or the method cannot be made upon the network.

    Example:
        >>> task = SelfSup(method="byol", train_size=200)
        >>> model = task.build_model()
        >>> batch = next(task.train_batches(32, seed=0, device=torch.device("cpu")))
        >>> task.loss(model, batch).shape
        torch.Size([])
    """

    name = "selfsup"
    metrics = (Metric("knn_accuracy", higher_is_better=True), Metric("loss", higher_is_better=False))

    def __init__(
        self,
        *,
        data: str = "digits",
        model: str = "auto",
        seed: int = 0,
        method: str = "simclr",
        train_size: int | None = None,
        image_size: int | None = None,
        skip_corrupt: bool = False,
        probe_epochs: int = 100,
        finetune_epochs: int = 0,
        **options: Any,
    ) -> None:
        common = {"train_size": train_size, "image_size": image_size, "skip_corrupt": skip_corrupt}
        evaluation = {"probe_epochs": probe_epochs, "finetune_epochs": finetune_epochs}
        self._options = check({"method": method, **common, **evaluation, **options})
        self.data, self.seed, self.method = data, seed, method
        self.model = METHODS[method].auto_model if model == "auto" else model
        images = load(locate(data), **common, unlabeled=True)
        shown = images.unlabeled or images.train
        if train_size is not None:
            shown = _first(shown, train_size)
        parts = {"train": images.train, "val": images.val, "test": images.test, "shown": shown}
        augment = Augment(ShiftFlip(shown.images.shape[1] // 8) if shown.images.shape[3] > 1 else None)
        stored = {split: torch.from_numpy(part.images) for split, part in parts.items()}
        self._batches = ImageBatches(stored, images.mean, images.std, augment)
        self._labels = {split: torch.from_numpy(part.labels) for split, part in parts.items()}
        self._num_classes = len(images.class_names)
        self.num_train, self._size, _, self._channels = shown.images.shape
        self._probe_epochs, self._finetune_epochs = probe_epochs, finetune_epochs
        names = [("linear_accuracy", probe_epochs), ("finetune_accuracy", finetune_epochs)]
        self.final_metrics = tuple(Metric(name, higher_is_better=True) for name, epochs in names if epochs)
        with torch.random.fork_rng(devices=[]):  # what cannot be made is refused now, not after other runs
            backbone = self.build_model().backbone
        self._views = views(method, backbone, self._channels, self._size, self._options)

    def build_model(self) -> SelfSupervised:
        """Make a new network; its weights come from torch's global random generator."""
        backbone = build_backbone(self.model, self._channels, self._size)
        return build(self.method, backbone, self._channels, self._size, self.num_train, self._options)

    def averaged_part(self, model: nn.Module) -> nn.Module:
        """Return the online network."""
        return _method(model).online

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Move the target network, if there is one."""
        _method(model).after_step(progress)

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Yield one epoch of shuffled views; a last, smaller batch is dropped.

        The random numbers are drawn on the CPU for whole batches, so they are the same for every device and number of
        processes; each process makes its part of every batch.

        Args:
            batch_size: Images in a batch, over all processes; at least two for each.
            seed: Decides order and views; torch's global random generator is left alone.
            device: Where the batches are made.
            shard: Which part of every batch to take.

        Raises:
            InputError: The batch size does not fit.
        """
        if batch_size < 2 * shard.world_size:
            raise FieldError("batch_size", f"{batch_size}: views are compared; write at least {2 * shard.world_size}")
        generator = torch.Generator().manual_seed(seed)
        order = shuffled(self.num_train, batch_size, generator, shard)
        return self._epoch(order, batch_size, generator, device)

    def _epoch(
        self, order: Iterator[tuple[Tensor, slice]], batch_size: int, generator: torch.Generator, device: torch.device
    ) -> Iterator[Batch]:
        images = self._batches.on(device, "shown")
        for chosen, place in order:
            first = place.start % batch_size
            where = slice(first, first + len(chosen))
            draws = self._views.draw(batch_size, generator)
            yield self._views(images[chosen.to(device)], draws, where, self._batches.normalised)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the method's loss of a batch."""
        loss: Tensor = model(*batch)
        return loss

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure the metrics on a split.

        Args:
            model: The network, which the caller has put in evaluation mode.
            split: ``val`` or ``test``.
            device: Where the network is.

        Returns:
            ``knn_accuracy``, a share, and ``loss``, which is not finite when training has diverged.
        """
        total = len(self._labels["train"])
        bank = torch.randperm(total, generator=torch.Generator().manual_seed(_FIXED_SEED))[:_BANK].sort().values
        known = self._features(model, "train", device, bank)
        queries = self._features(model, split, device)
        share = knn_accuracy(known, queries, self._num_classes, 200 if total >= _MANY else 20)
        return {"knn_accuracy": share, "loss": self._pretext_loss(model, split, device)}

    def _pretext_loss(self, model: nn.Module, split: Split, device: torch.device) -> float:
        generator = torch.Generator().manual_seed(_FIXED_SEED)
        images = self._batches.on(device, split)
        chosen = torch.randperm(len(images), generator=generator)[:_LOSS_IMAGES]
        losses = []
        for part in chosen.tensor_split(-(-len(chosen) // _EVALUATION_BATCH)):
            draws = self._views.draw(len(part), generator)
            batch = self._views(images[part.to(device)], draws, slice(None), self._batches.normalised)
            losses.append(self.loss(model, batch).double() * len(part))
        return float(torch.stack(losses).sum()) / len(chosen)

    def evaluate_final(self, model: nn.Module, device: torch.device) -> dict[Split, dict[str, float]]:
        """Measure the linear probe and, if it was asked for, fine-tuning; the model is left as it is.

        Args:
            model: The network, which the caller has put in evaluation mode.
            device: Where the network is.

        Returns:
            ``linear_accuracy`` and ``finetune_accuracy`` of both held-out splits, shares.
        """
        found: dict[Split, dict[str, float]] = {split: {} for split in _SPLITS}
        with torch.autocast(device.type, enabled=False):
            if self._probe_epochs:
                train = self._features(model, "train", device)
                held_out = {split: self._features(model, split, device) for split in _SPLITS}
                shares = linear_probe(train, held_out, self._num_classes, epochs=self._probe_epochs, seed=self.seed)
                for split, share in shares.items():
                    found[split]["linear_accuracy"] = share
            if self._finetune_epochs:
                labels = {split: self._labels[split].to(device) for split in ("train", *_SPLITS)}
                backbone = _method(model).backbone
                classifier = finetune(
                    backbone, self._batches, labels["train"], self._num_classes, self._finetune_epochs, self.seed
                )
                for split in _SPLITS:
                    found[split]["finetune_accuracy"] = accuracy(classifier, self._batches, split, labels[split])
        return found

    @torch.no_grad()
    def _features(self, model: nn.Module, split: str, device: torch.device, rows: Tensor | None = None) -> Labelled:
        """Return features and labels of a split, or of some of its images, none of them augmented."""
        images, labels = self._batches.on(device, split), self._labels[split].to(device)
        if rows is not None:
            images, labels = images[rows.to(device)], labels[rows.to(device)]
        method = _method(model)
        parts = [method.features(self._batches.normalised(part)).float() for part in images.split(_EVALUATION_BATCH)]
        return torch.cat(parts), labels


def _method(model: nn.Module) -> SelfSupervised:
    """Return the method in a model, which may be wrapped."""
    return next(module for module in model.modules() if isinstance(module, SelfSupervised))


def _first(images: Images, count: int) -> Images:
    return Images(images.images[:count], images.labels[:count], images.rows[:count])
