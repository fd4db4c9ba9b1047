"""Batches of images with their objects: read ahead by threads, mirrored where the images are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from switch_ema.bench.task import WHOLE, Shard
from switch_ema.tasks.batching import shuffled

if TYPE_CHECKING:
    from switch_ema.data.detection.scenes import Scenes

Target = dict[str, Tensor]
"""Objects of an image: boxes (n, 4) as x1, y1, x2, y2 in pixels, labels (n,) from 1, and masks (n, h, w) if wanted."""

Batch = tuple[list[Tensor], list[Target]]
"""Images (3, h, w) from 0 to 1, and what is to be found in each."""

_READERS = 4  # threads; Pillow lets go of the interpreter's lock while it decodes
_AHEAD = 2  # batches
_SMALLEST = 1.0  # pixels: a box with a shorter side teaches nothing, and networks refuse it

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Scene:
    """An image, uint8 (h, w, 3), with what is to be learnt of it."""

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.uint8] | None


class SceneBatches:
    """Makes training batches. Crowds, and boxes with a side below one pixel, are left out of them.

    Args:
        scenes: The training images with their objects.
        flip: Share of the images that are mirrored, with their boxes and masks: x becomes width - x.
        masks: Whether masks are wanted, too.
    """

    def __init__(self, scenes: Scenes, *, flip: float, masks: bool) -> None:
        self._scenes = scenes
        self._flip = flip
        self._masks = masks

    def epoch(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Return one epoch of shuffled batches; see `switch_ema.bench.task.Task.train_batches`.

        Raises:
            InputError: The batch is larger than the training set, or its processes cannot share it equally.
        """
        generator = torch.Generator().manual_seed(seed)
        order = list(shuffled(len(self._scenes), batch_size, generator, shard))
        mirrored = (torch.rand(len(self._scenes), generator=generator) < self._flip).tolist()
        return self._epoch(order, mirrored, device)

    def _epoch(self, order: list[tuple[Tensor, slice]], mirrored: list[bool], device: torch.device) -> Iterator[Batch]:
        read = _read_ahead((numbers.tolist() for numbers, _ in order), self._scene)
        for scenes, (_, where) in zip(read, order, strict=True):
            batch = on_device([scene.pixels for scene in scenes], device), _targets(scenes, device)
            yield tuple(map(list, zip(*map(_mirrored_if, *batch, mirrored[where]), strict=True)))  # type: ignore[misc]

    def _scene(self, number: int) -> _Scene:
        objects = self._scenes.objects[number]
        pixels = self._scenes.image(number)
        kept = ~objects.crowd & (objects.boxes[:, 2:] - objects.boxes[:, :2] >= _SMALLEST).all(1)
        masks = objects.bitmaps(*pixels.shape[:2])[kept] if self._masks else None
        return _Scene(pixels, objects.boxes[kept], objects.labels[kept], masks)


def held_out(scenes: Scenes, batch_size: int, device: torch.device) -> Iterator[list[Tensor]]:
    """Yield all images, (3, h, w) from 0 to 1, in their order."""
    starts = range(0, len(scenes), batch_size)
    numbers = (range(start, min(start + batch_size, len(scenes))) for start in starts)
    for pixels in _read_ahead(numbers, scenes.image):
        yield on_device(pixels, device)


def on_device(pixels: Iterable[NDArray[np.uint8]], device: torch.device) -> list[Tensor]:
    """Copy images, uint8 (h, w, 3), to a device, as numbers from 0 to 1, (3, h, w)."""
    return [_copied(torch.tensor(image), device).permute(2, 0, 1).float() / 255 for image in pixels]


def _targets(scenes: list[_Scene], device: torch.device) -> list[Target]:
    counts = [len(scene.labels) for scene in scenes]
    boxes = torch.from_numpy(np.concatenate([scene.boxes for scene in scenes]))
    labels = torch.from_numpy(np.concatenate([scene.labels for scene in scenes])) + 1
    parts = zip(_copied(boxes, device).split(counts), _copied(labels, device).split(counts), scenes, strict=True)
    return [
        {"boxes": some, "labels": names}
        | ({} if scene.masks is None else {"masks": _copied(torch.tensor(scene.masks), device)})
        for some, names, scene in parts
    ]


def _mirrored_if(image: Tensor, target: Target, mirrored: bool) -> tuple[Tensor, Target]:
    if not mirrored:
        return image, target
    left, top, right, bottom = target["boxes"].unbind(1)
    width = image.shape[2]
    turned = {"boxes": torch.stack([width - right, top, width - left, bottom], 1), "labels": target["labels"]}
    if "masks" in target:
        turned["masks"] = target["masks"].flip(2)
    return image.flip(2), turned


def _copied(values: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _read_ahead(batches: Iterable[Iterable[int]], read: Callable[[int], Item]) -> Iterator[list[Item]]:
    """Yield what `read` returns for the numbers of each batch, while threads work on the next ones."""
    with ThreadPoolExecutor(_READERS) as pool:
        waiting: deque[list[Future[Item]]] = deque()
        for numbers in batches:
            waiting.append([pool.submit(read, number) for number in numbers])
            if len(waiting) > _AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
