"""COCO folders: what is read, which files belong to which split, what is held out."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from switch_ema.data.detection import pictures
from switch_ema.data.detection.catalog import DATASETS, locate
from switch_ema.data.detection.load import load
from switch_ema.data.detection.scenes import DetectionSet, Scenes
from switch_ema.errors import InputError
from tests.conftest import loaded_after

from .make import COUNTS, HEIGHT, WIDTH, Document, annotation, coco_document, make_coco, make_voc, pixels

ROOT = Path(os.environ.get("SEMA_DATA") or "../shared/data")


def read(folder: Path, **options: Any) -> DetectionSet:
    return load(locate(str(folder)), **options)


def numbers(scenes: Scenes) -> list[int]:
    """Return the numbers that the images tell, each checked against its id."""
    found = [int(scenes.image(i)[0, 0, 0]) // 5 for i in range(len(scenes))]
    assert found == [int(key) % 100 for key in scenes.ids]
    return found


def test_all_that_the_files_say_is_read(tmp_path: Path) -> None:
    data = read(make_coco(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert (data.has_masks, data.skipped) == (False, 0)
    for split, count in COUNTS.items():
        scenes = getattr(data, split)
        wanted = coco_document(split, count)
        assert scenes.ids == tuple(entry["id"] for entry in wanted["images"])
        assert scenes.sizes.tolist() == [[HEIGHT, WIDTH]] * count
        assert numbers(scenes) == list(range(count))
        for i, objects in enumerate(scenes.objects):
            assert len(objects) == i % 3
            assert objects.boxes.shape == (i % 3, 4)
            assert objects.boxes.tolist() == [[2 + 7 * k, 3 + i % 5, 8 + 7 * k, 7 + i % 5] for k in range(i % 3)]
            assert objects.labels.tolist() == [0, 1][: i % 3]
            assert objects.areas.tolist() == [24] * (i % 3)
            assert not objects.crowd.any()
            arrays = (objects.boxes, objects.labels, objects.crowd, objects.areas, scenes.sizes)
            assert [array.dtype for array in arrays] == [np.float32, np.int64, np.bool_, np.float32, np.int64]
            with pytest.raises(ValueError, match="no masks"):
                objects.bitmaps(HEIGHT, WIDTH)


def test_crowds_and_areas_as_the_file_has_them(tmp_path: Path) -> None:
    def change(split: str, document: Document) -> None:
        document["annotations"][0].update(iscrowd=1, area=5.5)
        del document["annotations"][1]["area"], document["annotations"][1]["iscrowd"]

    objects = read(make_coco(tmp_path, change=change)).train.objects
    assert (objects[1].crowd.tolist(), objects[1].areas.tolist()) == ([True], [5.5])
    assert (objects[2].crowd.tolist(), objects[2].areas.tolist()) == ([False, False], [24, 24])


def test_boxes_that_stick_out_by_a_pixel_are_clipped(tmp_path: Path) -> None:
    def change(split: str, document: Document) -> None:
        document["annotations"][0]["bbox"] = [-1, -0.5, WIDTH + 2, HEIGHT + 1.2]

    data = read(make_coco(tmp_path, change=change))
    assert data.train.objects[1].boxes.tolist() == [[0, 0, WIDTH, HEIGHT]]
    assert data.skipped == 0


@pytest.mark.parametrize("images", [None, "images", ""])
@pytest.mark.parametrize("suffix", ["", "2017"])
def test_where_files_may_lie(images: str | None, suffix: str, tmp_path: Path) -> None:
    data = read(make_coco(tmp_path, suffix=suffix, images=images))
    assert [numbers(part) for part in (data.train, data.val, data.test)] == [list(range(n)) for n in COUNTS.values()]


def test_names_may_begin_with_folders(tmp_path: Path) -> None:
    def change(split: str, document: Document) -> None:
        for entry in document["images"]:
            entry["file_name"] = f"deep/{split}/{entry['file_name']}"

    make_coco(tmp_path, change=change)
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for split in COUNTS:
        (tmp_path / split).rename(tmp_path / "images" / "deep" / split)
    assert numbers(read(tmp_path).test) == list(range(COUNTS["test"]))


@pytest.mark.parametrize(
    ("there", "sizes"),
    [
        ({"train": 40}, (29, 3, 8)),
        ({"train": 40, "test": 5}, (36, 4, 5)),
        ({"train": 40, "val": 5}, (36, 4, 5)),
        ({"train": 40, "val": 5, "test": 6}, (40, 5, 6)),
    ],
)
def test_what_is_missing_is_held_out(there: dict[str, int], sizes: tuple[int, ...], tmp_path: Path) -> None:
    data = read(make_coco(tmp_path, there))
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    everything = [*data.train.ids, *data.val.ids, *data.test.ids]
    assert len(set(everything)) == sum(there.values())
    small = read(tmp_path, train_size=9)
    assert (small.val.ids, small.test.ids) == (data.val.ids, data.test.ids)
    assert set(small.train.ids) < set(read(tmp_path, train_size=15).train.ids) < set(data.train.ids)
    assert numbers(small.train) == sorted(numbers(small.train))
    with pytest.raises(InputError, match=rf"train size {sizes[0] + 1}: write 1 to {sizes[0]}"):
        read(tmp_path, train_size=sizes[0] + 1)


def test_val_alone_is_the_test_split(tmp_path: Path) -> None:
    data = read(make_coco(tmp_path, {"train": 40, "val": 5}, suffix="2017"))
    assert {int(key) // 100 for key in data.test.ids} == {2}
    assert {int(key) // 100 for key in data.val.ids} == {1}


def test_small_splits_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = locate(str(make_coco(tmp_path)))
    kept = load(source).train
    assert kept.image(1) is kept.image(1)
    monkeypatch.setattr(pictures, "KEPT_BYTES", 3 * HEIGHT * WIDTH * COUNTS["train"])
    read_again = load.__wrapped__(source)
    assert read_again.val.image(1) is read_again.val.image(1)
    assert read_again.train.image(1) is not read_again.train.image(1)
    assert (read_again.train.image(1) == pixels(1)).all()


def test_several_seeds_read_once(tmp_path: Path) -> None:
    source = locate(str(make_coco(tmp_path)))
    assert load(source, train_size=5) is load(source, train_size=5)


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    from PIL import Image

    make_coco(tmp_path)
    Image.fromarray(pixels(7)[..., 0]).save(tmp_path / "train" / "train_007.png")
    assert (read(tmp_path).train.image(7) == pixels(7)).all()


def test_annotations_may_be_in_any_order(tmp_path: Path) -> None:
    def change(split: str, document: Document) -> None:
        document["annotations"].reverse()
        document["annotations"].append(annotation(1, document["images"][0]["id"], (0, 0, 1, 1)))

    data = read(make_coco(tmp_path, change=change))
    assert data.train.objects[2].labels.tolist() == [1, 0]
    assert data.train.objects[0].boxes.tolist() == [[0, 0, 1, 1]]


def test_named_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    make_coco(tmp_path / "coco", suffix="2017")
    assert locate("coco").format == "coco"
    assert set(DATASETS) == {"digits-canvas", "bccd", "coco", "voc"}
    for name in ("bccd", "voc"):
        with pytest.raises(InputError, match=rf"data set '{name}' not found: .* set SEMA_DATA .* --data digits-canvas"):
            locate(name)


def test_data_are_found_with_the_standard_library_alone(tmp_path: Path) -> None:
    folders = [make_coco(tmp_path / "coco", {"train": 2}), make_voc(tmp_path / "voc", {"train": 2})]
    for folder in folders:
        loaded = loaded_after(f"from switch_ema.data.detection.catalog import locate; locate({str(folder)!r})")
        assert not loaded & {"numpy", "PIL", "torch"}


@pytest.mark.skipif(not (ROOT / "bccd").is_dir(), reason=f"no bccd in {ROOT}")
def test_blood_cells(caplog: pytest.LogCaptureFixture) -> None:
    source = locate("bccd")
    wanted = (
        r"instances_train\.json: annotation 2288 of image BloodImage_00343\.jpg: a box of 0x0 pixels, without area; 2 o"
    )
    with pytest.raises(InputError, match=wanted):
        load(source)
    with caplog.at_level(logging.WARNING):
        data = load(source, skip_invalid=True)
    assert len(caplog.records) == 1
    assert "bccd: left out 2 objects as not valid" in caplog.text
    assert (data.skipped, data.has_masks, data.class_names) == (2, False, ("RBC", "WBC", "Platelets"))
    assert [len(part) for part in (data.train, data.val, data.test)] == [205, 87, 72]
    assert [sum(map(len, part.objects)) for part in (data.train, data.val, data.test)] == [2804, 1137, 945]
    assert data.train.objects[0].boxes[0].tolist() == [68, 315, 286, 480]
    image = data.train.image(0)
    assert image.shape == (480, 640, 3)
    box = image[315:480, 68:286].astype(int)  # a white blood cell is stained blue
    assert (box[..., 2] - box[..., 1]).mean() > (image[..., 2].astype(int) - image[..., 1]).mean() + 20
