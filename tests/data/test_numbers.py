"""Data with numeric targets: embedded sets, fixed splits, statistics of the training split."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from switch_ema.data import digits, rotated
from switch_ema.data.numberparts import hold_out
from switch_ema.data.numbers import NUMBER_SETS, NumberSource, choose_target, locate_numbers
from switch_ema.data.numberset import NumberSet, load_numbers
from switch_ema.errors import InputError
from tests.conftest import loaded_after

EMBEDDED = ("digits-rotated", "diabetes")


def load(name: str, train_size: int | None = None) -> NumberSet:
    return load_numbers(locate_numbers(name), train_size=train_size)


def test_named_sets_are_known() -> None:
    assert set(EMBEDDED) < set(NUMBER_SETS)
    assert locate_numbers("digits-rotated") == NumberSource("digits-rotated", "rotated", unit="degrees")
    assert (locate_numbers("digits-rotated").period, locate_numbers("diabetes").period) == (360.0, None)
    assert (locate_numbers("digits-rotated").is_table, locate_numbers("diabetes").is_table) == (False, True)
    with pytest.raises(InputError, match=r"did you mean 'digits-rotated'.*or the path of one \.csv file"):
        locate_numbers("digit-rotated")


@pytest.mark.parametrize("name", EMBEDDED)
def test_splits_do_not_overlap_and_do_not_depend_on_train_size(name: str) -> None:
    whole, small = load(name), load(name, 50)
    count = {"digits-rotated": 1797, "diabetes": 442}[name]
    assert [len(part.targets) for part in (whole.train, whole.val, whole.test)] == [
        count - round(0.2 * count) - round(0.1 * (count - round(0.2 * count))),
        round(0.1 * (count - round(0.2 * count))),
        round(0.2 * count),
    ]
    rows = [
        {(x.tobytes(), y) for x, y in zip(part.inputs, part.targets.tolist(), strict=True)}
        for part in (whole.train, whole.val, whole.test)
    ]
    assert len(set.union(*rows)) == count
    for part, same in ((whole.val, small.val), (whole.test, small.test)):
        assert (part.inputs == same.inputs).all()
        assert (part.targets == same.targets).all()
    assert len(small.train.targets) == 50
    assert {(x.tobytes(), y) for x, y in zip(small.train.inputs, small.train.targets.tolist(), strict=True)} < rows[0]


def test_hold_out_is_fixed_nested_and_complete() -> None:
    np.random.seed(1)  # the global generator must not matter
    parts = hold_out(1000, ("test", "val"), None, "data")
    assert {split: len(rows) for split, rows in parts.items()} == {"test": 200, "val": 80, "train": 720}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1000))
    assert all((np.diff(rows) > 0).all() for rows in parts.values())
    np.random.seed(2)
    sizes = [hold_out(1000, ("test", "val"), size, "data") for size in (10, 300, 720)]
    for size in sizes:
        assert all((size[split] == parts[split]).all() for split in ("test", "val"))
    small, middle, large = (set(size["train"]) for size in sizes)
    assert small < middle < large == set(parts["train"])
    assert len(hold_out(100_000, ("val",), None, "data")["val"]) == 5000
    assert hold_out(10, (), None, "data")["train"].tolist() == list(range(10))


@pytest.mark.parametrize("size", [0, 721])
def test_train_size_out_of_range(size: int) -> None:
    with pytest.raises(InputError, match=f"here: train size {size}: write 1 to 720"):
        hold_out(1000, ("test", "val"), size, "here")


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_rows_to_hold_some_out(count: int) -> None:
    with pytest.raises(InputError, match=f"here: {count} training examples are too few"):
        hold_out(count, ("test", "val"), None, "here")


@pytest.mark.parametrize("name", EMBEDDED)
def test_statistics_are_those_of_the_training_split(name: str) -> None:
    data = load(name, 50)
    inputs = data.train.inputs.astype(np.float64)
    axes = tuple(range(inputs.ndim - 1))
    np.testing.assert_allclose(data.input_mean, inputs.mean(axes))
    np.testing.assert_allclose(data.input_std, inputs.std(axes))
    assert data.target_mean == pytest.approx(data.train.targets.mean())
    assert data.target_std == pytest.approx(data.train.targets.std())
    assert data.skipped == 0


def test_digits_are_turned_counter_clockwise_by_their_target() -> None:
    data = load("digits-rotated")
    assert (data.unit, data.period) == ("degrees", 360.0)
    assert data.train.inputs.shape[1:] == (16, 16, 1)
    targets = np.concatenate([data.train.targets, data.val.targets, data.test.targets])
    assert targets.min() >= -60
    assert targets.max() < 60
    assert abs(targets.mean()) < 3
    assert abs(targets.std() - 120 / 12**0.5) < 1
    upright = digits.tables("", None)["train"].read(np.arange(1797))[..., 0]
    pictures = [Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8)) for image in upright]
    rows = hold_out(1797, ("test", "val"), None, "digits")["val"]
    for row, image, angle in zip(rows, data.val.inputs[..., 0], data.val.targets, strict=True):
        canvas = Image.new("L", (16, 16))
        canvas.paste(pictures[row].resize((12, 12), Image.Resampling.BICUBIC), (2, 2))
        assert (np.asarray(canvas.rotate(angle, Image.Resampling.BILINEAR)) == image).all()


@pytest.mark.parametrize("size", range(2, 33))
def test_digits_are_turned_about_their_centre(size: int) -> None:
    white = rotated._turn(np.full((8, 8), 255, np.uint8), 0, size)
    assert (white == white[::-1, ::-1]).all()
    assert size < 8 or 0.66 * size <= (white[size // 2] > 0).sum() <= 0.84 * size


def test_turned_digits_stay_in_sight() -> None:
    whole = load_numbers(locate_numbers("digits-rotated"), full_circle=True).val
    upright = digits.tables("", None)["train"].read(hold_out(1797, ("test", "val"), None, "digits")["val"])
    ink = whole.inputs.astype(float).mean((1, 2, 3)) / (upright.astype(float).mean((1, 2, 3)) * 255 / 16 * 0.75**2)
    assert 0.97 < ink.min() < ink.max() < 1.05


def test_the_full_circle() -> None:
    narrow, wide = (
        load_numbers(locate_numbers("digits-rotated"), full_circle=full, image_size=8) for full in (False, True)
    )
    assert wide.train.inputs.shape[1:] == (8, 8, 1)
    assert wide.train.targets.min() >= 0
    assert 355 < wide.train.targets.max() < 360
    np.testing.assert_allclose(wide.train.targets / 3 - 60, narrow.train.targets, atol=1e-9)


def test_diabetes_has_raw_features_and_targets() -> None:
    data = load("diabetes")
    assert data.train.inputs.shape[1] == 10
    assert data.train.inputs.dtype == data.train.targets.dtype == np.float64
    assert (data.unit, data.period) == ("points", None)
    assert 18 < data.input_mean[0] < 80  # age in years
    assert set(np.unique(data.train.inputs[:, 1])) == {1, 2}


@pytest.mark.parametrize("name", EMBEDDED)
def test_only_files_have_a_target_to_choose(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: its target is fixed; leave out --target"):
        choose_target(locate_numbers(name), "age")


def test_finding_data_loads_the_standard_library_only() -> None:
    loaded = loaded_after(
        "from switch_ema.data.numbers import choose_target, locate_numbers\n"
        "choose_target(locate_numbers('digits-rotated'))\n"
        "from switch_ema.tasks import regression_options\nregression_options.check('diabetes', 'auto', {})"
    )
    assert not loaded & {"numpy", "torch", "PIL", "sklearn", "pyarrow"}
