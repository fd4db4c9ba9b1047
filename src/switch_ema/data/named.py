"""The data sets that have a name: where they lie, and what should be there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NamedSet:
    """A public data set.

    Attributes:
        summary: One line that describes it.
        folders: Its usual folders; the first that exists is read.
        wants: What such a folder holds.
    """

    summary: str
    folders: tuple[str, ...]
    wants: str


NAMED: Mapping[str, NamedSet] = {
    "cifar10": NamedSet(
        "60,000 photographs of ten classes, 32x32, colour",
        ("cifar10", "cifar-10-batches-py", "cifar-10-batches-bin"),
        "cifar-10-batches-py/ or cifar-10-batches-bin/, or train.parquet and test.parquet",
    ),
    "cifar100": NamedSet(
        "60,000 photographs of a hundred classes, 32x32, colour",
        ("cifar100", "cifar-100-python", "cifar-100-binary"),
        "cifar-100-python/ or cifar-100-binary/, or train.parquet and test.parquet",
    ),
    "tiny-imagenet": NamedSet(
        "110,000 photographs of two hundred classes, 64x64, colour",
        ("tiny-imagenet", "tiny-imagenet-200"),
        "tiny-imagenet-200/ with wnids.txt, train/WNID/images/, val/images/ and val/val_annotations.txt",
    ),
    "imagenet": NamedSet(
        "ImageNet-1K, 1.3 million photographs of a thousand classes, colour",
        ("imagenet", "imagenet-1k", "ILSVRC2012"),
        "train/WNID/*.JPEG and val/WNID/*.JPEG",
    ),
    "mnist": NamedSet(
        "70,000 handwritten digits, 28x28, grey",
        ("mnist", "MNIST"),
        "the four IDX files, plain or .gz, directly or in MNIST/raw/",
    ),
    "fashion-mnist": NamedSet(
        "70,000 pieces of clothing, 28x28, grey",
        ("fashion-mnist", "FashionMNIST"),
        "the four IDX files, plain or .gz, directly or in FashionMNIST/raw/",
    ),
    "cub": NamedSet(
        "CUB-200-2011, 11,788 photographs of two hundred birds, colour, sizes differ",
        ("cub", "CUB_200_2011"),
        "CUB_200_2011/ with images/, images.txt, image_class_labels.txt, train_test_split.txt and classes.txt",
    ),
    "aircraft": NamedSet(
        "FGVC-Aircraft, 10,000 photographs of a hundred aircraft, colour, sizes differ",
        ("aircraft", "fgvc-aircraft-2013b"),
        "fgvc-aircraft-2013b/data/ with images/, variants.txt and images_variant_{train,val,test}.txt",
    ),
    "cars": NamedSet(
        "Stanford Cars, 16,185 photographs of 196 cars, colour, sizes differ",
        ("cars", "stanford_cars"),
        "stanford_cars/ with devkit/, cars_train/, cars_test/ and cars_test_annos_withlabels.mat",
    ),
    "stl10": NamedSet(
        "13,000 photographs of ten classes and 100,000 without labels, 96x96, colour",
        ("stl10", "stl10_binary"),
        "stl10_binary/ with train_X.bin, train_y.bin, test_X.bin, test_y.bin and, for pre-training, unlabeled_X.bin",
    ),
}
"""The public data sets, by the name that `--data` takes; they lie below $SEMA_DATA."""
