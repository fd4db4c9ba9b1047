"""A vocabulary numbers words by how frequent they are, in the same way for the same counts."""

from __future__ import annotations

import numpy as np
import pytest

from switch_ema.data.text.vocabulary import UNKNOWN, Vocabulary, build, words
from switch_ema.errors import InputError

TEXT = ["the", "cat", "and", "the", "dog", "and", "the", "bird"]


def test_frequent_words_come_first_and_equal_ones_in_the_order_of_the_alphabet() -> None:
    assert build(TEXT) == Vocabulary((UNKNOWN, "the", "and", "bird", "cat", "dog"), 0)
    assert build(reversed(TEXT)) == build(TEXT)


def test_limit_and_minimum_leave_out_rare_words() -> None:
    assert build(TEXT, limit=3).words == (UNKNOWN, "the", "and")
    assert build(TEXT, minimum=2).words == (UNKNOWN, "the", "and")
    assert build(TEXT, minimum=3, special=["<pad>", UNKNOWN, "bird"]).words == ("<pad>", UNKNOWN, "bird", "the")


def test_special_words_are_there_once_whether_they_occur_or_not() -> None:
    made = build([*TEXT, UNKNOWN, "<eos>", "<eos>"], special=["<pad>", "<eos>"])
    assert made.words == ("<pad>", "<eos>", UNKNOWN, "the", "and", "bird", "cat", "dog")
    assert made.unknown == 2
    assert len(made) == 8


def test_encoding_turns_words_into_numbers_and_back() -> None:
    made = build(TEXT, minimum=2)
    numbers = made.encode(TEXT)
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [1, 0, 2, 1, 0, 2, 1, 0]
    assert made.decode(numbers) == ["the", UNKNOWN, "and", "the", UNKNOWN, "and", "the", UNKNOWN]
    assert made.encode([]).tolist() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 1}, "vocabulary 1: write at least 2; <unk> takes 1 of it"),
        ({"limit": 2, "special": ["<eos>"]}, "vocabulary 2: write at least 3; <eos>, <unk> take 2 of it"),
        ({"minimum": 4}, "no word occurs 4 times, the most frequent one 3 times; lower the minimum"),
    ],
)
def test_a_vocabulary_without_words_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build(TEXT, **options)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_words_and_signs_are_told_apart() -> None:
    assert words("Isn't 'it' (a_b) 3.5?\n") == ["Isn't", "'", "it", "'", "(", "a_b", ")", "3", ".", "5", "?"]
    assert words("Élan VITAL", lower=True) == ["élan", "vital"]
    assert words(" \n\t") == []
