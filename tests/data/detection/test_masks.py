"""Masks from polygons and run lengths, against bitmaps drawn by hand and against pycocotools."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from switch_ema.data.detection.catalog import locate
from switch_ema.data.detection.load import load
from switch_ema.data.detection.segmentation import Outlines, parse
from switch_ema.errors import InputError

from .make import HEIGHT, WIDTH, Document, annotation, make_coco, polygon

PICTURE = np.array(
    [
        [0, 1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0, 1],
        [0, 0, 1, 0, 0, 1],
        [0, 0, 0, 0, 0, 1],
    ],
    np.uint8,
)
COUNTS = [4, 2, 2, 3, 10, 3]
"""Runs of zeros and ones in turn, down the columns of the picture."""


def decoded(*segmentations: Any, height: int = 4, width: int = 6) -> Any:
    return Outlines(tuple(parse(item, height, width) for item in segmentations)).bitmaps(height, width)


def compressed(bitmap: Any) -> dict[str, Any]:
    from pycocotools import mask

    code = mask.encode(np.asfortranarray(bitmap))
    return {"size": list(bitmap.shape), "counts": code["counts"].decode()}


def test_run_lengths_against_a_picture() -> None:
    masks = decoded({"size": [4, 6], "counts": COUNTS}, compressed(PICTURE), {"size": [4, 6], "counts": [0, 24]})
    assert masks.dtype == np.uint8
    assert masks.flags.c_contiguous
    assert (masks == np.stack([PICTURE, PICTURE, np.ones_like(PICTURE)])).all()


def test_polygons_against_a_picture() -> None:
    wanted = np.zeros((4, 6), np.uint8)
    wanted[1:3, 1:4] = 1
    two = wanted.copy()
    two[0, 5] = 1
    assert (decoded([polygon(1, 1, 3, 2)], [polygon(1, 1, 3, 2), polygon(5, 0, 1, 1)]) == np.stack([wanted, two])).all()


def test_no_objects() -> None:
    assert decoded().shape == (0, 4, 6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("library", ["faster_coco_eval", "pycocotools"])
def test_random_masks_against_pycocotools(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pycocotools import mask

    real = builtins.__import__

    def without_others(name: str, *rest: Any) -> Any:
        if name.startswith("faster_coco_eval") and library == "pycocotools":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_others)
    generator = np.random.default_rng(0)
    for size in (3, 40, 90):
        bitmap = (generator.random((size, size + 7)) < generator.random()).astype(np.uint8)
        assert (decoded(compressed(bitmap), height=size, width=size + 7)[0] == bitmap).all()
        points = (generator.random(14) * size).round(2).tolist()
        wanted = mask.decode(mask.merge(mask.frPyObjects([points[:6], points[6:]], size, size + 7)))
        assert (decoded([points[:6], points[6:]], height=size, width=size + 7)[0] == wanted).all()
    blank = np.zeros((500, 400), np.uint8)
    blank[3:, 7:300] = 1  # long runs: several groups of bits, and differences below 0
    assert (decoded(compressed(blank), height=500, width=400)[0] == blank).all()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("faster_coco_eval", "pycocotools"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'run: pip install "switch-ema\[bench\]"'):
        decoded([polygon(1, 1, 3, 2)])


def test_masks_of_a_folder(tmp_path: Path) -> None:
    def change(split: str, document: Document) -> None:
        bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
        bitmap[5:9, 9:15] = 1
        crowd = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
        image = document["images"][2]["id"]
        document["annotations"][2]["segmentation"] = compressed(bitmap)
        document["annotations"].append(annotation(1, image, (0, 0, WIDTH, HEIGHT), iscrowd=1, segmentation=crowd))

    data = load(locate(str(make_coco(tmp_path, change=change))), masks=True)
    assert data.has_masks
    for i, objects in enumerate(data.train.objects):
        masks = objects.bitmaps(HEIGHT, WIDTH)
        assert masks.shape == (len(objects), HEIGHT, WIDTH)
        for mask, (x1, y1, x2, y2) in zip(masks, objects.boxes.astype(int), strict=True):
            assert mask[y1:y2, x1:x2].all()
            assert mask.sum() == (y2 - y1) * (x2 - x1)
        assert objects.crowd.tolist() == [False] * (i % 3) + [True] * (i == 2)


def test_masks_that_are_not_there_or_not_wanted(tmp_path: Path) -> None:
    def change(split: str, document: Document) -> None:
        for entry in document["annotations"]:
            entry["segmentation"] = [] if split == "train" else [[1]]

    source = locate(str(make_coco(tmp_path, change=change)))
    data = load(source, masks=True)
    assert not data.has_masks
    assert data.train.objects[2].masks is None
    source = locate(
        str(make_coco(tmp_path / "wrong", change=lambda split, d: d["annotations"][0].update(segmentation=3)))
    )
    assert not load(source).has_masks
    with pytest.raises(InputError, match="no segmentation, where others have one"):
        load(source, masks=True)


GRID = HEIGHT * WIDTH


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "no segmentation, where others have one"),
        (None, "no segmentation, where others have one"),
        ("text", "no segmentation, where others have one"),
        ([[1, 1, 5, 1, 5]], "a polygon has 5 numbers, not two for each point"),
        ([[1, 1, 5, 1]], "a polygon has 2 points, fewer than 3"),
        ([polygon(1, 1, 3, 2), []], "a polygon has 0 points, fewer than 3"),
        ([1, 1, 5, 1, 5, 5], "a polygon is no list of numbers"),
        ([[1, 1, 5, 1, 5, "5"]], "a polygon is no list of numbers"),
        ([[1, 1, 5, 1, 5, None]], "a polygon is no list of numbers"),
        ([[1, 1, 5, 1, 5, True]], "a polygon is no list of numbers"),
        ([[1, 1, 5, 1, 5, float("nan")]], "a polygon has a number that is not finite"),
        ([[1, 1, 5, 1, 5, -float("inf")]], "a polygon has a number that is not finite"),
        ([[1, 1, 5, 1, 5, 10**400]], "a polygon has a number that is not finite"),
        ([[1, 1, 5, 1, 5, 1e9]], r"a polygon from \(1, 1\) to \(5, 1e\+09\) sticks out of the image of 20x16 pixels"),
        ([[-3, 1, 5, 1, 5, 5]], r"a polygon from \(-3, 1\) to \(5, 5\) sticks out"),
        ({"size": [HEIGHT, WIDTH], "counts": [GRID - 1]}, "counts add up to 319, not to height x width = 320"),
        ({"size": [HEIGHT, WIDTH], "counts": [GRID + 1]}, "counts add up to 321"),
        ({"size": [HEIGHT, WIDTH], "counts": [-1, GRID + 1]}, "counts are neither whole numbers from 0 nor"),
        ({"size": [HEIGHT, WIDTH], "counts": [1.0, GRID - 1]}, "counts are neither whole numbers"),
        ({"size": [HEIGHT, WIDTH], "counts": []}, "counts are neither whole numbers"),
        ({"size": [HEIGHT, WIDTH]}, "counts are neither whole numbers"),
        ({"size": [WIDTH, HEIGHT], "counts": [GRID]}, r"an RLE of size \[20, 16\], which is not the image's"),
        ({"counts": [GRID]}, "an RLE of size None"),
        ({"size": [HEIGHT, WIDTH], "counts": "35"}, "counts add up to 8, not"),
        ({"size": [HEIGHT, WIDTH], "counts": "35Y"}, "breaks off in COCO's text code"),
        ({"size": [HEIGHT, WIDTH], "counts": "3é"}, "not in COCO's text code"),
        ({"size": [HEIGHT, WIDTH], "counts": "3!"}, "not in COCO's text code"),
        ({"size": [HEIGHT, WIDTH], "counts": "o" * 50}, "not in COCO's text code"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "counts are neither whole numbers"),
    ],
)
def test_segmentations_that_are_not_valid(segmentation: Any, message: str, tmp_path: Path) -> None:
    def change(split: str, document: Document) -> None:
        if split == "val":
            document["annotations"][0]["segmentation"] = segmentation

    source = locate(str(make_coco(tmp_path, {"train": 4, "val": 4, "test": 4}, change=change)))
    with pytest.raises(
        InputError, match=rf"instances_val\.json: annotation 2010 of image val_001\.png: .*{message}"
    ) as caught:
        load(source, masks=True)
    assert "\n" not in str(caught.value)
    data = load(source, masks=True, skip_invalid=True)
    assert data.skipped == 1
    assert [len(objects) for objects in data.val.objects] == [0, 0, 2, 0]
    assert data.val.objects[2].bitmaps(HEIGHT, WIDTH).sum() == 48
