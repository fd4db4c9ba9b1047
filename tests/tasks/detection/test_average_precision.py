"""Average precision is what pycocotools computes, on cases that can be checked by hand."""

from __future__ import annotations

import contextlib
import io
import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from switch_ema.data.detection.scenes import Scenes
from switch_ema.errors import InputError
from switch_ema.tasks.detection.average_precision import NAMES, AveragePrecision, Found, encoded, sizes_there

from .scenes import SIDE, objects, rectangles, scenes

NUM_CLASSES = 3
SMALL, MEDIUM, LARGE = (10, 10, 30, 30), (40, 40, 100, 110), (20, 60, 190, 180)


def found(*rows: tuple[float, ...]) -> Found:
    """Make detections of rows x1, y1, x2, y2, label, score, with masks that fill the boxes."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = table[:, :4]
    masks = rectangles(boxes)
    return Found(boxes, table[:, 5], table[:, 4].astype(np.int64), encoded(masks))


def of_pycocotools(truth: Scenes, detections: list[Found], kind: str) -> list[float]:
    """Compute the same as pycocotools is meant to be used, through its files' layout."""
    images = [{"id": 7 + n, "height": SIDE, "width": SIDE} for n in range(len(truth))]
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate(truth.objects):
        masks = each.bitmaps(SIDE, SIDE)
        for k in range(len(each)):
            left, top, right, bottom = each.boxes[k].tolist()
            annotations.append({
                "id": len(annotations) + 1, "image_id": 7 + number, "category_id": int(each.labels[k]) + 1,
                "bbox": [left, top, right - left, bottom - top], "area": float(each.areas[k]),
                "iscrowd": int(each.crowd[k]), "segmentation": rle.encode(np.asfortranarray(masks[k])),
            })  # fmt: skip
    results: list[dict[str, Any]] = []
    for number, got in enumerate(detections):
        for k in range(len(got.scores)):
            left, top, right, bottom = got.boxes[k].tolist()
            shape = {"bbox": [left, top, right - left, bottom - top]}
            if kind == "segm":
                assert got.masks is not None
                shape = {"segmentation": got.masks[k]}  # type: ignore[dict-item]
            common = {"image_id": 7 + number, "category_id": int(got.labels[k]) + 1, "score": float(got.scores[k])}
            results.append({**common, **shape})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": images, "annotations": annotations,
            "categories": [{"id": label + 1} for label in range(NUM_CLASSES)],
        }  # fmt: skip
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results) if results else COCO(), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) if value >= 0 else math.nan for value in evaluation.stats[:6]]


def random_case(seed: int) -> tuple[Scenes, list[Found]]:
    """Draw objects of all sizes and detections beside them: shifted, doubled, of wrong classes, and more than 100."""
    rng = np.random.default_rng(seed)
    each, detections = [], []
    for number in range(6):
        corners = rng.uniform(0, 120, (9, 2))
        boxes = np.concatenate([corners, np.minimum(corners + rng.uniform(4, 130, (9, 2)), SIDE)], 1)
        labels = rng.integers(0, 2 + (number > 2), 9)
        each.append(objects(*np.c_[boxes, labels], crowd=(0, 4) if number % 2 else ()))
        times = 20 if number == 5 else 3
        guessed = np.repeat(boxes, times, 0) + rng.normal(0, 4, (9 * times, 4))
        guessed[:, 2:] = np.maximum(guessed[:, 2:], guessed[:, :2] + 2)
        said = np.where(rng.random(9 * times) < 0.8, np.repeat(labels, times), rng.integers(0, 3, 9 * times))
        scores = rng.integers(1, 100, 9 * times) / 100  # ties
        detections.append(found(*np.c_[guessed.clip(0, SIDE), said, scores]))
    return scenes(*each, objects()), [*detections, found((5, 5, 50, 50, 1, 0.5))]


ALL = objects((*SMALL, 0), (*MEDIUM, 1), (*LARGE, 1))
CASES: dict[str, tuple[Scenes, list[Found]]] = {
    "perfect": (scenes(ALL), [found((*SMALL, 0, 0.9), (*MEDIUM, 1, 0.8), (*LARGE, 1, 0.7))]),
    "shifted": (scenes(ALL), [found((12, 10, 32, 30, 0, 0.9), (48, 40, 108, 110, 1, 0.8), (*LARGE, 1, 0.7))]),
    "wrong class": (scenes(ALL), [found((*SMALL, 1, 0.9), (*MEDIUM, 0, 0.8), (*LARGE, 2, 0.7))]),
    "duplicates": (
        scenes(ALL), [found((*SMALL, 0, 0.9), (*SMALL, 0, 0.8), (*MEDIUM, 1, 0.6), (41, 40, 100, 110, 1, 0.9))]
    ),
    "equal scores": (scenes(ALL), [found((0, 0, 9, 9, 1, 0.5), (*MEDIUM, 1, 0.5), (*LARGE, 1, 0.5))]),
    "crowd": (
        scenes(objects((*SMALL, 0), (*LARGE, 0), crowd=(1,))),
        [found((*SMALL, 0, 0.5), (60, 70, 100, 120, 0, 0.9), (30, 70, 60, 120, 0, 0.8), (0, 0, 5, 5, 0, 0.7))],
    ),
    "a crowd alone": (scenes(objects((*LARGE, 0), crowd=(0,))), [found((60, 70, 100, 120, 0, 0.9))]),
    "nothing found": (scenes(ALL, objects()), [found(), found()]),
    "nothing there": (scenes(objects()), [found((*SMALL, 0, 0.9))]),
    "an image without objects": (scenes(ALL, objects()), [found((*MEDIUM, 1, 0.6)), found((*MEDIUM, 1, 0.9))]),
    "small alone": (scenes(objects((*SMALL, 2))), [found((*SMALL, 2, 0.3), (*LARGE, 2, 0.9))]),
    "medium alone": (scenes(objects((*MEDIUM, 2))), [found((*MEDIUM, 2, 0.3))]),
    "large alone": (scenes(objects((*LARGE, 2))), [found((*LARGE, 2, 0.3))]),
    "at the border of two sizes": (scenes(objects((0, 0, 32, 32, 0))), [found((0, 0, 32, 32, 0, 0.5))]),
    **{f"random {seed}": random_case(seed) for seed in range(4)},
}  # fmt: skip


@pytest.fixture(params=["faster-coco-eval", "pycocotools"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Compute with one library, as though the other were not installed."""
    if request.param == "pycocotools":
        monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    return str(request.param)


@pytest.mark.parametrize("case", CASES)
def test_it_is_what_pycocotools_computes(case: str, backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    truth, detections = CASES[case]
    precision = AveragePrecision(truth, NUM_CLASSES, masks=True)
    for got, kind in ((precision.boxes(detections), "bbox"), (precision.masks(detections), "segm")):
        assert tuple(got) == NAMES
        assert list(got.values()) == pytest.approx(of_pycocotools(truth, detections, kind), abs=1e-12, nan_ok=True)
    assert capfd.readouterr().out == ""


def test_values_that_can_be_told_by_hand() -> None:
    def measured(case: str) -> dict[str, float]:
        truth, detections = CASES[case]
        return AveragePrecision(truth, NUM_CLASSES).boxes(detections)

    assert list(measured("perfect").values()) == pytest.approx([1] * 6)
    assert measured("wrong class")["ap"] == 0
    # IoU 18/22 = 0.818 passes 7 of 10 thresholds; 52/68 = 0.765 passes 6, and beside it stands a perfect one
    assert measured("shifted")["ap_small"] == pytest.approx(0.7)
    assert measured("shifted")["ap_medium"] == pytest.approx(0.6)
    assert measured("shifted")["ap75"] == pytest.approx(1)
    # one of two objects found, first: recalls 0 to 0.5 are 51 of 101
    assert measured("duplicates")["ap_medium"] == pytest.approx(1)
    assert measured("duplicates")["ap50"] == pytest.approx((1 + 51 / 101) / 2)
    assert measured("crowd")["ap50"] == pytest.approx(0.5)  # 0.7 is wrong, those within the crowd are not counted
    nothing = measured("nothing found")
    assert nothing["ap"] == nothing["ap_large"] == 0
    assert all(math.isnan(value) for value in measured("a crowd alone").values())
    assert math.isnan(measured("small alone")["ap_large"])


def test_masks_are_not_their_boxes() -> None:
    masks = np.zeros((1, SIDE, SIDE), np.uint8)
    masks[0, 10:110, 10:60] = 1
    truth = scenes(objects((10, 10, 110, 110, 0), masks=masks))
    filled = found((10, 10, 110, 110, 0, 1.0))
    exact = replace(filled, masks=encoded(masks))
    precision = AveragePrecision(truth, NUM_CLASSES, masks=True)
    assert precision.masks([exact])["ap"] == pytest.approx(1)
    assert precision.masks([exact])["ap_medium"] == pytest.approx(1)  # 5,000 pixels, in a box of 10,000
    assert precision.masks([filled])["ap"] == pytest.approx(0.1)  # IoU 0.5
    assert precision.boxes([filled])["ap"] == pytest.approx(1)


def test_sizes_there_are_those_of_every_split() -> None:
    few = scenes(objects((*SMALL, 0), (*LARGE, 0), crowd=(1,)), objects())
    assert sizes_there(scenes(ALL)) == ("ap_small", "ap_medium", "ap_large")
    assert sizes_there(scenes(ALL), few) == ("ap_small",)
    assert sizes_there(scenes(objects((0, 0, 32, 32, 0)))) == ("ap_small", "ap_medium")
    assert sizes_there(scenes(objects())) == sizes_there(scenes()) == ()


def test_measuring_twice_gives_the_same() -> None:
    truth, detections = CASES["random 0"]
    precision = AveragePrecision(truth, NUM_CLASSES, masks=True)
    first = precision.masks(detections)
    precision.boxes(detections)
    assert precision.masks(detections) == pytest.approx(first, abs=0, nan_ok=True)


def test_without_a_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(InputError, match=r'need faster-coco-eval.*pip install "switch-ema\[bench\]"'):
        AveragePrecision(scenes(ALL), NUM_CLASSES)
