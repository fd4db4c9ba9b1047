"""From what was found on disk to three splits of scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data.detection import canvas, coco, voc
from switch_ema.data.detection.layout import unreadable
from switch_ema.data.detection.pictures import Files
from switch_ema.data.detection.records import REMEDY, Findings, Picture
from switch_ema.data.detection.scenes import DetectionSet, Scenes
from switch_ema.data.numberparts import hold_out
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from switch_ema.data.detection.catalog import Source

_READERS = {"coco": coco.read, "voc": voc.read}
_THREADS = 8


@lru_cache(maxsize=2)
def load(
    source: Source, *, train_size: int | None = None, masks: bool = False, skip_invalid: bool = False
) -> DetectionSet:
    """Read the annotations of a data set, check and divide them; several seeds in one process read them once.

    With a training and a validation split alone, the latter is the test split, as is the custom with COCO. A split that
    the data lack is held out of the training images: 20 % for test, then 10 % of the rest, at most 5,000, for val. The
    draws are fixed (`switch_ema.data.splits.SPLIT_SEED`), do not depend on `train_size`, and come before anything is
    left out; a larger training split contains a smaller one. The arrays are shared: do not write.

    Checked are the annotations of all splits: unknown classes, ids that are there twice, boxes or polygons that stick
    out of the image by more than a pixel (less is cut off), no area, numbers that are none or not finite, polygons of
    fewer than 3 points, run lengths that do not fit the image, annotations without an image, and images that are
    missing on disk. Images without objects are kept.

    Args:
        source: What `switch_ema.data.detection.catalog.locate` found.
        train_size: Number of training images, a fixed subset; None takes all.
        masks: Also read the masks, where the data have them; without, nothing looks at them.
        skip_invalid: Leave out objects and images that are not valid, count them, and say so in one warning of the log;
            False refuses them. To find damaged images it reads every image file once, which takes half a millisecond
            for a JPEG file of 640x480.

    Returns:
        The three splits.

    Raises:
        InputError: Something in the files is wrong, or a split is left without images or objects.

    Example:
        >>> from switch_ema.data.detection.catalog import locate
        >>> len(load(locate("digits-canvas")).train)
        400
    """
    if source.format == "canvas":
        return canvas.make(train_size)
    findings = Findings()
    try:
        records = _READERS[source.format](source.path, masks, findings)
    except OSError as error:
        raise unreadable(error, source.path) from error
    if not skip_invalid:
        findings.refuse()
    chosen = _divide(records.splits, train_size, source.name)
    scenes = {split: _scenes(pictures, findings, skip_invalid) for split, pictures in chosen.items()}
    findings.warn(source.name)
    for split, part in scenes.items():
        if not any((~objects.crowd).any() for objects in part.objects):
            raise InputError(
                f"{source.name}: no object on any of the {len(part)} valid images of its {split} split; add some, or "
                "correct those that are not valid"
            )
    skipped = findings.objects + findings.images
    return DetectionSet(**scenes, class_names=records.class_names, has_masks=records.has_masks, skipped=skipped)


def _divide(splits: Mapping[str, Sequence[Picture]], train_size: int | None, name: str) -> dict[str, Sequence[Picture]]:
    missing = [split for split in ("test", "val") if split not in splits]
    rows = hold_out(len(splits["train"]), missing, train_size, name)
    chosen = {split: [splits["train"][row] for row in of_split] for split, of_split in rows.items()}
    parts = {**splits, **chosen}
    return {split: parts[split] for split in ("train", "val", "test")}


def _scenes(pictures: Sequence[Picture], findings: Findings, skip_invalid: bool) -> Scenes:
    there = [picture for picture in pictures if picture.path is not None]
    remedy = f"correct the file or its annotations{'' if skip_invalid else f', {REMEDY}'}"
    files = _files(there, remedy)
    if skip_invalid:
        with ThreadPoolExecutor(_THREADS) as pool:
            problems = list(pool.map(files.problem, range(len(there))))
        for problem in filter(None, problems):
            findings.image(problem)
        if any(problems):
            there = [picture for picture, problem in zip(there, problems, strict=True) if problem is None]
            files = _files(there, remedy)
    return Scenes(tuple(picture.id for picture in there), files.sizes, [picture.objects for picture in there], files)


def _files(pictures: Sequence[Picture], remedy: str) -> Files:
    sizes = np.array([(picture.height, picture.width) for picture in pictures], np.int64).reshape(-1, 2)
    return Files([picture.path for picture in pictures if picture.path is not None], sizes, remedy)
