"""Texts become the tokens that their definition says, counted by hand; what is wrong with them is said in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from switch_ema.data.text.catalog import DATASETS, locate
from switch_ema.data.text.corpus import Corpus, Level, load
from switch_ema.errors import InputError

PTB = {
    "train": " the cat <unk> N years \n the dog saw the cat \n",
    "valid": " the cat \n",
    "test": " a dog <unk> \n the end \n",
}
WIKI = {"train": " \n = Title = \n \n One two @-@ two , <unk> . \n", "valid": " \n = One \n", "test": " two two \n"}


def folder(path: Path, pattern: str, texts: dict[str, str]) -> Path:
    path.mkdir(parents=True)
    for split, text in texts.items():
        (path / pattern.format(split)).write_text(text, encoding="utf-8")
    return path


def read(path: Path | str, level: Level = "word", **options: int) -> Corpus:
    return load(locate(str(path)), level=level, **options)


def tokens(corpus: Corpus, split: str) -> str:
    assert corpus.vocabulary is not None
    return " ".join(corpus.vocabulary.decode(getattr(corpus, split).tokens))


def test_the_counts_of_a_penn_treebank_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "ptb", "ptb.{}.txt", PTB)
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    corpus = read("ptb")
    assert tokens(corpus, "train") == "the cat <unk> N years <eos> the dog saw the cat <eos>"
    assert tokens(corpus, "val") == "the cat <eos>"
    assert tokens(corpus, "test") == "<unk> dog <unk> <eos> the <unk> <eos>"
    assert corpus.vocabulary_size == 8  # the, cat, <unk>, N, years, dog, saw, <eos>
    assert corpus.train.tokens.dtype == np.int32
    assert (corpus.train.num_words, corpus.val.num_words, corpus.test.num_words) == (10, 2, 5)
    assert corpus.test.num_bytes == len(PTB["test"])
    assert corpus.unknown_share(corpus.train) == pytest.approx(1 / 12)
    assert corpus.unknown_share(corpus.test) == pytest.approx(3 / 7)


@pytest.mark.parametrize("named", [True, False])
def test_empty_lines_of_wikitext_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    path = folder(tmp_path / "wikitext-2", "wiki.{}.tokens", WIKI)
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    corpus = read("wikitext-2" if named else path)
    assert tokens(corpus, "train") == "<eos> = Title = <eos> <eos> One two @-@ two , <unk> . <eos>"
    assert [len(part.tokens) for part in (corpus.train, corpus.val, corpus.test)] == [14, 4, 3]
    assert corpus.vocabulary_size == 9


def test_the_format_decides_whether_words_are_parted_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    assert locate(str(folder(tmp_path / "a", "ptb.{}.txt", PTB))).tokenized
    assert not locate(str(folder(tmp_path / "b", "wiki.{}.raw", WIKI))).tokenized
    assert not locate(str(folder(tmp_path / "c", "{}.txt", PTB))).tokenized
    assert locate(folder(tmp_path / "wikitext-103", "{}.txt", WIKI).name).tokenized


def test_plain_text_is_cut_into_words_and_signs_and_rare_ones_are_unknown(tmp_path: Path) -> None:
    texts = {"train": "To be, or\nnot to be.\n", "valid": "be, be\n", "test": "or"}
    corpus = read(folder(tmp_path / "plain", "{}.txt", texts), min_count=2)
    assert corpus.vocabulary is not None
    assert corpus.vocabulary.words == ("<eos>", "<unk>", "be")
    assert tokens(corpus, "train") == "<unk> be <unk> <unk> <eos> <unk> <unk> be <unk> <eos>"
    assert tokens(corpus, "test") == "<unk> <eos>"  # the line ends though no sign says so
    assert read(tmp_path / "plain", limit=4).vocabulary_size == 4


def test_bytes_are_the_file(tmp_path: Path) -> None:
    corpus = read(folder(tmp_path / "ptb", "ptb.{}.txt", PTB), "byte")
    assert bytes(corpus.train.tokens) == PTB["train"].encode()
    assert (corpus.vocabulary_size, corpus.train.num_bytes, corpus.train.num_words) == (256, len(PTB["train"]), 10)
    assert corpus.unknown_share(corpus.test) == 0


@pytest.mark.parametrize("blank", [" ", "\n"])
def test_one_file_is_divided_by_position_after_a_blank(tmp_path: Path, blank: str) -> None:
    text = blank.join("abcdefghijklmnopqrst"[i] * 4 for i in range(20))  # 99 bytes, a word every 5
    (tmp_path / "text").write_text(text)
    corpus = read(tmp_path / "text", "byte")
    train, val, test = (bytes(part.tokens).decode() for part in (corpus.train, corpus.val, corpus.test))
    assert train + val + test == text
    assert (len(train), len(val), len(test)) == (80, 10, 9)  # the cuts at 79 and 89 are blanks
    by_words = read(tmp_path / "text")
    assert [part.num_bytes for part in (by_words.train, by_words.val, by_words.test)] == [80, 10, 9]


def test_a_text_without_blanks_is_cut_between_characters(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(("日" * 33).encode())  # 99 bytes, cut at 79 and 89
    corpus = read(tmp_path / "text", "byte")
    assert [part.num_bytes for part in (corpus.train, corpus.val, corpus.test)] == [81, 9, 9]
    assert bytes(corpus.test.tokens).decode() == "日日日"


def test_the_embedded_text_has_no_paragraph_twice() -> None:
    corpus = read("pydoc", "byte")
    whole = b"".join(bytes(part.tokens) for part in (corpus.train, corpus.val, corpus.test))
    paragraphs = whole.split(b"\n\n")
    assert len(paragraphs) > 1000
    assert len(set(paragraphs)) > 0.99 * len(paragraphs)  # a cut at three line ends may leave two alike
    assert corpus.train.num_bytes / len(whole) == pytest.approx(0.8, abs=0.01)
    assert corpus.test.num_bytes / len(whole) == pytest.approx(0.1, abs=0.01)


def refused(path: Path | str, level: Level = "word", **options: int) -> str:
    with pytest.raises(InputError) as caught:
        read(path, level, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("split", "offset"), [("train", 40), ("val", 84), ("test", 95)])
def test_what_is_not_utf8_is_refused_with_its_place(tmp_path: Path, split: str, offset: int) -> None:
    data = bytearray(b"word " * 20)
    data[offset] = 0xFF
    (tmp_path / "text").write_bytes(data)
    assert f"text: byte {offset} is not UTF-8" in refused(tmp_path / "text")
    read(tmp_path / "text", "byte")


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert "empty: the file is empty" in refused(tmp_path / "empty")
    (tmp_path / "blank").write_text(" \n" * 50)
    assert "blank: the training text has no words, only blanks" in refused(tmp_path / "blank")
    (tmp_path / "short").write_text("abc")
    assert "short: the validation text has 0 tokens; at least 2" in refused(tmp_path / "short", "byte")
    path = folder(tmp_path / "ptb", "ptb.{}.txt", {**PTB, "valid": "   "})
    assert "ptb.valid.txt: the validation text has no words" in refused(path)
    (path / "ptb.test.txt").write_text("")
    assert "ptb.test.txt: the file is empty" in refused(path)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    for name in DATASETS:
        if name != "pydoc":
            assert f"data set {name!r} not found" in refused(name)
    assert "did you mean 'wikitext-2'" in refused("wikitext2")
    assert "the folder should hold ptb.train.txt" in refused(tmp_path)
    path = folder(tmp_path / "ptb", "ptb.{}.txt", {"train": "a b\n", "test": "a\n"})
    assert "ptb.valid.txt: cannot be read (No such file" in refused(path)


def test_a_vocabulary_limit_without_room_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "ptb", "ptb.{}.txt", PTB)
    assert refused(path, limit=2).startswith("vocabulary 2: write at least 3")
    assert "lower the minimum" in refused(path, min_count=9)
