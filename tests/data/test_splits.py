"""Splits are fixed, stratified and disjoint; label noise is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from switch_ema.data.splits import divide, flip_labels

LABELS = np.random.default_rng(0).choice(4, 1000, p=[0.5, 0.3, 0.15, 0.05])


def counts(rows: Any) -> list[int]:
    return np.bincount(LABELS[rows], minlength=4).tolist()  # type: ignore[no-any-return]


def test_parts_are_disjoint_complete_and_of_the_right_size() -> None:
    parts = divide(LABELS, ("test", "val"))
    assert {name: len(rows) for name, rows in parts.items()} == {"test": 200, "val": 80, "train": 720}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1000))


def test_parts_are_stratified() -> None:
    for rows in divide(LABELS, ("test", "val"), train_size=100).values():
        share = np.bincount(LABELS) / 1000 * len(rows)
        assert (abs(np.array(counts(rows)) - share) <= 1.5).all()


def test_parts_are_fixed() -> None:
    np.random.seed(1)  # the global generator must not matter
    first = divide(LABELS, ("test", "val"))
    np.random.seed(2)
    second = divide(LABELS, ("test", "val"))
    assert all((first[name] == second[name]).all() for name in first)


def test_train_size_does_not_move_the_held_out_parts() -> None:
    whole, small = divide(LABELS, ("test", "val")), divide(LABELS, ("test", "val"), train_size=50)
    assert all((whole[name] == small[name]).all() for name in ("test", "val"))
    assert len(small["train"]) == 50
    assert set(small["train"]) < set(whole["train"])


def test_validation_part_is_at_most_5000() -> None:
    labels = np.arange(60_000) % 10
    assert {name: len(rows) for name, rows in divide(labels, ("val",)).items()} == {"val": 5000, "train": 55_000}


def test_validation_takes_the_share_asked_for_and_leaves_the_test_part_alone() -> None:
    usual, large = divide(LABELS, ("test", "val")), divide(LABELS, ("test", "val"), val_share=0.4)
    assert {name: len(rows) for name, rows in large.items()} == {"test": 200, "val": 320, "train": 480}
    assert (large["test"] == usual["test"]).all()
    assert sorted(np.concatenate(list(large.values()))) == list(range(1000))
    many = divide(np.arange(60_000) % 10, ("val",), val_share=0.5)
    assert len(many["val"]) == 30_000


def test_every_class_stays_in_training_however_rare() -> None:
    labels = np.array([0] * 97 + [1, 2, 2])
    for train_size in (None, 3, 10):
        train = divide(labels, ("test", "val"), train_size=train_size)["train"]
        assert set(labels[train]) == {0, 1, 2}
        assert train_size in (None, len(train))


@pytest.mark.parametrize("rate", [0.0, 0.013, 0.4, 0.5005, 1.0])
def test_exactly_the_asked_number_of_labels_is_wrong(rate: float) -> None:
    clean = LABELS.copy()
    noisy = flip_labels(LABELS, rate, 4, seed=3)
    assert (noisy != LABELS).sum() == round(rate * 1000)
    assert (clean == LABELS).all()
    assert noisy.min() >= 0
    assert noisy.max() <= 3


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    labels = np.zeros(30_000, np.int64)
    got = np.bincount(flip_labels(labels, 1.0, 4, seed=0), minlength=4)
    assert got[0] == 0
    assert (abs(got[1:] - 10_000) < 400).all()  # five standard deviations


def test_label_noise_belongs_to_the_seed() -> None:
    assert (flip_labels(LABELS, 0.4, 4, seed=1) == flip_labels(LABELS, 0.4, 4, seed=1)).all()
    assert (flip_labels(LABELS, 0.4, 4, seed=1) != flip_labels(LABELS, 0.4, 4, seed=2)).any()
