"""Small COCO and Pascal VOC folders on disk, right by default, for tests to read or to spoil."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 20, 16
COUNTS = {"train": 12, "val": 4, "test": 5}
CATEGORIES = ({"id": 3, "name": "cat"}, {"id": 7, "name": "dog"})
"""Written in the other order."""

Document = dict[str, Any]


def pixels(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Make an image that tells its number by every pixel."""
    return np.full((height, width, 3), 5 * number, np.uint8)


def polygon(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def annotation(number: int, image: int, box: Sequence[float], category: int = 3, **more: Any) -> dict[str, Any]:
    """Make an annotation whose mask is its box."""
    x, y, width, height = box
    made = {"id": number, "image_id": image, "category_id": category, "bbox": list(box), "area": width * height}
    return {**made, "iscrowd": 0, "segmentation": [polygon(x, y, width, height)], **more}


def coco_document(split: str, count: int, *, width: int = WIDTH, height: int = HEIGHT) -> Document:
    """Describe images of one split: number i has i modulo 3 objects of 6x4 pixels, a cat and a dog."""
    first = 100 * (1 + list(COUNTS).index(split))
    images = [
        {"id": first + i, "file_name": f"{split}_{i:03}.png", "width": width, "height": height} for i in range(count)
    ]
    annotations = [
        annotation(10 * (first + i) + k, first + i, (2 + 7 * k, 3 + i % 5, 6, 4), (3, 7)[k])
        for i in range(count)
        for k in range(i % 3)
    ]
    return {"images": images, "annotations": annotations, "categories": list(CATEGORIES[::-1])}


def make_coco(
    folder: Path,
    counts: Mapping[str, int] = COUNTS,
    change: Callable[[str, Document], object] | None = None,
    *,
    suffix: str = "",
    images: str | None = None,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Path:
    """Write a COCO folder.

    Args:
        folder: Where to write.
        counts: Number of images of each split.
        change: Called with each split and its document, to change it; then images are written as they were.
        suffix: Behind the names of splits, such as ``2017``.
        images: Folder of the images; None is one named after each split, an empty text is `folder` itself.
        width: Width of the images.
        height: Height of the images.
    """
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        document = coco_document(split, count, width=width, height=height)
        place = folder / (f"{split}{suffix}" if images is None else images)
        place.mkdir(exist_ok=True)
        for i, entry in enumerate(document["images"]):
            Image.fromarray(pixels(i, width, height)).save(place / entry["file_name"])
        if change is not None:
            change(split, document)
        (folder / "annotations" / f"instances_{split}{suffix}.json").write_text(json.dumps(document))
    return folder


def voc_object(name: str, box: Sequence[float | str], difficult: int | str = 0) -> str:
    corners = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def voc_file(*objects: str, width: float | str = WIDTH, height: float | str = HEIGHT) -> str:
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{''.join(objects)}</annotation>"


def make_voc(folder: Path, counts: Mapping[str, int] = COUNTS, *, masks: bool = True) -> Path:
    """Write the folder of one year: number i has a dog, and if it is odd also a difficult cat.

    Masks lack the rightmost column of each box, whose pixels are void. Each second image of the list is without masks,
    and not in ``ImageSets/Segmentation``.
    """
    for name in ("Annotations", "JPEGImages", "ImageSets/Main", "ImageSets/Segmentation", "SegmentationObject"):
        if masks or not name.startswith("Seg"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        names = [f"{split}_{i:03}" for i in range(count)]
        for i, name in enumerate(names):
            objects = [voc_object("dog", (2, 3, 9, 10))] + [voc_object("cat", (10, 1, 20, 16), 1)] * (i % 2)
            (folder / "Annotations" / f"{name}.xml").write_text(voc_file(*objects))
            Image.fromarray(pixels(i)).save(folder / "JPEGImages" / f"{name}.jpg", quality=100)
            if masks and i % 4 in (0, 1):
                painted = np.zeros((HEIGHT, WIDTH), np.uint8)
                painted[2:10, 1:8], painted[2:10, 8] = 1, 255
                if i % 2:
                    painted[0:16, 9:19], painted[0:16, 19] = 2, 255
                image = Image.fromarray(painted).convert("P")
                image.putpalette([*range(256)] * 3)
                image.putdata(painted.ravel().tolist())
                image.save(folder / "SegmentationObject" / f"{name}.png")
        (folder / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        (folder / "ImageSets/Segmentation" / f"{split}.txt").write_text(
            "".join(f"{name}\n" for i, name in enumerate(names) if i % 4 in (0, 1))
        )
    return folder
