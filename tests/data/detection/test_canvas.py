"""Digits on a canvas: boxes tight round the ink, scenes that are always the same, no scan in two splits."""

from __future__ import annotations

import numpy as np
import pytest

from switch_ema.data import digits
from switch_ema.data.detection import canvas
from switch_ema.data.detection.catalog import DATASETS, locate
from switch_ema.data.detection.load import load
from switch_ema.data.detection.scenes import DetectionSet
from switch_ema.data.splits import divide
from switch_ema.errors import InputError

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def data() -> DetectionSet:
    return load(locate("digits-canvas"), masks=True)


def test_what_scenes_hold(data: DetectionSet) -> None:
    assert data.class_names == tuple("0123456789")
    assert (data.has_masks, data.skipped) == (True, 0)
    assert DATASETS["digits-canvas"].startswith(f"{sum(canvas.COUNTS.values())} scenes")
    for split in SPLITS:
        scenes = getattr(data, split)
        assert len(scenes) == len(scenes.objects) == canvas.COUNTS[split]
        assert scenes.sizes.tolist() == [[64, 64]] * len(scenes)
        image = scenes.image(0)
        assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
        assert (image == image[..., :1]).all()
        assert {len(objects) for objects in scenes.objects} == {1, 2, 3, 4}
        assert set(np.concatenate([objects.labels for objects in scenes.objects]).tolist()) == set(range(10))
        assert not any(objects.crowd.any() for objects in scenes.objects)
        assert [objects.labels.dtype for objects in scenes.objects] == [np.int64] * len(scenes)


def test_boxes_are_tight_round_the_ink(data: DetectionSet) -> None:
    sides = []
    for split in SPLITS:
        scenes = getattr(data, split)
        for i, objects in enumerate(scenes.objects):
            masks = objects.bitmaps(64, 64)
            image = scenes.image(i)[..., 0]
            assert masks.sum(axis=0).max() == 1  # no ink on ink
            assert objects.areas.tolist() == masks.sum((1, 2)).tolist()
            for box, mask in zip(objects.boxes.tolist(), masks, strict=True):
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
                assert image[mask > 0].min() >= 85
                sides.append(rows[-1] + 1 - rows[0])
            ink = masks.any(axis=0)
            assert image[~ink].mean() < 40 < 120 < image[ink].mean()
    assert 9 < min(sides) < 14 < 22 < max(sides) <= 24


def test_boxes_hardly_overlap(data: DetectionSet) -> None:
    for objects in data.train.objects:
        for i, (a1, b1, c1, d1) in enumerate(objects.boxes.tolist()):
            for a2, b2, c2, d2 in objects.boxes[:i].tolist():
                shared = max(0, min(c1, c2) - max(a1, a2)) * max(0, min(d1, d2) - max(b1, b2))
                assert shared <= 0.15 * min((c1 - a1) * (d1 - b1), (c2 - a2) * (d2 - b2))


def test_the_same_scenes_whatever_the_seed(data: DetectionSet) -> None:
    np.random.seed(5)
    again, small = canvas.make(), canvas.make(train_size=7)
    for split in SPLITS:
        for other in (again, small) if split != "train" else (again,):
            first, second = getattr(data, split), getattr(other, split)
            assert (np.stack(first.pictures) == np.stack(second.pictures)).all()
            assert all((a.boxes == b.boxes).all() for a, b in zip(first.objects, second.objects, strict=True))
    assert len(small.train) == 7
    assert set(small.train.ids) < set(canvas.make(train_size=20).train.ids) < set(data.train.ids)
    for i, key in enumerate(small.train.ids):
        assert (small.train.image(i) == data.train.image(int(key))).all()
    with pytest.raises(InputError, match="train size 401: write 1 to 400"):
        canvas.make(train_size=401)


def test_no_scan_is_in_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[bytes]] = {}
    scenes, enlarged = canvas._scenes, canvas._enlarged

    def note_split(*arguments: object) -> object:
        seen[str(arguments[-1])] = set()
        return scenes(*arguments)  # type: ignore[arg-type]

    def note_scan(scan: np.ndarray, scale: float) -> object:
        list(seen.values())[-1].add(scan.tobytes())
        return enlarged(scan, scale)

    monkeypatch.setattr(canvas, "_scenes", note_split)
    monkeypatch.setattr(canvas, "_enlarged", note_scan)
    canvas.make()
    table = digits.tables("", None)["train"]
    rows = divide(table.labels, ["test", "val"])
    for split in SPLITS:
        scans = np.rint(table.read(rows[split])[..., 0] * (255 / 16)).astype(np.uint8)
        assert seen[split] <= {scan.tobytes() for scan in scans}
        assert len(seen[split]) > 40
        for other in SPLITS:
            assert split == other or not seen[split] & seen[other]


def test_masks_have_one_size(data: DetectionSet) -> None:
    with pytest.raises(ValueError, match="asked for as"):
        data.train.objects[0].bitmaps(32, 64)
