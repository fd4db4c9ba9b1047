"""Texts as numbers: three splits of bytes or words, and what they are measured in."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from switch_ema.data.text.vocabulary import Vocabulary, build, words
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from switch_ema.data.text.catalog import Source

Level = Literal["word", "byte"]

END_OF_LINE = "<eos>"
"""The token at the end of each line, at the level of words."""

_SPLITS = {"train": "training", "val": "validation", "test": "test"}
_BLANK = re.compile(rb"[ \n]")
_BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Part:
    """The text of one split.

    Attributes:
        tokens: Number of each token in its order, shape (n,): uint8 of bytes, int32 of words.
        num_bytes: Length of the text in bytes of its file.
        num_words: Number of pieces between blanks, whatever a token is.
    """

    tokens: NDArray[Any]
    num_bytes: int
    num_words: int


@dataclass(frozen=True)
class Corpus:
    """A text in three parts.

    Attributes:
        train: The text to learn from.
        val: Validation text.
        test: Test text.
        vocabulary: The words by their number; None where tokens are bytes.
    """

    train: Part
    val: Part
    test: Part
    vocabulary: Vocabulary | None

    @property
    def vocabulary_size(self) -> int:
        """Number of different tokens: 256 of bytes."""
        return 256 if self.vocabulary is None else len(self.vocabulary)

    def unknown_share(self, part: Part) -> float:
        """Return which share of a part's tokens is ``<unk>``, in the text itself or for want of a number."""
        return 0.0 if self.vocabulary is None else float((part.tokens == self.vocabulary.unknown).mean())


@lru_cache(maxsize=2)
def load(source: Source, *, level: Level, limit: int | None = None, min_count: int = 1) -> Corpus:
    """Read a text and turn it into numbers; several seeds in one process do so once.

    At the level of bytes, tokens are the bytes of the file, and any file will do. At the level of words, the text is
    UTF-8; every line ends with ``<eos>``, empty ones too. The lines of a published set are cut at blanks, as its token
    counts are: 929,589 tokens of 10,000 words in PTB's training text, 2,088,628 of 33,278 in WikiText-2's. Plain text
    is cut into words and signs (see `switch_ema.data.text.vocabulary.words`). The vocabulary comes from the training
    text alone: ``<eos>``, ``<unk>``, then the most frequent words first. All other words count as ``<unk>``; in the
    published sets there are none beside those that are ``<unk>`` in the files.

    A file by itself is divided by position: the last 10 % are the test text, the 10 % before the validation text,
    each from after the first blank or end of line on, so that the parts are the same at both levels. The embedded text
    is divided likewise; its paragraphs that occur twice are in it once, or it would be tested on what it has learnt.

    Args:
        source: What `switch_ema.data.text.catalog.locate` found.
        level: What a token is.
        limit: Largest number of words, ``<eos>`` and ``<unk>`` included; None for no limit.
        min_count: How often a word must occur in the training text to be in the vocabulary, at least 1.

    Returns:
        The three parts and the vocabulary.

    Raises:
        InputError: A file cannot be read, is not UTF-8 at the level of words, or has too little text.

    Example:
        >>> from switch_ema.data.text.catalog import locate
        >>> corpus = load(locate("pydoc"), level="byte")
        >>> corpus.vocabulary_size, corpus.test.num_bytes == len(corpus.test.tokens)
        (256, True)
    """
    texts = _read(source)
    if level == "byte":
        train, val, test = (
            Part(np.frombuffer(text.data, np.uint8), len(text.data), len(text.data.split())) for text in texts.values()
        )
        _check_lengths(texts, (train, val, test))
        return Corpus(train, val, test, None)
    decoded = {split: text.decoded() for split, text in texts.items()}
    for split, characters in decoded.items():
        if not characters.strip():
            raise InputError(f"{texts[split].where}: the {_SPLITS[split]} text has no words, only blanks")
    cut = str.split if source.tokenized else words
    vocabulary = build(_tokens(decoded["train"], cut), limit=limit, minimum=min_count, special=(END_OF_LINE,))
    train, val, test = (
        Part(
            vocabulary.encode(_tokens(characters, cut)).astype(np.int32),
            len(texts[split].data),
            len(characters.split()),
        )
        for split, characters in decoded.items()
    )
    _check_lengths(texts, (train, val, test))
    return Corpus(train, val, test, vocabulary)


@dataclass(frozen=True)
class _Text:
    """Some bytes of a file, from an offset on."""

    data: bytes
    where: str
    offset: int = 0

    def decoded(self) -> str:
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.where}: byte {self.offset + error.start} is not UTF-8; convert the file, or write level byte"
            ) from error


def _read(source: Source) -> dict[str, _Text]:
    if len(source.files) == 3:
        return {split: _Text(_bytes(file), file) for split, file in zip(_SPLITS, source.files, strict=True)}
    where = source.files[0] if source.files else source.name
    data = _bytes(where) if source.files else _embedded()
    first, second = _cut_after(data, 8 * len(data) // 10), _cut_after(data, 9 * len(data) // 10)
    bounds = {"train": (0, first), "val": (first, second), "test": (second, len(data))}
    return {split: _Text(data[start:end], where, start) for split, (start, end) in bounds.items()}


def _bytes(file: str) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error


def _embedded() -> bytes:
    from pydoc_data.topics import topics

    joined = "\n\n".join(topics[name].strip("\n") for name in sorted(topics))
    return "\n\n".join(dict.fromkeys(_BLANK_LINES.split(joined))).encode()


def _cut_after(data: bytes, position: int) -> int:
    """Return where the text goes on after the first blank or end of line at a position, or the position if none is."""
    blank = _BLANK.search(data, position)
    if blank:
        return blank.end()
    while position < len(data) and data[position] & 0xC0 == 0x80:  # inside a character of several bytes
        position += 1
    return position


def _tokens(text: str, cut: Callable[[str], list[str]]) -> Iterator[str]:
    for line in io.StringIO(text, newline="\n"):
        yield from cut(line)
        yield END_OF_LINE


def _check_lengths(texts: dict[str, _Text], parts: tuple[Part, Part, Part]) -> None:
    for (split, text), part in zip(texts.items(), parts, strict=True):
        if len(part.tokens) < 2:
            raise InputError(
                f"{text.where}: the {_SPLITS[split]} text has {len(part.tokens)} tokens; at least 2 are needed"
            )
