"""Pascal VOC folders: what is read, and what is refused or left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from switch_ema.data.detection.catalog import locate
from switch_ema.data.detection.load import load
from switch_ema.errors import InputError

from .make import COUNTS, HEIGHT, WIDTH, make_voc, pixels, voc_file, voc_object

DOG = voc_object("dog", (2, 3, 9, 10))


def test_all_that_the_files_say_is_read(tmp_path: Path) -> None:
    data = load(locate(str(make_voc(tmp_path))))
    assert (data.class_names, data.has_masks, data.skipped) == (("cat", "dog"), False, 0)
    for split, count in COUNTS.items():
        scenes = getattr(data, split)
        assert scenes.ids == tuple(f"{split}_{i:03}" for i in range(count))
        assert scenes.sizes.tolist() == [[HEIGHT, WIDTH]] * count
        for i, objects in enumerate(scenes.objects):
            assert objects.boxes.tolist() == [[1, 2, 9, 10], [9, 0, 20, 16]][: 1 + i % 2]
            assert objects.labels.tolist() == [1, 0][: 1 + i % 2]
            assert objects.crowd.tolist() == [False, True][: 1 + i % 2]
            assert objects.areas.tolist() == [64, 176][: 1 + i % 2]
            assert (scenes.image(i) == pixels(i)).all()


def test_masks_are_those_of_the_segmentation_lists(tmp_path: Path) -> None:
    data = load(locate(str(make_voc(tmp_path))), masks=True)
    assert data.has_masks
    assert data.train.ids == tuple(f"train_{i:03}" for i in (0, 1, 4, 5, 8, 9))
    dog, cat = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    dog[2:10, 1:8] = 1
    cat[0:16, 9:19] = 1
    assert (data.train.objects[0].bitmaps(HEIGHT, WIDTH) == dog[None]).all()
    masks = data.train.objects[1].bitmaps(HEIGHT, WIDTH)
    assert masks.dtype == np.uint8
    assert (masks == np.stack([dog, cat])).all()


def test_a_folder_without_masks(tmp_path: Path) -> None:
    data = load(locate(str(make_voc(tmp_path, masks=False))), masks=True)
    assert not data.has_masks
    assert len(data.train) == COUNTS["train"]


def test_masks_stay_with_their_objects_when_one_is_left_out(tmp_path: Path) -> None:
    make_voc(tmp_path)
    objects = [voc_object("dog", (2, 3, 1, 10)), voc_object("cat", (10, 1, 20, 16))]
    (tmp_path / "Annotations" / "train_001.xml").write_text(voc_file(*objects))
    objects_left = load(locate(str(tmp_path)), masks=True, skip_invalid=True).train.objects[1]
    assert objects_left.labels.tolist() == [0]
    mask = objects_left.bitmaps(HEIGHT, WIDTH)[0]
    assert mask[:, 9:19].all()
    assert mask.sum() == 160


@pytest.mark.parametrize(
    ("masks", "message"),
    [(pixels(1), r"shape \(16, 20, 3\), but its photograph has \(16, 20\)"), (None, r"not a readable image \(")],
)
def test_damaged_masks(masks: np.ndarray | None, message: str, tmp_path: Path) -> None:
    make_voc(tmp_path)
    file = tmp_path / "SegmentationObject" / "train_001.png"
    file.write_bytes(b"junk") if masks is None else Image.fromarray(masks).save(file)
    objects = load(locate(str(tmp_path)), masks=True).train.objects[1]
    with pytest.raises(InputError, match=rf"SegmentationObject/train_001\.png: {message}"):
        objects.bitmaps(HEIGHT, WIDTH)


def test_where_folders_may_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    year = make_voc(tmp_path / "VOCdevkit" / "VOC2012")
    assert locate(str(year.parent)).path == str(year)
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    assert locate("voc").path == str(year)
    newer = make_voc(tmp_path / "VOCdevkit" / "VOC2007")
    assert locate("voc").path == str(newer)
    with pytest.raises(InputError, match="VOC2007 and VOC2012 are both there; give the path of one"):
        locate(str(year.parent))


def test_lists_of_splits(tmp_path: Path) -> None:
    lists = make_voc(tmp_path, {"train": 40, "val": 4}) / "ImageSets" / "Main"
    data = load(locate(str(tmp_path)))
    assert {str(name)[:3] for name in data.test.ids} == {"val"}
    assert (len(data.train), len(data.val)) == (36, 4)
    (lists / "trainval.txt").write_text((lists / "train.txt").read_text() + (lists / "val.txt").read_text())
    (lists / "train.txt").unlink()
    data = load.__wrapped__(locate(str(tmp_path)))
    assert sorted([*data.train.ids, *data.val.ids, *data.test.ids]) == (lists / "trainval.txt").read_text().split()
    (lists / "trainval.txt").unlink()
    with pytest.raises(InputError, match=r"ImageSets/Main: neither train\.txt nor trainval\.txt"):
        locate(str(tmp_path))


BAD_OBJECTS = [
    (voc_object("dog", (5, 3, 4, 9)), "a box of 0x7 pixels, without area"),
    (voc_object("dog", (5, 3, 22, 9)), r"a box from \(4, 2\) to \(22, 9\) sticks out of the image of 20x16 pixels"),
    (voc_object("dog", (5, "nan", 9, 9)), "bndbox/ymin nan is not a finite number"),
    (voc_object("dog", (5, "x", 9, 9)), "bndbox/ymin 'x' is not a number"),
    (voc_object("cow", (5, 3, 9, 9)), "its name 'cow' is no class of the training images"),
    (voc_object("dog", (5, 3, 9, 9), "yes"), "difficult 'yes' is neither 0 nor 1"),
    ("<object><name>dog</name></object>", "it has no bndbox/xmin"),
    ("<object></object>", "its name '' is no class"),
]


@pytest.mark.parametrize(("item", "message"), BAD_OBJECTS)
def test_objects_that_are_not_valid(item: str, message: str, tmp_path: Path) -> None:
    make_voc(tmp_path)
    (tmp_path / "Annotations" / "val_001.xml").write_text(voc_file(DOG, item))
    with pytest.raises(InputError, match=rf"val_001\.xml: object 2 of image val_001: {message}.*--skip-invalid true"):
        load(locate(str(tmp_path)))
    data = load(locate(str(tmp_path)), skip_invalid=True)
    assert data.skipped == 1
    assert data.val.objects[1].boxes.tolist() == [[1, 2, 9, 10]]


BAD_IMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda p: (p / "Annotations/val_001.xml").unlink(), "no such file"),
    (lambda p: (p / "Annotations/val_001.xml").write_text("<annotation>"), r"not an XML file \("),
    (lambda p: (p / "Annotations/val_001.xml").write_text(voc_file(DOG, width=0)), "width 0.0 is not a whole number"),
    (lambda p: (p / "Annotations/val_001.xml").write_text("<annotation/>"), "it has no size/height"),
    (lambda p: (p / "JPEGImages/val_001.jpg").unlink(), r"no image file val_001\.jpg in .*JPEGImages"),
    (lambda p: (p / "SegmentationObject/val_001.png").unlink(), r"no masks val_001\.png in .*SegmentationObject"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_IMAGES)
def test_images_that_are_not_valid(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    spoil(make_voc(tmp_path))
    with pytest.raises(InputError, match=rf"Annotations/val_001\.xml: image val_001: {message}.*--skip-invalid true"):
        load(locate(str(tmp_path)), masks=True)
    data = load(locate(str(tmp_path)), masks=True, skip_invalid=True)
    assert data.skipped == 1
    assert data.val.ids == ("val_000",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "no image is named in it"),
        (b"val_000\nval_000\n", "image val_000 is named twice"),
        (b"\xff\xff", "not a text in UTF-8"),
    ],
)
def test_lists_that_are_wrong(content: bytes, message: str, tmp_path: Path) -> None:
    (make_voc(tmp_path) / "ImageSets/Main/val.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"val\.txt: {message}"):
        load(locate(str(tmp_path)))


def test_training_images_without_objects(tmp_path: Path) -> None:
    make_voc(tmp_path)
    for file in (tmp_path / "Annotations").glob("train*"):
        file.write_text(voc_file())
    with pytest.raises(InputError, match=r"train\.txt: no object on any of these images"):
        load(locate(str(tmp_path)))
    for file in (tmp_path / "JPEGImages").iterdir():
        file.unlink()
    (tmp_path / "JPEGImages").rmdir()
    with pytest.raises(InputError, match="no folder JPEGImages/"):
        locate(str(tmp_path))
