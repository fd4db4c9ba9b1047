"""COCO files that are wrong: refused by name, or objects and images left out and counted when that was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from switch_ema.data.detection.catalog import locate
from switch_ema.data.detection.load import load
from switch_ema.errors import InputError

from .make import HEIGHT, WIDTH, Document, annotation, make_coco, pixels

SMALL = {"train": 9, "val": 3, "test": 4}
Change = Callable[[Document], object]


def spoilt(folder: Path, change: Change, split: str = "train") -> Path:
    return make_coco(folder, SMALL, lambda s, document: s == split and change(document))


def first(**values: Any) -> Change:
    """Change the first annotation, 1010 of image 101."""
    return lambda document: document["annotations"][0].update(values)


def without(key: str) -> Change:
    return lambda document: document["annotations"][0].pop(key)


def box(x: float, y: float, width: float, height: float) -> Change:
    return first(bbox=[x, y, width, height])


def picture(**values: Any) -> Change:
    """Change the image 101, which has one object."""
    return lambda document: document["images"][1].update(values)


OBJECTS: list[tuple[str, Change, str]] = [
    ("zero width", box(3, 3, 0, 5), "a box of 0x5 pixels, without area"),
    ("zero height", box(3, 3, 5, 0), "a box of 5x0 pixels, without area"),
    ("negative", box(3, 3, -2, 5), "a box of -2x5 pixels, without area"),
    ("too far right", box(10, 3, 12, 5), r"a box from \(10, 3\) to \(22, 8\) sticks out of the image of 20x16 pixels"),
    ("too far down", box(3, 10, 5, 7.1), r"a box from \(3, 10\) to \(8, 17\.1\) sticks out of the image"),
    ("left of it", box(-1.5, 3, 5, 5), "a box from .* sticks out of the image"),
    ("above it", box(3, -2, 5, 5), "a box from .* sticks out of the image"),
    ("beside it", box(20, 3, 0.5, 5), "a box without area inside the image"),
    ("lost in rounding", box(5, 3, 1e-9, 5), "a box without area inside the image"),
    ("NaN", box(3, float("nan"), 5, 5), "in bbox, nan is not a finite number"),
    ("infinite", box(3, 3, float("inf"), 5), "in bbox, inf is not a finite number"),
    ("huge", box(3, 3, 10**400, 5), "in bbox, 1000+ is not a finite number"),
    ("text", first(bbox=["3", 3, 5, 5]), "in bbox, '3' is not a number"),
    ("three numbers", first(bbox=[3, 3, 5]), r"bbox \[3, 3, 5\] is not \[x, y, width, height\]"),
    ("no list", first(bbox=None), r"bbox None is not \[x, y, width, height\]"),
    ("no box", without("bbox"), "it has no bbox"),
    ("zero area", first(area=0), "area 0 is not above 0"),
    ("negative area", first(area=-3), "area -3 is not above 0"),
    ("area NaN", first(area=float("nan")), "area nan is not a finite number"),
    ("area null", first(area=None), "area None is not a number"),
    ("unknown category", first(category_id=4), "no category has its category_id 4"),
    ("odd category", first(category_id=[3]), r"category_id \[3\] is neither a whole number nor a text"),
    ("true category", first(category_id=True), "category_id True is neither"),
    ("no category", without("category_id"), "it has no category_id"),
    ("crowd", first(iscrowd=2), "iscrowd 2 is neither 0 nor 1"),
]
ANNOTATIONS: list[tuple[str, Change, str]] = [
    ("no image", first(image_id=999), r"annotation 1010: no image has its image_id 999"),
    ("no image id", without("image_id"), r"annotation 1010: it has no image_id"),
    ("no id", without("id"), r"annotation number 0: it has no id"),
    ("id twice", lambda d: d["annotations"].append(annotation(1010, 103, (1, 1, 2, 2))), "annotation 1010 of image "
     r"train_003\.png: an earlier annotation has the same id"),
    ("no entry", lambda d: d["annotations"].append(5), "annotation number 9: 5 is no entry"),
]  # fmt: skip
IMAGES: list[tuple[str, Change, str]] = [
    ("missing", picture(file_name="gone.png"), r"image gone\.png: no such file in .*/train, .*/images"),
    ("no name", lambda d: d["images"][1].pop("file_name"), "image number 101: it has no file_name"),
    ("empty name", picture(file_name=""), "image number 101: file_name '' is not the name of a file"),
    ("folder", picture(file_name="train_003.png/"), "no such file in"),
    ("no width", lambda d: d["images"][1].pop("width"), r"image train_001\.png: it has no width"),
    ("zero height", picture(height=0), "height 0 is not a whole number of pixels from 1"),
    ("half a pixel", picture(width=20.5), "width 20.5 is not a whole number of pixels"),
    ("NaN", picture(width=float("nan")), "width nan is not a finite number"),
]
IDS: list[tuple[str, Change, str]] = [
    (
        "id twice",
        lambda d: d["images"].append(dict(d["images"][1])),
        r"train_001\.png: an earlier image has the same id",
    ),
    ("id null", lambda d: d["images"].append({"id": None}), "image number 9: id None is neither"),
    ("no entry", lambda d: d["images"].append("x"), "image number 9: 'x' is no entry"),
]


def cases(table: list[tuple[str, Change, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("change", "message"), [pytest.param(*row[1:], id=row[0]) for row in table])


def refused(folder: Path, message: str, file: str = "instances_train.json") -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(locate(str(folder)))
    assert str(caught.value).startswith(f"{folder}/annotations/{file}: ")
    assert str(caught.value).endswith(
        "or write --skip-invalid true to leave such objects and images out and count them"
    )
    assert "\n" not in str(caught.value)


def warned(caplog: pytest.LogCaptureFixture, what: str) -> None:
    assert len(caplog.records) == 1
    assert f": left out {what} as not valid; the first: " in caplog.text
    assert "instances_" in caplog.text


@cases(OBJECTS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_objects(change: Change, message: str, split: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    number = {"train": "1010", "test": "3010"}[split]
    folder = spoilt(tmp_path, change, split)
    refused(folder, rf"annotation {number} of image {split}_001\.png: {message}", f"instances_{split}.json")
    data = load(locate(str(folder)), skip_invalid=True)
    warned(caplog, "1 object")
    assert data.skipped == 1
    assert [len(objects) for objects in getattr(data, split).objects] == [0, 0, 2, 0, 1, 2, 0, 1, 2][: SMALL[split]]


@cases(ANNOTATIONS)
def test_annotations(change: Change, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = spoilt(tmp_path, change)
    refused(folder, message)
    data = load(locate(str(folder)), skip_invalid=True)
    warned(caplog, "1 object")
    assert data.skipped == 1
    assert sum(map(len, data.train.objects)) == (9 if "append" in str(change.__code__.co_names) else 8)


@cases(IMAGES)
def test_images(change: Change, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = spoilt(tmp_path, change)
    refused(folder, message)
    data = load(locate(str(folder)), skip_invalid=True)
    warned(caplog, "1 image")
    assert data.skipped == 1
    assert data.train.ids == (100, 102, 103, 104, 105, 106, 107, 108)
    assert [len(objects) for objects in data.train.objects] == [0, 2, 0, 1, 2, 0, 1, 2]
    assert (data.train.image(1) == pixels(2)).all()


@cases(IDS)
def test_image_ids(change: Change, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = spoilt(tmp_path, change)
    refused(folder, message)
    data = load(locate(str(folder)), skip_invalid=True)
    warned(caplog, "1 image")
    assert data.train.ids == tuple(range(100, 109))


def test_all_are_counted_and_the_first_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def change(split: str, document: Document) -> None:
        if split != "val":
            document["annotations"][0]["bbox"][2] = 0
            document["annotations"][2]["area"] = 0
        else:
            document["images"][0]["file_name"] = "gone.png"

    make_coco(tmp_path, SMALL, change)
    refused(
        tmp_path, "annotation 1010 of .*, without area; 4 objects and 1 image are not valid; correct them, or write"
    )
    assert load(locate(str(tmp_path)), skip_invalid=True).skipped == 5
    warned(caplog, "4 objects and 1 image")


def test_the_other_images_keep_their_splits(tmp_path: Path) -> None:
    whole = load(locate(str(make_coco(tmp_path / "whole", {"train": 40}))))
    spoil = make_coco(tmp_path / "spoilt", {"train": 40}, lambda _, d: [e.update(height=0) for e in d["images"][::5]])
    data = load(locate(str(spoil)), skip_invalid=True)
    assert data.skipped == 8
    for split in ("train", "val", "test"):
        assert getattr(data, split).ids == tuple(key for key in getattr(whole, split).ids if key % 5)


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("damage", ["junk", "empty", "half", "other size"])
def test_damaged_image_files(ending: str, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_coco(tmp_path, SMALL, lambda _, d: [e.update(file_name=f"{e['id']}.{ending}") for e in d["images"]])
    for split, count in SMALL.items():
        for i in range(count):
            noise = np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / split / f"{100 * (1 + list(SMALL).index(split)) + i}.{ending}")
    file = tmp_path / "train" / f"102.{ending}"
    content = file.read_bytes()
    if damage == "other size":
        Image.fromarray(pixels(2, WIDTH, HEIGHT + 1)).save(file)
        message = "the image has 20x17 pixels, its annotations say 20x16"
    else:
        file.write_bytes({"junk": b"junk", "empty": b"", "half": content[: len(content) // 2]}[damage])
        message = r"not a readable image \("
    source = locate(str(tmp_path))
    data = load(source)  # nothing is decoded yet
    assert data.skipped == 0
    assert data.train.image(1).shape == (HEIGHT, WIDTH, 3)
    wanted = rf"train/102\.{ending}: {message}.*; correct the file or its annotations, or write --skip-invalid true to"
    with pytest.raises(InputError, match=wanted):
        data.train.image(2)
    data = load(source, skip_invalid=True)
    assert data.skipped == 1
    assert data.train.ids == (100, 101, 103, 104, 105, 106, 107, 108)
    assert [len(objects) for objects in data.train.objects] == [0, 1, 0, 1, 2, 0, 1, 2]
    assert len(data.train.sizes) == 8
    assert f"left out 1 image as not valid; the first: {tmp_path}/train/102.{ending}: " in caplog.text
    assert len(caplog.records) == 1


def test_nothing_to_skip_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert load(locate(str(make_coco(tmp_path, SMALL))), skip_invalid=True).skipped == 0
    assert not [record for record in caplog.records if record.name.startswith("switch_ema")]


FILES: list[tuple[str, Change, str]] = [
    ("no annotations", lambda d: d.update(annotations=[]), "its list 'annotations' is empty; is it the right file"),
    ("no images", lambda d: d.update(images=[]), "its list 'images' is empty"),
    ("no categories", lambda d: d.update(categories=[]), "its list 'categories' is empty"),
    ("missing", lambda d: d.pop("annotations"), "no list 'annotations'; a COCO file has lists images"),
    ("no list", lambda d: d.update(images={}), "no list 'images'"),
    ("category without id", lambda d: d.update(categories=[{"name": "cat"}]), "lacks a whole number as id or a name"),
    ("category without name", lambda d: d.update(categories=[{"id": 3}]), "lacks a whole number as id or a name"),
    ("category 5", lambda d: d.update(categories=[5]), "category 5 lacks"),
    ("category id twice", lambda d: d["categories"].append({"id": 3, "name": "cow"}), "id or name that an earlier one"),
    (
        "category name twice",
        lambda d: d["categories"].append({"id": 9, "name": "cat"}),
        "id or name that an earlier one",
    ),
]


@cases(FILES)
@pytest.mark.parametrize("skip", [False, True])
def test_files(change: Change, message: str, skip: bool, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"instances_val\.json: .*{message}"):
        load(locate(str(spoilt(tmp_path, change, "val"))), skip_invalid=skip)


@pytest.mark.parametrize(
    ("categories", "odd"),
    [
        ([{"id": 3, "name": "cat"}], "dog"),
        ([{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}], "dog"),
        ([{"id": 3, "name": "cat"}, {"id": 7, "name": "cow"}], "cow, dog"),
    ],
)
def test_classes_must_be_the_same_in_all_splits(categories: list[Any], odd: str, tmp_path: Path) -> None:
    wanted = rf"instances_test\.json: its categories differ from those of .*instances_train\.json in {odd}; give all"
    with pytest.raises(InputError, match=wanted):
        load(locate(str(spoilt(tmp_path, lambda d: d.update(categories=categories), "test"))))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "\xff\xfe", '{"images": [1'])
def test_no_json(text: str, tmp_path: Path) -> None:
    make_coco(tmp_path, SMALL)
    file = tmp_path / "annotations" / "instances_train.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(
        InputError, match=r"instances_train\.json: (the file is empty|not a JSON file \(|no list 'images')"
    ):
        load(locate(str(tmp_path)))


def test_a_split_without_objects(tmp_path: Path) -> None:
    def crowds(document: Document) -> None:
        for entry in document["annotations"]:
            entry["iscrowd"] = 1

    with pytest.raises(InputError, match="no object on any of the 3 valid images of its val split"):
        load(locate(str(spoilt(tmp_path / "crowds", crowds, "val"))))
    folder = spoilt(tmp_path / "none", lambda d: [e.update(width=0) for e in d["images"]], "test")
    with pytest.raises(InputError, match="no object on any of the 0 valid images of its test split"):
        load(locate(str(folder)), skip_invalid=True)


def test_folders_that_are_refused_at_once(tmp_path: Path) -> None:
    folder = make_coco(tmp_path / "set")
    file = folder / "annotations" / "instances_train.json"
    (folder / "annotations" / "instances_train2017.json").write_text("{}")
    with pytest.raises(InputError, match=r"instances_train\.json and instances_train2017\.json are both there"):
        locate(str(folder))
    file.unlink()
    (folder / "annotations" / "instances_train2017.json").rename(folder / "annotations" / "train.json")
    with pytest.raises(InputError, match=r"no instances_train\.json .*\(there are .*train\.json\); rename"):
        locate(str(folder))
    (folder / "annotations" / "train.json").rename(file)
    for split in ("train", "val", "test"):
        for image in (folder / split).iterdir():
            image.unlink()
        (folder / split).rmdir()
    with pytest.raises(InputError, match=r"annotations/ but no images; put them into .*/train"):
        locate(str(folder))
    with pytest.raises(InputError, match="this is a file; give the folder"):
        locate(str(file))
    with pytest.raises(InputError, match="no data in a known format"):
        locate(str(folder / "annotations"))
    with pytest.raises(InputError, match="did you mean 'bccd'"):
        locate("bcd")
