"""Every named data set becomes batches and a measurement, from small folders of its format or from the real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
import torch
from pyarrow import parquet

from switch_ema.data.catalog import DATASETS
from switch_ema.tasks.catalog import create
from tests.conftest import Sema
from tests.data import make

CPU = torch.device("cpu")
REAL = Path(os.environ.get("SEMA_DATA") or "../shared/data")
TINY = ("--epochs", 1, "--seeds", 1, "--methods", "ema:decay=0.9", "--batch-size", 50)

MAKERS: dict[str, Callable[[Path], Path]] = {
    "cifar10": make.cifar10_python,
    "cifar100": make.cifar100_python,
    "tiny-imagenet": make.tiny_imagenet,
    "imagenet": lambda folder: make.image_folder(folder, ("train", "val")),
    "mnist": make.idx,
    "fashion-mnist": make.fashion_mnist,
    "cub": make.cub,
    "aircraft": make.aircraft,
    "cars": make.cars,
    "stl10": make.stl10,
}


def test_every_named_set_is_here() -> None:
    assert {"digits", *MAKERS} == set(DATASETS)


@pytest.mark.parametrize("name", MAKERS)
def test_a_named_set_is_found_below_the_root(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    MAKERS[name](folder)
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    task = create(
        "classification", seed=0, data=name, model="mlp", options={"image_size": 8, "augment": "resized-crop"}
    )
    images, labels = next(iter(task.train_batches(2, 0, CPU)))
    assert images.shape[2:] == (8, 8)
    assert labels.dtype == torch.int64
    assert task.evaluate(task.build_model().eval(), "test", CPU)["loss"] > 0


@pytest.fixture(scope="module")
def some_cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first rows of the real CIFAR-10; its rows are in random order."""
    if not (REAL / "cifar10").is_dir():
        pytest.skip(f"no CIFAR-10 in {REAL} (set SEMA_DATA)")
    folder = tmp_path_factory.mktemp("cifar10")
    for split, count in (("train", 2500), ("test", 500)):
        rows = next(parquet.ParquetFile(REAL / "cifar10" / f"{split}.parquet").iter_batches(count))
        parquet.write_table(pyarrow.Table.from_batches([rows]), folder / f"{split}.parquet")
    return folder


def test_cifar10_is_learnt(sema: Sema, tmp_path: Path, some_cifar10: Path) -> None:
    command = ("compare", "classification", "--data", some_cifar10, *TINY, "--lr", 0.02, "--image-size", 16, "--json")
    answer = sema(*command, "--out", tmp_path / "x")
    rows = {row["label"]: row["test"]["mean"] for row in json.loads(answer.out)["rows"]}
    assert rows["baseline"] > 0.2


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason=f"no MNIST in {REAL} (set SEMA_DATA)")
def test_mnist_is_learnt(sema: Sema, tmp_path: Path) -> None:
    command = ("compare", "classification", "--data", "mnist", "--train-size", 3000, *TINY, "--model", "mlp", "--json")
    answer = sema(*command, "--out", tmp_path / "x")
    rows = {row["label"]: row["test"]["mean"] for row in json.loads(answer.out)["rows"]}
    assert rows["baseline"] > 0.8


def test_features_learnt_on_cifar10_without_labels_beat_random_ones(some_cifar10: Path) -> None:
    options = {"method": "simclr", "image_size": 16, "probe_epochs": 0}
    task = create("selfsup", seed=0, data=str(some_cifar10), options=options)
    torch.manual_seed(0)
    model = task.build_model()
    optimizer = torch.optim.AdamW(task.averaged_part(model).parameters(), 4e-3)
    before = task.evaluate(model.eval(), "test", CPU)["knn_accuracy"]
    model.train()
    for epoch in range(2):
        for batch in task.train_batches(200, epoch, CPU):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
    assert task.evaluate(model.eval(), "test", CPU)["knn_accuracy"] > before + 0.04  # 0.33 against 0.23
