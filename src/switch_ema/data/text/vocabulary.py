"""A vocabulary: which words have a number of their own, counted from a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN = "<unk>"
"""What stands for every word that has no number of its own."""

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")  # a word with its apostrophes, or one sign


@dataclass(frozen=True)
class Vocabulary:
    """Words and their numbers.

    Attributes:
        words: The words, each once; the number of a word is its place.
        unknown: The number that stands for all other words.

    Example:
        >>> vocabulary = build("to be or not to be".split(), limit=3)
        >>> vocabulary.words
        ('<unk>', 'be', 'to')
        >>> vocabulary.encode(["to", "sleep"]).tolist()
        [2, 0]
        >>> vocabulary.decode([2, 0])
        ['to', '<unk>']
    """

    words: tuple[str, ...]
    unknown: int

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self.words)

    def encode(self, tokens: Iterable[str]) -> NDArray[np.int64]:
        """Return the number of each token, int64 of shape (n,)."""
        numbers, unknown = self._numbers, self.unknown
        return np.fromiter((numbers.get(token, unknown) for token in tokens), np.int64)

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Return the word of each number in [0, len(self))."""
        return [self.words[number] for number in numbers]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}


def build(
    tokens: Iterable[str], *, limit: int | None = None, minimum: int = 1, special: Sequence[str] = ()
) -> Vocabulary:
    """Count words and number them: the special ones, then ``<unk>``, then the most frequent first.

    Words of the same frequency are in the order of their code points, so the order of the text does not count.

    Args:
        tokens: The words of the training text.
        limit: Largest number of words in all, special ones and ``<unk>`` included; None for no limit.
        minimum: How often a word must occur to get a number, at least 1.
        special: Words that come first, whether they occur or not; ``<unk>`` may be among them.

    Returns:
        The vocabulary; ``<unk>`` is always in it.

    Raises:
        InputError: The limit leaves no room for a single word of the text, or no word is frequent enough.

    Example:
        >>> build("b a b c".split(), minimum=2, special=["<pad>"]).words
        ('<pad>', '<unk>', 'b')
    """
    first = tuple(dict.fromkeys(special if UNKNOWN in special else (*special, UNKNOWN)))
    if limit is not None and limit <= len(first):
        raise InputError(
            f"vocabulary {limit}: write at least {len(first) + 1}; {', '.join(first)} take{'s' * (len(first) == 1)} "
            f"{len(first)} of it"
        )
    counts = Counter(tokens)
    for word in first:
        counts.pop(word, None)
    frequent = sorted((word for word, count in counts.items() if count >= minimum), key=lambda w: (-counts[w], w))
    if not frequent:
        most = max(counts.values(), default=0)
        raise InputError(f"no word occurs {minimum} times, the most frequent one {most} times; lower the minimum")
    kept = frequent if limit is None else frequent[: limit - len(first)]
    return Vocabulary((*first, *kept), first.index(UNKNOWN))


def words(text: str, *, lower: bool = False) -> list[str]:
    """Divide a text into words and signs.

    Args:
        text: Any text.
        lower: Make all letters small.

    Returns:
        Words (letters, digits and underscores, with apostrophes inside) and every other sign but blanks by itself.

    Example:
        >>> words("Don't stop: 2 left!", lower=True)
        ["don't", 'stop', ':', '2', 'left', '!']
    """
    return _WORD.findall(text.lower() if lower else text)
