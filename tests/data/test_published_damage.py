"""Damaged copies of the published data sets are refused with one line that names the file."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from switch_ema.data.catalog import locate
from switch_ema.data.images import load
from switch_ema.errors import InputError
from tests.data import make

Spoil = Callable[[Path], object]

C10, C100, BIN = "cifar-10-batches-py", "cifar-100-python", "cifar-10-batches-bin"
STL, TINY, CUB = "stl10_binary", "tiny-imagenet-200", "CUB_200_2011"
AIR, CARS = "fgvc-aircraft-2013b/data", "stanford_cars"


def gone(name: str) -> Spoil:
    def spoil(path: Path) -> None:
        file = path / name
        if file.is_dir():
            file.rename(path / "moved-away")
        else:
            file.unlink()

    return spoil


def cut(name: str, by: int = 1) -> Spoil:
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:-by])


def put(name: str, content: bytes = b"") -> Spoil:
    return lambda path: (path / name).write_bytes(content)


def replaced(name: str, old: str, new: str) -> Spoil:
    return lambda path: (path / name).write_text((path / name).read_text().replace(old, new))


def batch(name: str, **changes: Any) -> Spoil:
    """Write a CIFAR-100 batch that is wrong in one of its entries; None removes it."""
    whole: dict[str, Any] = {"data": np.zeros((20, 3072), np.uint8), "fine_labels": [0, 1] * 10, **changes}
    return put(name, pickle.dumps({key: value for key, value in whole.items() if value is not None}))


Case = tuple[Callable[[Path], Path], Spoil, list[str]]

LOCATE_REFUSES: dict[str, Case] = {
    "CIFAR batch missing": (make.cifar10_python, gone(f"{C10}/data_batch_2"), ["/data_batch_2: no such file"]),
    "CIFAR batch empty": (make.cifar10_python, put(f"{C10}/test_batch"), ["/test_batch: the file is empty"]),
    "CIFAR batch truncated": (make.cifar100_python, cut(f"{C100}/train"), [f"/{C100}/train: truncated"]),
    "CIFAR binary truncated": (make.cifar10_binary, cut(f"{BIN}/test_batch.bin"), ["18437 bytes", "3073"]),
    "CIFAR binary missing": (make.cifar10_binary, gone(f"{BIN}/data_batch_5.bin"), ["_5.bin: no such file"]),
    "STL-10 labels missing": (make.stl10, gone(f"{STL}/train_y.bin"), ["/train_y.bin: no such file"]),
    "STL-10 images cut": (make.stl10, cut(f"{STL}/test_X.bin", 9), ["/test_X.bin: 165879 bytes", "27648"]),
    "STL-10 a label less": (make.stl10, cut(f"{STL}/test_y.bin"), ["/test_y.bin: 5 labels for the 6 images"]),
    "STL-10 unlabeled cut": (make.stl10, cut(f"{STL}/unlabeled_X.bin"), ["/unlabeled_X.bin: 248831 bytes"]),
    "Tiny-ImageNet class missing": (
        make.tiny_imagenet,
        gone(f"{TINY}/train/n02"),
        ["/train/n02/images: no such folder"],
    ),
    "Tiny-ImageNet class twice": (make.tiny_imagenet, put(f"{TINY}/wnids.txt", b"n01\nn01\n"), ["listed twice"]),
    "Tiny-ImageNet no annotations": (
        make.tiny_imagenet,
        gone(f"{TINY}/val/val_annotations.txt"),
        ["/val/val_annotations.txt: no such file"],
    ),
    "Tiny-ImageNet unknown class": (
        make.tiny_imagenet,
        replaced(f"{TINY}/val/val_annotations.txt", "val_3.JPEG\tn02", "val_3.JPEG\tn77"),
        ["/val_annotations.txt: image val_3.JPEG has class 'n77'", "wnids.txt"],
    ),
    "Tiny-ImageNet spaces for tabs": (
        make.tiny_imagenet,
        replaced(f"{TINY}/val/val_annotations.txt", "\t", " "),
        ["/val_annotations.txt line 1: 'val_0.JPEG n01", "2 fields"],
    ),
    "CUB list missing": (make.cub, gone(f"{CUB}/images.txt"), ["/images.txt: no such file"]),
    "CUB list binary": (make.cub, put(f"{CUB}/classes.txt", b"\xff\xfe\0"), ["/classes.txt: not a text file"]),
    "CUB list empty": (make.cub, put(f"{CUB}/train_test_split.txt"), ["/train_test_split.txt: the file is empty"]),
    "CUB list cut": (make.cub, cut(f"{CUB}/image_class_labels.txt", 6), ["/image_class_labels.txt: lists other", "26"]),
    "CUB line without label": (make.cub, put(f"{CUB}/classes.txt", b"1\n"), ["/classes.txt line 1: '1'", "2 fields"]),
    "CUB number twice": (make.cub, put(f"{CUB}/classes.txt", b"1 a\n1 b\n"), ["2 lines but only 1 different"]),
    "CUB class unknown": (
        make.cub,
        replaced(f"{CUB}/image_class_labels.txt", "5 1\n", "5 9\n"),
        ["image 5 has class 9", "classes.txt"],
    ),
    "CUB flag unknown": (make.cub, replaced(f"{CUB}/train_test_split.txt", "5 1\n", "5 2\n"), ["5 has '2'"]),
    "CUB path leads out": (
        make.cub,
        replaced(f"{CUB}/images.txt", "001.Cat/train_0.jpg", "../../secret.jpg"),
        ["lists the image '../../secret.jpg', which is outside"],
    ),
    "CUB images missing": (make.cub, gone(f"{CUB}/images"), ["/images: no such folder"]),
    "aircraft variants missing": (make.aircraft, gone(f"{AIR}/variants.txt"), ["/variants.txt: no such file"]),
    "aircraft variant unknown": (
        make.aircraft,
        replaced(f"{AIR}/images_variant_val.txt", "A340-300", "A380"),
        ["/images_variant_val.txt: image 1000000 is 'A380'"],
    ),
    "aircraft images missing": (make.aircraft, gone(f"{AIR}/images"), ["/images: no such folder"]),
    "cars list missing": (make.cars, gone(f"{CARS}/cars_test_annos_withlabels.mat"), ["withlabels.mat: no such file"]),
    "cars list empty": (make.cars, put(f"{CARS}/devkit/cars_meta.mat"), ["/cars_meta.mat: the file is empty"]),
    "cars images missing": (make.cars, gone(f"{CARS}/cars_test"), ["/cars_test: no such folder"]),
    "ImageNet class missing": (make.imagenet, gone("val/n02"), ["/val: 1 class folder(s)"]),
}

LOAD_REFUSES: dict[str, Case] = {
    "CIFAR no pickle": (make.cifar10_python, put(f"{C10}/data_batch_1", b"hello."), ["/data_batch_1: damaged"]),
    "CIFAR meta damaged": (make.cifar100_python, put(f"{C100}/meta", b"x"), ["/meta: damaged"]),
    "CIFAR no dictionary": (make.cifar100_python, put(f"{C100}/test", pickle.dumps([1])), ["/test: a pickled list"]),
    "CIFAR-10 batch in CIFAR-100": (
        make.cifar100_python,
        batch(f"{C100}/train", fine_labels=None, labels=[0]),
        ["/train: no 'fine_labels' in this batch (it has data, labels)"],
    ),
    "CIFAR no data": (make.cifar100_python, batch(f"{C100}/test", data=None), ["/test: no 'data' in this batch"]),
    "CIFAR floats": (
        make.cifar100_python,
        batch(f"{C100}/train", data=np.zeros((20, 3072))),
        ["/train: 'data' is float64 of shape (20, 3072)", "uint8"],
    ),
    "CIFAR other size": (
        make.cifar100_python,
        batch(f"{C100}/train", data=np.zeros((20, 768), np.uint8)),
        ["of shape (20, 768)", "(n, 3072)"],
    ),
    "CIFAR labels too few": (make.cifar100_python, batch(f"{C100}/train", fine_labels=[0, 1]), ["20 images but"]),
    "CIFAR labels of text": (make.cifar100_python, batch(f"{C100}/train", fine_labels=["a"] * 20), ["20 images but"]),
    "CIFAR label out of range": (
        make.cifar100_python,
        batch(f"{C100}/train", fine_labels=[0, 5] * 10),
        [f"/{C100}/train: label 5 out of range"],
    ),
    "CIFAR split without images": (
        make.cifar100_python,
        batch(f"{C100}/test", data=np.zeros((0, 3072), np.uint8), fine_labels=np.zeros(0, int)),
        [f"/{C100}/test: no images in it"],
    ),
    "STL-10 label zero": (make.stl10, put(f"{STL}/test_y.bin", bytes(6)), ["/test_y.bin: label -1 out of range"]),
    "CUB no test images": (
        make.cub,
        replaced(f"{CUB}/train_test_split.txt", " 0\n", " 1\n"),
        ["/image_class_labels.txt: no images in it"],
    ),
    "CUB image missing": (
        make.cub,
        gone(f"{CUB}/images/001.Cat/test_4.jpg"),
        ["/images/001.Cat/test_4.jpg: not a readable image", "--skip-corrupt"],
    ),
    "Tiny-ImageNet image corrupt": (
        make.tiny_imagenet,
        put(f"{TINY}/train/n01/images/n01_004.JPEG", b"junk"),
        ["/n01_004.JPEG: not a readable image", "--skip-corrupt"],
    ),
    "aircraft image missing": (make.aircraft, gone(f"{AIR}/images/1000002.jpg"), ["/1000002.jpg: not a readable"]),
    "cars list damaged": (
        make.cars,
        put(f"{CARS}/devkit/cars_train_annos.mat", b"x" * 200),
        ["_annos.mat: torchvision"],
    ),
    "cars names damaged": (make.cars, put(f"{CARS}/devkit/cars_meta.mat", b"x" * 200), ["torchvision cannot read"]),
}


def refusal(case: Case, path: Path, *, read: bool) -> str:
    write, spoil, words = case
    spoil(write(path))
    if read:
        locate(str(path))
    with pytest.raises(InputError) as caught:
        load(locate(str(path))) if read else locate(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert [word for word in words if word not in message] == [], message
    return message


@pytest.mark.parametrize("case", LOCATE_REFUSES)
def test_locate_refuses(case: str, tmp_path: Path) -> None:
    refusal(LOCATE_REFUSES[case], tmp_path / "set", read=False)


@pytest.mark.parametrize("case", LOAD_REFUSES)
def test_load_refuses(case: str, tmp_path: Path) -> None:
    refusal(LOAD_REFUSES[case], tmp_path / "set", read=True)
