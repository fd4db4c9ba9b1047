"""Labelled texts are read as they are published, and divided so that no training passage is held out as well."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from switch_ema.data.text.labelled import DATASETS, locate
from switch_ema.data.text.labelledset import TextSet, load
from switch_ema.data.text.topics import LONGEST, SHORTEST, TOPICS, passages
from switch_ema.errors import InputError


def csv_of(rows: list[tuple[int, str]]) -> str:
    return "".join(f'"{label}","{text}"\n' for label, text in rows)


def many(labels: tuple[int, ...] = (1, 2, 3), each: int = 20, word: str = "text") -> list[tuple[int, str]]:
    return [(label, f"{word} {number} of {label}") for number in range(each) for label in labels]


def loaded(path: Path, train_size: int | None = None) -> TextSet:
    return load(locate(str(path)), train_size=train_size)


def pairs(data: TextSet, split: str) -> list[tuple[str, str]]:
    part = getattr(data, split)
    return [(data.class_names[label], text) for label, text in zip(part.labels, part.texts, strict=True)]


def test_yelps_own_quirks(tmp_path: Path) -> None:
    rows = [
        '"5","dr. goldberg has ""it"" all"',
        '"1","one\\ntwo\\n\\nthree"',
        '5,no quotes',
        '"1","a real\nnew line, and a comma"',
        '" 5 ","ünï"',
    ]  # fmt: skip
    text = "\ufeff" + "\r\n".join(rows) + "\n\n"
    for split in ("train", "test", "val"):
        (tmp_path / f"{split}.csv").write_text(text, encoding="utf-8", newline="")
    want = [
        ("5", 'dr. goldberg has "it" all'), ("1", "one\ntwo\n\nthree"), ("5", "no quotes"),
        ("1", "a real\nnew line, and a comma"), ("5", "ünï"),
    ]  # fmt: skip
    data = loaded(tmp_path)
    assert data.class_names == ("1", "5")
    assert [pairs(data, split) for split in ("train", "val", "test")] == [want] * 3


@pytest.mark.parametrize(("header", "swap"), [("label,text", False), ('"Text",Label', True)])
def test_a_header_names_the_columns(header: str, swap: bool, tmp_path: Path) -> None:
    rows = many()
    lines = [f"{text},{label}" if swap else f"{label},{text}" for label, text in rows]
    (tmp_path / "some.csv").write_text("\n".join([header, *lines]))
    data = loaded(tmp_path / "some.csv")
    found = [pair for split in ("train", "val", "test") for pair in pairs(data, split)]
    assert sorted(found) == sorted((str(label), text) for label, text in rows)


@pytest.mark.parametrize("below", ["", "data"])
def test_parquet_in_parts(below: str, tmp_path: Path) -> None:
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    kept = {}
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        rows = many((0, 1, 2, 3, 4), 4, name)
        kept[name] = [(str(label), text) for label, text in rows]
        columns = {"text": [text for _, text in rows], "label": [label for label, _ in rows], "other": [None] * 20}
        parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet", row_group_size=7)
    data = loaded(tmp_path)
    assert data.class_names == ("0", "1", "2", "3", "4")
    assert pairs(data, "test") == kept["test-00000-of-00001"]
    train = kept["train-00000-of-00002"] + kept["train-00001-of-00002"]
    assert sorted(pairs(data, "train") + pairs(data, "val")) == sorted(train)
    assert len(data.val.texts) == 4


def test_what_is_missing_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv_of(many(each=40)))
    data, small = loaded(tmp_path), loaded(tmp_path, train_size=30)
    assert [len(part.texts) for part in (data.train, data.val, data.test)] == [86, 10, 24]
    assert Counter(data.test.labels.tolist()) == {0: 8, 1: 8, 2: 8}
    assert [small.val.texts, small.test.texts] == [data.val.texts, data.test.texts]
    assert Counter(small.train.labels.tolist()) == {0: 10, 1: 10, 2: 10}
    assert set(small.train.texts) < set(data.train.texts)
    whole = [*data.train.texts, *data.val.texts, *data.test.texts]
    assert sorted(whole) == sorted(text for _, text in many(each=40))
    (tmp_path / "test.csv").write_text(csv_of(many(word="other")))
    data = loaded(tmp_path)
    assert [len(part.texts) for part in (data.train, data.val, data.test)] == [108, 12, 60]
    (tmp_path / "validation.csv").write_text(csv_of(many(each=2)))
    assert len(loaded(tmp_path).val.texts) == 6


def test_the_named_set_lies_below_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"data set 'yelp' not found: no folder .*yelp with train\.csv and test\.csv"):
        locate("yelp")
    (tmp_path / "yelp").mkdir()
    for split in ("train", "test"):
        (tmp_path / "yelp" / f"{split}.csv").write_text(csv_of(many()))
    assert len(load(locate("yelp")).test.texts) == 60
    assert set(DATASETS) == {"yelp", "pydoc-topics"}


def runs(text: str) -> set[str]:
    """Return every 20 words of a text that follow each other."""
    words = text.split()
    return {" ".join(words[start : start + 20]) for start in range(len(words) - 19)}


def test_no_passage_shares_a_paragraph_with_another_split_or_topic() -> None:
    found = passages()
    where: dict[str, set[tuple[str, int]]] = {}
    for split, part in found.items():
        for text, topic in part:
            for run in runs(text):
                where.setdefault(run, set()).add((split, topic))
    paragraphs = [runs(paragraph) for name in TOPICS for paragraph in re.split(r"\n\s*\n", topics[name])]
    counts = Counter(run for paragraph in paragraphs for run in paragraph)
    places = [
        {place for run in paragraph if counts[run] == 1 for place in where.get(run, ())} for paragraph in paragraphs
    ]
    assert sum(map(len, places)) > 500
    assert max(map(len, places)) == 1
    assert sum(len(splits) > 1 for splits in where.values()) < 0.002 * len(where)  # some paragraphs are nearly equal
    assert not set(found["train"]) & {*found["val"], *found["test"]}


def test_passages_are_cut_to_size_and_every_topic_is_in_every_split() -> None:
    found = passages()
    assert found == passages()
    sizes = [len(text.split()) for part in found.values() for text, _ in part]
    assert min(sizes) >= SHORTEST
    assert max(sizes) <= LONGEST
    for part in found.values():
        assert {topic for _, topic in part} == set(range(len(TOPICS)))
    total = sum(map(len, found.values()))
    assert total > 600
    assert 0.15 < len(found["test"]) / total < 0.25
    shares = np.bincount([topic for part in found.values() for _, topic in part]) / total
    assert shares.max() < 0.2
    assert shares.min() > 0.03


def test_topics_are_a_data_set() -> None:
    data = load(locate("pydoc-topics"))
    assert data.class_names == TOPICS
    assert pairs(data, "test") == [(TOPICS[number], text) for text, number in passages()["test"]]
    small = load(locate("pydoc-topics"), train_size=50)
    assert small.test.texts == data.test.texts
    assert set(small.train.texts) < set(data.train.texts)
    assert len(small.train.texts) == 50
