"""Damaged or unsuitable labelled texts are refused in one line that says where, and what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from tests.conftest import Sema

GOOD = '1,"one"\n2,"two"\n' * 20

REFUSED: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "train.csv: the file is empty; copy or download it again"),
    "header alone": (b"label,text\n", "train.csv: no texts in it; write a label and a text into each row"),
    "blank lines": (b"\n\n", "train.csv: no texts in it"),
    "three values": (b'1,"a"\n2,b,c\n', "train.csv line 2: 3 values; write two, the label and the text in quotes"),
    "one value": (b"1\n", "train.csv line 1: 1 value; write two"),
    "no label": (b'text\n"a"\n', "train.csv line 1: 1 value; write two, the label and the text"),
    "line after a long record": (b'1,"a\nb\nc"\n2\n', "train.csv line 4: 1 value"),
    "label in words": (b"1,a\ngood,b\n", "train.csv line 2: label 'good' is not a whole number; write one"),
    "label with a point": (b"1.0,a\n", "train.csv line 1: label '1.0' is not a whole number"),
    "label below 0": (b"-1,a\n", "train.csv line 1: label '-1' is not a whole number"),
    "label of 20 digits": (b"9" * 20 + b",a\n", "train.csv line 1: label '99999999999999999999' is not a whole number"),
    "label missing": (b'"","a"\n', "train.csv line 1: label '' is not a whole number"),
    "other header": (b"stars,text\n1,a\n", "train.csv line 1: label 'stars' is not a whole number; write one, or "),
    "text missing": (b'1,a\n2,""\n', "train.csv line 2: the text is empty; remove the row"),
    "text blank": (b'1,a\n2,"\\n "\n', "train.csv line 2: the text is empty; remove the row"),
    "latin-1": (
        b'1,a\n2,"caf\xe9"\n',
        "train.csv line 2, byte 7 of the line (0xe9): not UTF-8; save the file in UTF-8",
    ),
    "open quote": (b'1,a\n2,"b\nc\n', "train.csv line 2: unexpected end of data; write texts in quotes, and quotes in"),
    "quote not doubled": (b'1,"a "b" c"\n', "train.csv line 1: "),
    "one class": (b"1,a\n1,b\n" * 10, "train.csv line 1: label 1 is the only one in the training texts"),
    "label of the test file": (b"1,a\n2,b\n3,c\n", "train.csv line 3: label 3 does not occur in "),
    "label that the test file lacks": (b"1,a\n1,b\n", "test.csv line 2: label 2 does not occur in "),
    "too few": (b"1,a\n2,b\n", "too few to hold some out"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_csv_file_is_refused(case: str, sema: Sema, tmp_path: Path) -> None:
    content, words = REFUSED[case]
    (tmp_path / "train.csv").write_bytes(content)
    if case != "one class":
        (tmp_path / "test.csv").write_text(GOOD)
    refused(sema, tmp_path, words, tmp_path)


def refused(sema: Sema, data: Path, words: str, tmp_path: Path) -> None:
    answer = sema("compare", "textclass", "--data", data, "--epochs", 1, "--seeds", 1, "--out", tmp_path / "out")
    assert answer.code == 2, answer.err
    *before, last = answer.err.splitlines()
    assert words in last
    assert len(before) <= 1, answer.err  # where the results go


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": [0, 1], "body": ["a", "b"]}, "train.parquet: no column 'text' (columns: label, body); rename the"),
        ({"stars": [0, 1], "text": ["a", "b"]}, "train.parquet: no column 'label' (columns: stars, text)"),
        ({"label": ["0", "1"], "text": ["a", "b"]}, "train.parquet: column 'label' is string; it must be an integer"),
        ({"label": [0, 1], "text": [0, 1]}, "train.parquet: column 'text' is int64; it must be a string"),
        ({"label": [0, None], "text": ["a", "b"]}, "train.parquet row 2: the label is missing"),
        ({"label": [0, 1, 0], "text": ["a", "b", None]}, "train.parquet row 3: the text is empty"),
        ({"label": pyarrow.array([], "int64"), "text": pyarrow.array([], "string")}, "train.parquet: no texts in it"),
    ],
)
def test_a_bad_parquet_file_is_refused(columns: dict[str, Any], words: str, sema: Sema, tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    refused(sema, tmp_path, words, tmp_path)


def test_what_is_no_data_set_is_refused(sema: Sema, tmp_path: Path) -> None:
    refused(sema, tmp_path, "no train.csv or train.parquet in this folder; it should hold train.csv and", tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 is not enough")
    refused(sema, tmp_path, "train.parquet: damaged (", tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    refused(sema, tmp_path / "notes.txt", "notes.txt: not a .csv file; give one, or a folder with", tmp_path)
    refused(sema, Path("pydoc-topic"), "did you mean 'pydoc-topics'?", tmp_path)
