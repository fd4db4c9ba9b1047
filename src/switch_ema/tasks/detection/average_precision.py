"""Average precision as COCO defines it, of boxes and masks."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from switch_ema.data.detection.library import coco_library

if TYPE_CHECKING:
    from switch_ema.data.detection.scenes import Scenes

Floats = NDArray[np.float32]
Rle = Mapping[str, Any]
"""A mask in COCO's run-length code."""

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""What is measured, in COCO's order."""

AREAS = {"ap_small": (0.0, 32.0**2), "ap_medium": (32.0**2, 96.0**2), "ap_large": (96.0**2, math.inf)}
"""From which area, in pixels, up to which an object counts for a metric; both ends belong to it."""


@dataclass(frozen=True)
class Found:
    """What a detector found in one image.

    Attributes:
        boxes: Corners x1, y1, x2, y2 in pixels of the image, (n, 4).
        scores: How sure it is, (n,).
        labels: Classes from 0, int64 (n,).
        masks: The masks of the size of the image, in run-length code; None where there are none.
    """

    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]
    masks: Sequence[Rle] | None = None


class AveragePrecision:
    """Compares what a detector found with the truth.

    Detections of a class, sorted by score, at most 100 of an image, are matched one to one with objects whose
    intersection over union (IoU) with them is at least a threshold; precision, made non-increasing in recall, is
    averaged over the recalls 0, 0.01, ..., 1, and this over the classes that have objects:

        ap      mean over the IoU thresholds 0.5, 0.55, ..., 0.95
        ap50, ap75      at the thresholds 0.5 and 0.75
        ap_small, ap_medium, ap_large      as ap, of objects of up to 32^2, from 32^2 to 96^2, and from 96^2 pixels

    Crowds, and objects of other sizes, are neither right nor wrong to find. The computation is faster-coco-eval's, or
    pycocotools' where that alone is installed.

    Args:
        scenes: The images of a split with their objects.
        num_classes: Number of classes.
        masks: Whether the masks of the objects are needed, too.

    Raises:
        InputError: No library for it is installed.

    References:
        Tsung-Yi Lin et al., "Microsoft COCO: Common Objects in Context", arXiv:1405.0312, 2014.
    """

    def __init__(self, scenes: Scenes, num_classes: int, *, masks: bool = False) -> None:
        self._images = [
            {"id": number, "height": int(height), "width": int(width)}
            for number, (height, width) in enumerate(scenes.sizes)
        ]
        self._categories = [{"id": label, "name": str(label)} for label in range(num_classes)]
        self._truth = self._indexed(
            {"image_id": number, "bbox": box, "category_id": label, "iscrowd": crowd, "area": area, **mask}
            for number in range(len(scenes))
            for box, label, crowd, area, mask in _objects(scenes, number, masks)
        )

    def boxes(self, found: Sequence[Found]) -> dict[str, float]:
        """Measure the boxes.

        Args:
            found: What was found in each image, in the order of the scenes.

        Returns:
            Values from 0 to 1 under `NAMES`; nan where no object counts.
        """
        shapes = [[{"bbox": box, "area": box[2] * box[3]} for box in _corners_to_sides(each.boxes)] for each in found]
        return self._measured("bbox", found, shapes)

    def masks(self, found: Sequence[Found]) -> dict[str, float]:
        """Measure the masks, like `boxes`; the area of what was found is that of its mask."""
        area = coco_library().mask.area
        shapes = [[{"segmentation": mask, "area": float(area(mask))} for mask in each.masks or ()] for each in found]
        return self._measured("segm", found, shapes)

    def _measured(
        self, kind: str, found: Sequence[Found], shapes: Sequence[Sequence[dict[str, Any]]]
    ) -> dict[str, float]:
        detections = self._indexed(
            {"image_id": number, "category_id": label, "score": score, "iscrowd": 0, **shape}
            for number, (each, of_image) in enumerate(zip(found, shapes, strict=True))
            for label, score, shape in zip(each.labels.tolist(), each.scores.tolist(), of_image, strict=True)
        )
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = coco_library().evaluation(self._truth, detections, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        values = map(float, evaluation.stats[: len(NAMES)])
        return {name: value if value >= 0 else math.nan for name, value in zip(NAMES, values, strict=True)}

    def _indexed(self, annotations: Iterable[dict[str, Any]]) -> Any:
        numbered = [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)]
        with contextlib.redirect_stdout(io.StringIO()):
            coco = coco_library().index()
            coco.dataset = {"images": self._images, "categories": self._categories, "annotations": numbered}
            coco.createIndex()
        return coco


def sizes_there(*splits: Scenes) -> tuple[str, ...]:
    """Return the metrics of one size, such as ``ap_small``, of which every split has an object that is no crowd."""
    areas = [
        np.concatenate([objects.areas[~objects.crowd] for objects in split.objects] or [np.zeros(0, np.float32)])
        for split in splits
    ]
    return tuple(
        name for name, (low, high) in AREAS.items() if all(((low <= area) & (area <= high)).any() for area in areas)
    )


def encoded(masks: NDArray[np.uint8]) -> list[Rle]:
    """Return masks, (n, height, width) of 0 and 1, in run-length code."""
    codes: list[Rle] = coco_library().mask.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    return codes


def _objects(scenes: Scenes, number: int, masks: bool) -> Iterable[tuple[list[float], int, int, float, dict[str, Rle]]]:
    objects = scenes.objects[number]
    height, width = map(int, scenes.sizes[number])
    codes: list[dict[str, Rle]] = [{}] * len(objects)
    if masks and len(objects):
        codes = [{"segmentation": code} for code in encoded(objects.bitmaps(height, width))]
    crowd = objects.crowd.astype(int).tolist()
    boxes = _corners_to_sides(objects.boxes)
    return zip(boxes, objects.labels.tolist(), crowd, objects.areas.tolist(), codes, strict=True)


def _corners_to_sides(boxes: Floats) -> list[list[float]]:
    """Turn x1, y1, x2, y2 into x, y, width, height."""
    wide = boxes.astype(np.float64)
    sides: list[list[float]] = np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], 1).tolist()
    return sides
