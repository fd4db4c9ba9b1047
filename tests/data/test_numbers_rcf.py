"""RCF-MNIST is made as the paper's code makes it, but always with the same degrees."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from switch_ema.data import idx as idx_reader
from switch_ema.data import parquet as parquet_reader
from switch_ema.data.numbers import locate_numbers
from switch_ema.data.numberset import NumberSet, load_numbers
from switch_ema.data.rcfmnist import tables
from switch_ema.errors import InputError

from .make import IDX_PREFIX, idx, idx_bytes, parquet, parquet_file, png

ROOT = Path(os.environ.get("SEMA_DATA") or "../shared/data")
COUNTS = {"train": 40, "test": 12}
NEEDS = ("cifar10", "mnist")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random pictures of 28x28 pixels as Fashion-MNIST, and fewer backgrounds than pictures."""
    folder = idx(tmp_path / "fashion-mnist")
    generator = np.random.default_rng(0)
    for split, count in COUNTS.items():
        images = generator.integers(0, 256, (count, 28, 28)) * (generator.random((count, 28, 28)) < 0.5)
        images[:, :3] = generator.integers(0, 5, (count, 3, 28))  # around the threshold
        for kind, values in (("images-idx3", images), ("labels-idx1", np.arange(count) % 2)):
            (folder / f"{IDX_PREFIX[split]}-{kind}-ubyte").write_bytes(idx_bytes(values.astype(np.uint8)))
    parquet(tmp_path / "cifar10")
    parquet_file(tmp_path / "cifar10" / "train.parquet", [png(10 * row, (32, 32)) for row in range(7)], [0] * 7)
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    return tmp_path


def as_in_the_paper(figures: Any, grounds: Any, degrees: Any) -> Any:
    """Pad, repeat, turn by PIL, paint white where above 2 on background i modulo N."""
    made = []
    for number, (figure, degree) in enumerate(zip(figures, degrees, strict=True)):
        colour = np.repeat(np.pad(figure, (32 - len(figure)) // 2)[..., None], 3, axis=2)
        turned = np.asarray(Image.fromarray(colour).rotate(degree))
        made.append(np.where(turned > 2, 255, grounds[number % len(grounds)]))
    return np.stack(made)


def targets(data: NumberSet) -> Any:
    return np.concatenate([data.train.targets, data.val.targets])


def test_images_are_made_as_in_the_paper(root: Path) -> None:
    data = load_numbers(locate_numbers("rcf-mnist"))
    assert (data.unit, data.period) == ("degrees", 360.0)
    assert [len(part.targets) for part in (data.train, data.val, data.test)] == [36, 4, 12]
    fronts = idx_reader.tables(str(root / "fashion-mnist"), None)
    grounds = {"train": np.stack([np.full((32, 32, 3), 10 * row) for row in range(7)])}
    grounds["test"] = np.stack([np.full((32, 32, 3), row) for row in range(6)])
    figures = fronts["test"].read(np.arange(12))[..., 0]
    assert (data.test.inputs == as_in_the_paper(figures, grounds["test"], data.test.targets)).all()
    figures = fronts["train"].read(np.arange(40))[..., 0]
    known = {image.tobytes() for image in data.train.inputs} | {image.tobytes() for image in data.val.inputs}
    for degree in range(0, 360, 6):  # every image is there with one of the degrees
        rows = as_in_the_paper(figures, grounds["train"], [degree] * 40).astype(np.uint8)
        known -= {image.tobytes() for image in rows}
    assert not known


def test_degrees_are_fixed_and_multiples_of_six(root: Path) -> None:
    source = locate_numbers("rcf-mnist")
    np.random.seed(0)
    first = load_numbers.__wrapped__(source)
    np.random.seed(1)
    second = load_numbers.__wrapped__(source, train_size=9)
    assert (first.val.inputs == second.val.inputs).all()
    assert (first.val.targets == second.val.targets).all()
    assert (first.test.targets == second.test.targets).all()
    both = np.concatenate([targets(first), first.test.targets])
    assert set(both) <= set(range(0, 360, 6))
    assert len(set(both)) > 20
    assert not (first.test.targets == targets(first)[:12]).all()


def test_other_sizes(root: Path) -> None:
    data = load_numbers(locate_numbers("rcf-mnist"), image_size=16, train_size=5)
    assert data.train.inputs.shape == (5, 16, 16, 3)


@pytest.mark.parametrize("place", ["fashion-mnist/raw", "fashion-mnist/FashionMNIST/raw", "FashionMNIST/raw"])
def test_where_torchvision_puts_the_files(place: str, root: Path) -> None:
    expected = load_numbers(locate_numbers("rcf-mnist")).test
    (root / "fashion-mnist").rename(root / "files")
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / "files").rename(root / place)
    assert (load_numbers.__wrapped__(locate_numbers("rcf-mnist")).test.inputs == expected.inputs).all()


def test_mnist_may_stand_in_by_another_name(root: Path) -> None:
    (root / "fashion-mnist").rename(root / "mnist")
    assert len(load_numbers(locate_numbers("rc-mnist")).test.targets) == 12
    with pytest.raises(InputError, match="'rcf-mnist' not found: no Fashion-MNIST in") as caught:
        locate_numbers("rcf-mnist")
    for word in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "set SEMA_DATA", "--data rc-mnist", "raw/"):
        assert word in str(caught.value)


def test_photographs_may_be_pickled_batches(root: Path) -> None:
    plain = load_numbers(locate_numbers("rcf-mnist"))
    shutil.rmtree(root / "cifar10")
    folder = root / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        batch = {b"data": np.full((2, 3072), 9, np.uint8), b"labels": [0, 1]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"a", b"b"]}))
    data = load_numbers.__wrapped__(locate_numbers("rcf-mnist"))
    assert (data.test.targets == plain.test.targets).all()
    white = plain.test.inputs.min(axis=3) == 255
    assert (data.test.inputs[white] == 255).all()
    assert (data.test.inputs[~white] == 9).all()


def test_what_is_refused(root: Path) -> None:
    (root / "cifar10").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"no CIFAR-10, its background, in .*/cifar10: it needs train\.parquet"):
        locate_numbers("rcf-mnist")
    (root / "elsewhere").rename(root / "cifar10")
    (root / "cifar10" / "test.parquet").unlink()
    with pytest.raises(InputError, match=r"/test\.parquet: no such file"):
        locate_numbers("rcf-mnist")
    parquet(root / "cifar10")
    labels = root / "fashion-mnist" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte: 19 bytes"):
        locate_numbers("rcf-mnist")
    for name, values in (("images-idx3", np.zeros((12, 40, 40), np.uint8)), ("labels-idx1", np.zeros(12, np.uint8))):
        (root / "fashion-mnist" / f"t10k-{name}-ubyte").write_bytes(idx_bytes(values))
    with pytest.raises(InputError, match="images of 40x40 pixels; they must fit into 32x32"):
        load_numbers(locate_numbers("rcf-mnist"))


@pytest.mark.skipif(not all((ROOT / name).is_dir() for name in NEEDS), reason=f"no {' and '.join(NEEDS)} in {ROOT}")
def test_real_mnist_on_real_photographs() -> None:
    source = locate_numbers("rc-mnist")
    rows = np.arange(0, 10_000, 500)
    figures = idx_reader.tables(source.path, None)["test"].read(rows)[..., 0]
    grounds = parquet_reader.tables(source.background, None)["test"].read(rows)
    table = tables(source.path, source.background, None)["test"]
    got, kept = table.read(rows)
    assert kept.all()
    assert (got == as_in_the_paper(figures, grounds, table.targets[rows])).all()
