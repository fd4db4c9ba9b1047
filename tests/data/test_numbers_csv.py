"""Comma-separated files: images with a number each, or tables; what is wrong is named with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from switch_ema.data.numbers import choose_target, locate_numbers
from switch_ema.data.numberset import NumberSet, load_numbers
from switch_ema.errors import InputError

from .make import png

COUNT = 30
Spoil = Callable[[Path], object]


def faces(folder: Path, header: str = "path,age", split: Callable[[int], str] | None = None) -> Path:
    """Write faces.csv and images/: row i has grey value i and age 10 + i / 2."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = [header + (",split" if split else "")]
    for row in range(COUNT):
        (folder / "images" / f"{row}.png").write_bytes(png(row))
        lines.append(f"images/{row}.png,{10 + row / 2}" + (f",{split(row)}" if split else ""))
    (folder / "faces.csv").write_text("\n".join(lines) + "\n")
    return folder


def table(folder: Path, header: str = "id,a,name,target", extra: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{row},{row / 4},n{row},{3 * row}" for row in range(COUNT)]
    (folder / "t.csv").write_text("\n".join([header, *lines]) + "\n" + extra)
    return folder


def load(path: Path, target: str | None = None, image_size: int | None = None, skip_corrupt: bool = False) -> NumberSet:
    return load_numbers(
        choose_target(locate_numbers(str(path)), target), image_size=image_size, skip_corrupt=skip_corrupt
    )


def everything(data: NumberSet) -> dict[float, float]:
    """Map the first value of each input to its target."""
    parts = (data.train, data.val, data.test)
    return {float(x.flat[0]): y for part in parts for x, y in zip(part.inputs, part.targets.tolist(), strict=True)}


@pytest.mark.parametrize("name", ["", "faces.csv"])
@pytest.mark.parametrize("column", ["path", "image", "filename"])
def test_images_keep_their_targets(name: str, column: str, tmp_path: Path) -> None:
    data = load(faces(tmp_path, f"{column},age") / name)
    assert data.train.inputs.shape == (22, 4, 4, 3)
    assert [len(part.targets) for part in (data.train, data.val, data.test)] == [22, 2, 6]
    assert everything(data) == {row: 10 + row / 2 for row in range(COUNT)}
    assert (data.unit, data.period) == ("years", None)


def test_named_sets_lie_below_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    for name in ("agedb", "imdb-wiki"):
        with pytest.raises(InputError, match=f"'{name}' not found: no folder {tmp_path}/{name} with one .csv file"):
            locate_numbers(name)
        faces(tmp_path / name)
        assert locate_numbers(name).unit == "years"
        assert len(everything(load_numbers(locate_numbers(name)))) == COUNT
    table(tmp_path / "flat" / "agedb")
    monkeypatch.setenv("SEMA_DATA", str(tmp_path / "flat"))
    with pytest.raises(InputError, match=r"no column path or image or filename \(columns: id, a, name, target\)"):
        locate_numbers("agedb")


def test_a_split_column_is_followed(tmp_path: Path) -> None:
    data = load(faces(tmp_path / "three", split=lambda row: ("train", "VAL", "test")[row % 3]))
    for number, part in enumerate((data.train, data.val, data.test)):
        assert sorted(part.inputs[:, 0, 0, 0]) == list(range(number, COUNT, 3))
    two = load(faces(tmp_path / "two", split=lambda row: ("train", "test")[row % 2]))
    assert sorted(two.test.inputs[:, 0, 0, 0]) == list(range(1, COUNT, 2))
    assert (len(two.val.targets), len(two.train.targets)) == (2, 13)  # held out of the training rows
    assert not set(everything(two)) - set(range(COUNT))


@pytest.mark.parametrize(("column", "unit", "period"), [("angle", "degrees", 360.0), ("height", "", None)])
def test_a_chosen_target(column: str, unit: str, period: float | None, tmp_path: Path) -> None:
    data = load(faces(tmp_path, f"path,{column}"), target=column)
    assert (data.unit, data.period) == (unit, period)
    assert everything(data)[4] == 12


def test_tables_take_every_numeric_column(tmp_path: Path) -> None:
    data = load(table(tmp_path))
    assert data.train.inputs.shape == (22, 2)
    assert everything(data) == {row: 3 * row for row in range(COUNT)}
    assert (data.train.inputs[:, 1] * 4 == data.train.inputs[:, 0]).all()
    chosen = load(tmp_path, target="a")
    assert everything(chosen) == {row: row / 4 for row in range(COUNT)}
    unnamed = load(table(tmp_path / "pandas", ",a,name,target"))
    assert unnamed.train.inputs.shape == (22, 1)


def test_a_constant_column_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,target\n" + "".join(f"{row},7,1\n" for row in range(COUNT)))
    data = load(tmp_path)
    assert (data.input_mean[1], data.input_std[1], data.target_mean, data.target_std) == (7, 1, 1, 1)


def test_quotes_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    text = '\ufeff"a","target"\r\n' + "".join(f'"{row}", {row} \r\n\r\n' for row in range(COUNT))
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert everything(load(tmp_path)) == {row: row for row in range(COUNT)}


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    table(tmp_path)
    assert locate_numbers(str(tmp_path)).target == "target"
    table(tmp_path, "id,a,name,value")
    assert locate_numbers(str(tmp_path)).target == "value"


def test_corrupt_images_are_named_or_skipped_and_counted(tmp_path: Path) -> None:
    faces(tmp_path)
    for row in (3, 20):
        (tmp_path / "images" / f"{row}.png").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"images/(3|20)\.png: not a readable image"):
        load(tmp_path)
    data = load(tmp_path, skip_corrupt=True)
    assert data.skipped == 2
    assert everything(data) == {row: 10 + row / 2 for row in range(COUNT) if row not in (3, 20)}


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    held_out = sorted(load(faces(tmp_path)).val.inputs[:, 0, 0, 0].tolist())
    for row in held_out:
        (tmp_path / "images" / f"{row}.png").write_bytes(b"junk")
    load_numbers.cache_clear()
    with pytest.raises(InputError, match=r"no readable image in split val \(2 corrupt\)"):
        load(tmp_path, skip_corrupt=True)


def replace(old: str, new: str, count: int = 1) -> Spoil:
    def spoil(path: Path) -> None:
        file = next(faces(path).glob("*.csv"))
        file.write_text(file.read_text().replace(old, new, count))

    return spoil


def sheet(text: str | bytes) -> Spoil:
    def spoil(path: Path) -> None:
        path.mkdir()
        (path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())

    return spoil


def two_files(path: Path) -> None:
    table(faces(path))


def remove(*rows: int) -> Spoil:
    def spoil(path: Path) -> None:
        faces(path)
        for row in rows:
            (path / "images" / f"{row}.png").unlink()

    return spoil


REFUSED: dict[str, tuple[Spoil, str | None, list[str]]] = {
    "no folder": (lambda path: None, None, ["unknown data set, folder or .csv file", "a column age, target"]),
    "another file": (lambda path: path.write_text("x"), None, ["unknown data set, folder or .csv file"]),
    "no csv": (lambda path: path.mkdir(), None, ["no .csv file in this folder"]),
    "two csv": (two_files, None, ["2 .csv files (faces.csv, t.csv)", "give the path of one"]),
    "empty": (sheet(""), None, ["/t.csv: no rows in it"]),
    "header only": (sheet("path,age\n"), None, ["/t.csv: no rows in it"]),
    "not text": (sheet(b"\xff\xfe\0\0,"), None, ["/t.csv: not a comma-separated text in UTF-8"]),
    "open quote": (sheet('a,target\n1,"2\n'), None, ["/t.csv: not a comma-separated text in UTF-8"]),
    "short line": (sheet("a,b,target\n1,2,3\n1,2\n"), None, ["/t.csv line 3: 2 values for 3 columns"]),
    "column twice": (sheet("a,a,target\n1,2,3\n"), None, ["column 'a' is there twice"]),
    "semicolons": (sheet("a;target\n1;2\n"), None, ["no column age or target", "(columns: a;target)"]),
    "no target": (replace("path,age", "path,height"), None, ["(columns: path, height)", "--target"]),
    "two targets": (sheet("a,age,target\n1,2,3\n"), None, ["columns age and target could each be", "--target"]),
    "two images": (replace("path,age", "path,image"), None, ["columns path and image could each hold"]),
    "wrong choice": (faces, "height", ["no column 'height'", "(columns: path, age)", "--target"]),
    "text target": (replace("13.0", "old"), None, ["faces.csv line 8: age 'old' is not a finite number"]),
    "no target value": (replace(",13.0", ","), None, ["faces.csv line 8: age '' is not a finite number"]),
    "nan target": (replace("12.5", "NaN"), None, ["faces.csv line 7: age 'NaN' is not a finite number"]),
    "infinite target": (replace("12.5", "inf"), None, ["faces.csv line 7: age 'inf' is not a finite number"]),
    "path as target": (faces, "path", ["faces.csv line 2: path 'images/0.png' is not a finite number"]),
    "missing image": (remove(5), None, ["faces.csv line 7: no image file", "/images/5.png (1 of 30 are missing)"]),
    "missing images": (remove(9, 5, 7), None, ["line 7: no image file", "/images/5.png (3 of 30 are missing)"]),
    "no image name": (replace("images/5.png", ""), None, ["faces.csv line 7: no image file"]),
    "odd split": (
        lambda path: faces(path, split=lambda row: "valid" if row == 4 else "train"),
        None,
        ["faces.csv line 6: split 'valid'; write one of train, val, test"],
    ),
    "no training rows": (lambda path: faces(path, split=lambda row: "test"), None, ["no row has split train"]),
    "no features": (sheet("name,target\nx,1\ny,2\n"), None, ["nor numbers beside 'target'", "(columns: name, target)"]),
    "gap in a feature": (sheet("a,target\n1,1\n,2\n"), None, ["/t.csv line 3: a '' is not a finite number"]),
    "nan in a feature": (sheet("a,target\nnan,1\n2,2\n"), None, ["/t.csv line 2: a 'nan' is not a finite number"]),
}

LOAD_REFUSED: dict[str, tuple[Spoil, list[str]]] = {
    "too few rows": (sheet("a,target\n1,2\n1,2\n"), ["2 training examples are too few"]),
    "16 bits": (lambda path: (faces(path) / "images" / "5.png").write_bytes(pgm16()), ["/5.png: pixels of mode"]),
    "unequal": (lambda path: (faces(path) / "images/5.png").write_bytes(png(1, (5, 5))), ["5x5", "--image-size"]),
    "not square": (
        lambda path: [(faces(path) / f"images/{row}.png").write_bytes(png(1, (6, 4))) for row in range(COUNT)][:0],
        ["--image-size"],
    ),
}


def pgm16() -> bytes:
    return b"P5 4 4 65535\n" + np.arange(16, dtype=">u2").tobytes()


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_an_image_is_read(case: str, tmp_path: Path) -> None:
    spoil, target, words = REFUSED[case]
    spoil(tmp_path / "set")
    with pytest.raises(InputError) as caught:
        choose_target(locate_numbers(str(tmp_path / "set")), target)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "set") in message
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("case", LOAD_REFUSED)
def test_refused_when_read(case: str, tmp_path: Path) -> None:
    spoil, words = LOAD_REFUSED[case]
    spoil(tmp_path / "set")
    locate_numbers(str(tmp_path / "set"))
    for skip_corrupt in (False, True):
        with pytest.raises(InputError) as caught:
            load(tmp_path / "set", skip_corrupt=skip_corrupt)
        message = str(caught.value)
        assert "\n" not in message
        assert [word for word in words if word not in message] == [], message


def test_splits_of_unequal_size(tmp_path: Path) -> None:
    faces(tmp_path, split=lambda row: ("train", "test")[row % 2])
    for row in range(1, COUNT, 2):
        (tmp_path / "images" / f"{row}.png").write_bytes(png(row, (5, 5)))
    with pytest.raises(InputError, match="images of 4x4 and 5x5 pixels; give --image-size"):
        load(tmp_path)
    assert load(tmp_path, image_size=6).test.inputs.shape == (15, 6, 6, 3)


def test_one_colour_image_makes_all_splits_colour(tmp_path: Path) -> None:
    faces(tmp_path, split=lambda row: ("train", "test")[row % 2])
    for row in range(1, COUNT, 2):
        (tmp_path / "images" / f"{row}.png").write_bytes(png(row, channels=1))
    data = load(tmp_path)
    assert {part.inputs.shape[3] for part in (data.train, data.val, data.test)} == {3}
    assert everything(data) == {row: 10 + row / 2 for row in range(COUNT)}
