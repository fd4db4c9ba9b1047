"""Annotations in COCO's JSON format."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from switch_ema.data.detection.layout import CocoFile, Listing, coco_files
from switch_ema.data.detection.records import (
    DefectError,
    Findings,
    Found,
    Picture,
    Records,
    as_objects,
    clip,
    number,
    side,
)
from switch_ema.data.detection.segmentation import Outlines, parse
from switch_ema.errors import InputError

if TYPE_CHECKING:
    Id = int | str
    Document = dict[str, list[Any]]


def read(path: str, masks: bool, findings: Findings) -> Records:
    """Read and check the annotation files of all splits.

    Args:
        path: The folder that holds ``annotations/``.
        masks: Also read the masks; without, nothing looks at them.
        findings: Takes the objects and images that are not valid.

    Returns:
        The images and their objects; classes are numbered in the order of their ids.

    Raises:
        InputError: A file is no annotation file, has no annotations or no proper list of classes, or the lists differ.
    """
    files = coco_files(path)
    documents = {split: _document(file.path) for split, file in files.items()}
    classes = _classes(files["train"].path, documents["train"])
    for split, document in documents.items():
        if (others := _classes(files[split].path, document)) != classes:
            odd = sorted({str(name) for _, name in classes.items() ^ others.items()})
            raise InputError(
                f"{files[split].path}: its categories differ from those of {files['train'].path} in {', '.join(odd)}; "
                "give all splits the same ids and names"
            )
    has_masks = masks and any(isinstance(a, dict) and a.get("segmentation") for a in documents["train"]["annotations"])
    labels = {category: label for label, category in enumerate(sorted(classes))}
    readers = {split: _Reader(file, labels, has_masks, findings) for split, file in files.items()}
    splits = {split: reader.pictures(documents.pop(split)) for split, reader in readers.items()}
    return Records(splits, tuple(classes[category] for category in labels), has_masks)


class _Reader:
    """Turns one file into pictures."""

    def __init__(self, file: CocoFile, labels: dict[int, int], masks: bool, findings: Findings) -> None:
        self.file = file.path
        self.labels = labels
        self.masks = masks
        self.findings = findings
        self.listing = Listing(file.folders)

    def pictures(self, document: Document) -> list[Picture]:
        """Return the images in the order of the file, those that are not valid without a path."""
        images: dict[Id, tuple[str, str | None, int, int]] = {}
        for position, entry in enumerate(document["images"]):
            try:
                if (key := _key(entry, "id")) in images:
                    raise DefectError("an earlier image has the same id")
            except DefectError as defect:
                self.findings.image(f"{self.file}: image {_called(entry, 'file_name', position)}: {defect}")
                continue
            try:
                images[key] = self._image(entry)
            except DefectError as defect:
                name = _called(entry, "file_name", key)
                self.findings.image(f"{self.file}: image {name}: {defect}")
                images[key] = (name, None, 1, 1)
        found = self._objects(document["annotations"], images)
        return [
            Picture(key, path, height, width, self._gathered(found[key]))
            for key, (_, path, height, width) in images.items()
        ]

    def _image(self, entry: dict[str, Any]) -> tuple[str, str | None, int, int]:
        name = _value(entry, "file_name")
        if not isinstance(name, str) or not name:
            raise DefectError(f"file_name {name!r} is not the name of a file")
        height, width = (side(_value(entry, key), key) for key in ("height", "width"))
        path = self.listing.find(name)
        if path is None:
            raise DefectError(f"no such file in {', '.join(self.listing.folders)}")
        return name, path, height, width

    def _objects(
        self, annotations: list[Any], images: dict[Id, tuple[str, str | None, int, int]]
    ) -> defaultdict[Id, list[Found]]:
        found: defaultdict[Id, list[Found]] = defaultdict(list)
        seen: set[Id] = set()
        for position, entry in enumerate(annotations):
            image = ""
            try:
                key = _key(entry, "id")
                owner = _key(entry, "image_id")
                if owner not in images:
                    raise DefectError(f"no image has its image_id {owner!r}")
                name, path, height, width = images[owner]
                image = f" of image {name}"
                if key in seen:
                    raise DefectError("an earlier annotation has the same id")
                seen.add(key)
                if path is not None:
                    found[owner].append(self._object(entry, height, width))
            except DefectError as defect:
                self.findings.object(f"{self.file}: annotation {_called(entry, 'id', position)}{image}: {defect}")
        return found

    def _object(self, entry: dict[str, Any], height: int, width: int) -> Found:
        category = _key(entry, "category_id")
        if category not in self.labels:
            raise DefectError(f"no category has its category_id {category!r}")
        bbox = _value(entry, "bbox")
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise DefectError(f"bbox {bbox!r} is not [x, y, width, height]")
        x, y, w, h = (number(value, "in bbox,") for value in bbox)
        box = clip((x, y, x + w, y + h), height, width)
        area = number(entry["area"], "area") if "area" in entry else w * h
        if area <= 0:
            raise DefectError(f"area {area:g} is not above 0")
        if (crowd := entry.get("iscrowd", 0)) not in (0, 1):
            raise DefectError(f"iscrowd {crowd!r} is neither 0 nor 1")
        outline = parse(entry.get("segmentation"), height, width) if self.masks else None
        return Found(box, self.labels[category], bool(crowd), area, outline)

    def _gathered(self, found: list[Found]) -> Any:
        outlines = tuple(item.outline for item in found if item.outline is not None)
        return as_objects(found, Outlines(outlines) if self.masks else None)


def _document(file: str) -> Document:
    try:
        with open(file, "rb") as stream:
            document = json.loads(stream.read())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not a JSON file ({error}); copy or download it again") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise InputError(f"{file}: no list {key!r}; a COCO file has lists images, annotations and categories")
        if not document[key]:
            raise InputError(f"{file}: its list {key!r} is empty; is it the right file?")
    return {key: document[key] for key in ("images", "annotations", "categories")}


def _classes(file: str, document: Document) -> dict[int, str]:
    classes: dict[int, str] = {}
    for entry in document["categories"]:
        key, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if type(key) is not int or not isinstance(name, str) or not name:
            raise InputError(f"{file}: category {entry!r} lacks a whole number as id or a name; add it")
        if key in classes or name in classes.values():
            raise InputError(f"{file}: category {entry!r} has an id or name that an earlier one has; make them unique")
        classes[key] = name
    return classes


def _value(entry: Any, key: str) -> Any:
    if not isinstance(entry, dict):
        raise DefectError(f"{entry!r} is no entry with names and values")
    if key not in entry:
        raise DefectError(f"it has no {key}")
    return entry[key]


def _key(entry: Any, name: str) -> Id:
    value = _value(entry, name)
    if type(value) not in (int, str):
        raise DefectError(f"{name} {value!r} is neither a whole number nor a text")
    return value  # type: ignore[no-any-return]


def _called(entry: Any, key: str, otherwise: Any) -> str:
    """Return what to call an entry in messages: what it says, or its position, counted from 0."""
    return str(entry[key]) if isinstance(entry, dict) and entry.get(key) not in (None, "") else f"number {otherwise}"
