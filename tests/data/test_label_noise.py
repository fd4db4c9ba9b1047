"""Wrong labels on purpose, and labels that people gave."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from switch_ema.data.catalog import locate
from switch_ema.data.images import load
from switch_ema.data.labelfile import parse, read
from switch_ema.data.splits import NOISE_KINDS, flip_labels, noisy_labels
from switch_ema.errors import InputError
from tests.data import make

CLEAN = np.arange(20) % 2
WORSE = 1 - CLEAN
WORSE[:5] = CLEAN[:5]
COLUMNS = {"clean_label": CLEAN, "worse_label": WORSE, "aggre_label": CLEAN.copy(), "random_label1": WORSE[::-1].copy()}


def torch_file(file: Path, content: Any = COLUMNS, legacy: bool = False) -> Path:
    import torch

    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file


def npz_file(file: Path) -> Path:
    np.savez(file, **COLUMNS)  # type: ignore[arg-type]
    return file


def csv_file(file: Path) -> Path:
    rows = [",".join(COLUMNS), *(",".join(map(str, row)) for row in zip(*COLUMNS.values(), strict=True))]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return file


TABLES: dict[str, Callable[[Path], Path]] = {
    "pt": lambda path: torch_file(path / "human.pt"),
    "legacy pt": lambda path: torch_file(path / "human.pt", legacy=True),
    "npz": lambda path: npz_file(path / "human.npz"),
    "csv": lambda path: csv_file(path / "human.csv"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_every_column_is_read(kind: str, tmp_path: Path) -> None:
    got = read(str(TABLES[kind](tmp_path)))
    assert got.keys() == COLUMNS.keys()
    for name, labels in COLUMNS.items():
        assert got[name].dtype == np.int64
        assert (got[name] == labels).all()


def test_one_column_without_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(tmp_path / "a.npy", WORSE.astype(np.int32))
    (tmp_path / "a.txt").write_text("".join(f"{label}\n" for label in WORSE))
    for name in ("a.npy", "a.txt"):
        assert {key: value.tolist() for key, value in read(str(tmp_path / name)).items()} == {"": WORSE.tolist()}
        assert (noisy_labels(CLEAN, "human", 0, 2, 0, file=str(tmp_path / name)) == WORSE).all()
    assert caplog.text.count("no column clean_label") == 2


def test_what_torch_of_2021_wrote_is_read(tmp_path: Path) -> None:
    """CIFAR-N's files name numpy.core, not numpy._core."""
    content = pickle.dumps(COLUMNS, 2).replace(b"numpy._core", b"numpy.core")
    with zipfile.ZipFile(tmp_path / "h.pt", "w") as archive:
        archive.writestr("CIFAR-10_human/data.pkl", content)
    assert (read(str(tmp_path / "h.pt"))["worse_label"] == WORSE).all()


def test_human_labels_belong_to_the_rows_of_the_split(tmp_path: Path) -> None:
    data = load(locate(str(make.cifar10_python(tmp_path))), train_size=8)
    spec = f"{torch_file(tmp_path / 'human.pt')}:worse_label"
    got = noisy_labels(
        data.train.labels, "human", 0.0, 2, 0, file=spec, rows=data.train.rows, source_labels=data.source_labels
    )
    assert (got == WORSE[data.train.rows]).all()
    assert (got != data.train.labels).any()
    assert data.train.images[:, 0, 0, 0].tolist() == [7 * row for row in data.train.rows]


def test_pair_flip_takes_the_next_class() -> None:
    labels = np.arange(1000) % 5
    noisy = noisy_labels(labels, "pair-flip", 0.45, 5, seed=1)
    wrong = noisy != labels
    assert wrong.sum() == 450
    assert (noisy[wrong] == (labels[wrong] + 1) % 5).all()
    assert (labels == np.arange(1000) % 5).all()


def test_both_drawn_kinds_spoil_the_same_rows() -> None:
    labels = np.arange(1000) % 5
    pair, symmetric = (noisy_labels(labels, kind, 0.3, 5, seed=4) for kind in ("pair-flip", "symmetric"))
    assert ((pair != labels) == (symmetric != labels)).all()
    assert (symmetric == flip_labels(labels, 0.3, 5, seed=4)).all()
    assert (pair != noisy_labels(labels, "pair-flip", 0.3, 5, seed=5)).any()


REFUSED: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no file": (lambda file: None, ["human.pt: no such file", "FILE:COLUMN"]),
    "empty": (lambda file: file.write_bytes(b""), ["human.pt: the file is empty"]),
    "no torch file": (lambda file: file.write_bytes(b"junk"), ["human.pt: damaged"]),
    "truncated": (
        lambda file: torch_file(file) and file.write_bytes(file.read_bytes()[:300]),
        ["human.pt: damaged"],
    ),
    "another zip": (lambda file: zipfile.ZipFile(file, "w").writestr("a", "b"), ["one data.pkl"]),
    "no labels": (lambda file: torch_file(file, {"lr": 0.1}), ["no labels in it"]),
    "fractions": (lambda file: torch_file(file, {"worse_label": np.full(20, 0.5)}), ["no labels in it"]),
    "column missing": (
        lambda file: torch_file(file, {"clean_label": CLEAN, "wors_label": WORSE}),
        ["unknown column", "did you mean 'wors_label'"],
    ),
    "unequal columns": (lambda file: torch_file(file, {"a": CLEAN, "worse_label": WORSE[:9]}), ["unequal length"]),
    "too few": (lambda file: torch_file(file, {"worse_label": WORSE[:9]}), ["9 labels for 20 training images"]),
    "out of range": (lambda file: torch_file(file, {"worse_label": WORSE + 1}), ["label 2 out of range 0 to 1"]),
    "negative": (lambda file: torch_file(file, {"worse_label": WORSE - 1}), ["label -1 out of range 0 to 1"]),
    "other order": (
        lambda file: torch_file(file, {**COLUMNS, "clean_label": np.roll(CLEAN, 1)}),
        ["clean_label differs from the data's own labels in 20 of 20 rows, first in row 0", "another order"],
    ),
    "tensors": (
        lambda file: torch_file(file, {"worse_label": __import__("torch").arange(20)}),
        ["refused", "numpy arrays"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_label_file_is_refused(case: str, tmp_path: Path) -> None:
    spoil, words = REFUSED[case]
    spoil(tmp_path / "human.pt")
    with pytest.raises(InputError) as caught:
        noisy_labels(CLEAN, "human", 0, 2, 0, file=f"{tmp_path / 'human.pt'}:worse_label")
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"0\n1\ncat\n", ["a.txt line 3: 'cat' is no label"]),
        ("a.csv", b"clean_label,worse_label\n0,1\n0\n", ["a.csv line 3: '' is no label"]),
        ("a.csv", b"clean_label\n", ["no labels in it"]),
        ("a.npy", b"junk", ["a.npy: not read", "numpy.savez"]),
        ("a.npz", b"PK\3\4junk", ["a.npz: not read"]),
        ("a.json", b"[1]", ["not a known kind of label file", ".pt", ".csv"]),
    ],
)
def test_wrong_text_and_array_files(name: str, content: bytes, words: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        noisy_labels(CLEAN, "human", 0, 2, 0, file=str(tmp_path / name))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_pickled_objects_in_npy_are_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(COLUMNS, object))
    with pytest.raises(InputError, match=r"a.npy: not read .*numpy.savez"):
        read(str(tmp_path / "a.npy"))


def test_a_column_must_be_named_among_several(tmp_path: Path) -> None:
    file = npz_file(tmp_path / "human.npz")
    with pytest.raises(InputError, match=r"which labels to take, as .*:COLUMN .*worse_label, aggre_label"):
        noisy_labels(CLEAN, "human", 0, 2, 0, file=str(file))
    np.savez(tmp_path / "c100.npz", clean_label=CLEAN, noisy_label=WORSE)
    assert (noisy_labels(CLEAN, "human", 0, 2, 0, file=str(tmp_path / "c100.npz")) == WORSE).all()


def test_a_colon_in_the_path_is_no_column(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    file = npz_file(tmp_path / "a:b" / "h.npz")
    assert parse(str(file)) == (str(file), "")
    assert parse(f"{file}:worse_label") == (str(file), "worse_label")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "pair"}, ["unknown kind of label noise 'pair'", *NOISE_KINDS]),
        ({"kind": "human"}, ["name the label file", "CIFAR-10_human.pt:worse_label"]),
        ({"kind": "pair-flip", "rate": 40}, ["label noise 40", "0 to 1"]),
        ({"kind": "symmetric", "rate": float("nan")}, ["label noise nan"]),
    ],
)
def test_wrong_requests(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        noisy_labels(**{"labels": CLEAN, "rate": 0.0, "num_classes": 2, "seed": 0, **arguments})
    assert [word for word in words if word not in str(caught.value)] == []
