"""What people write without us: a torch script with torchvision's (and timm's) transforms in a DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import transforms
from torchvision.transforms import v2

from benchmarks.measure import Action


class PILImages(Dataset[tuple[Any, int]]):
    """Stored images, made into Pillow images when they are asked for, as torchvision's own data sets do."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: Callable[[Any], Any]) -> None:
        self._images, self._labels, self._transform = images, labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._transform(Image.fromarray(self._images[index])), int(self._labels[index])


def crop_flip(mean: Sequence[float], std: Sequence[float]) -> Callable[[Any], Any]:
    """Return crop with reflected padding, flip, and normalisation, from `torchvision.transforms`."""
    cropped = [transforms.RandomCrop(32, padding=4, padding_mode="reflect"), transforms.RandomHorizontalFlip()]
    steps: Callable[[Any], Any] = transforms.Compose([*cropped, transforms.ToTensor(), transforms.Normalize(mean, std)])
    return steps


def crop_flip_v2(mean: Sequence[float], std: Sequence[float]) -> Callable[[Any], Any]:
    """Return the same from `torchvision.transforms.v2`."""
    return _v2([], mean, std, [])


def heavy_torchvision(mean: Sequence[float], std: Sequence[float]) -> Callable[[Any], Any]:
    """Return the same with RandAugment and random erasing; each of two operations is applied half of the time."""
    turn = v2.RandomApply([v2.RandAugment(num_ops=1, magnitude=21)], p=0.5)  # magnitude 7 of 10
    return _v2([turn, turn], mean, std, [v2.RandomErasing(0.25, value="random")])


def heavy_timm(mean: Sequence[float], std: Sequence[float]) -> Callable[[Any], Any]:
    """Return the same with timm's RandAugment."""
    colour = tuple(round(255 * value) for value in mean)
    turns = rand_augment_transform("rand-m7-mstd0.5", {"img_mean": colour, "translate_const": 14})
    return _v2([turns], mean, std, [v2.RandomErasing(0.25, value="random")])


def _v2(before: list[Any], mean: Sequence[float], std: Sequence[float], after: list[Any]) -> Callable[[Any], Any]:
    cropped = [v2.RandomCrop(32, padding=4, padding_mode="reflect"), v2.RandomHorizontalFlip()]
    normalised = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
    steps: Callable[[Any], Any] = v2.Compose([*cropped, *before, *normalised, *after])
    return steps


class Mixed:
    """Collates a batch and mixes it, by mixup or CutMix, each time one of them."""

    def __init__(self, num_classes: int) -> None:
        kinds = [v2.MixUp(alpha=0.8, num_classes=num_classes), v2.CutMix(alpha=1.0, num_classes=num_classes)]
        self._mix = v2.RandomChoice(kinds)

    def __call__(self, samples: list[tuple[Any, int]]) -> Any:
        """Return images and shares of classes."""
        return self._mix(*default_collate(samples))


def loader(
    data: Dataset[Any], batch_size: int, workers: int, device: torch.device, collate: Callable[[Any], Any] | None = None
) -> DataLoader[Any]:
    """Return the usual loader; its workers live as long as it does."""
    return DataLoader(
        data,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        collate_fn=collate,
    )


def through(batches: DataLoader[Any], device: torch.device) -> Action:
    """Return what goes through a loader once, taking its batches to the device."""

    def run() -> None:
        for images, labels in batches:
            images.to(device, non_blocking=True)
            labels.to(device, non_blocking=True)

    return run


@dataclass
class Script:
    """The usual training script.

    Attributes:
        model: The network, on the device.
        batches: The loader.
        device: Where it trains.
        lr: Learning rate.
        channels_last: Whether it asks for the memory format in which convolutions are fast.
        autocast: Whether the forward pass runs in bfloat16.
    """

    model: nn.Module
    batches: DataLoader[Any]
    device: torch.device
    lr: float
    channels_last: bool = False
    autocast: bool = False

    def __post_init__(self) -> None:
        self._format = torch.channels_last if self.channels_last else torch.contiguous_format
        self.model.to(memory_format=self._format)
        self._optimizer = torch.optim.SGD(
            self.model.parameters(), self.lr, momentum=0.9, nesterov=True, weight_decay=5e-4
        )

    def train_epoch(self) -> float:
        """Train one epoch and return its mean loss; only this waits for the device."""
        self.model.train()
        losses: list[Tensor] = []
        for stored, truth in self.batches:
            images = stored.to(self.device, non_blocking=True, memory_format=self._format)
            labels = truth.to(self.device, non_blocking=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                loss = nn.functional.cross_entropy(self.model(images), labels)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())
