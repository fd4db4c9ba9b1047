"""Passages of Python's language reference, which comes with Python; the class of a passage is its topic."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from switch_ema.data.splits import divide

TOPICS = (
    "types", "formatstrings", "string-methods", "compound", "debugger", "specialnames", "typesseq", "typesmapping",
    "assignment", "import", "comparisons", "strings",
)  # fmt: skip
"""The classes: the topics of `pydoc_data.topics` with the most text of their own."""

SHORTEST, LONGEST = 30, 60
"""Smallest and largest number of words of a passage."""

_BLANK_LINES = re.compile(r"\n\s*\n")


def passages() -> dict[str, list[tuple[str, int]]]:
    """Cut the topics into passages.

    A paragraph that occurs twice, in one topic or in several, is left out. Paragraphs that follow each other are joined
    until they have 30 words, and what has more than 60 is cut into equal pieces. Test (20 %) and validation (10 % of
    the rest) are drawn by topic from the joined paragraphs before they are cut, so that no training passage shares a
    paragraph with them. The draw is fixed; the text is that of the Python at work, and differs a little between its
    versions. Topics are not equally frequent: the first has 18 % of the passages, the last 4 % (Python 3.11).

    Returns:
        The passages of ``train``, ``val`` and ``test``, each with the number of its topic in `TOPICS`.

    Example:
        >>> text, topic = passages()["test"][0]
        >>> TOPICS[topic], 30 <= len(text.split()) <= 60
        ('types', True)
    """
    from pydoc_data.topics import topics

    paragraphs = {name: [" ".join(part.split()) for part in _BLANK_LINES.split(text)] for name, text in topics.items()}
    counts = Counter(paragraph for several in paragraphs.values() for paragraph in several)
    joined = [
        (words, number)
        for number, name in enumerate(TOPICS)
        for words in _join(paragraph for paragraph in paragraphs[name] if counts[paragraph] == 1)
    ]
    parts = divide(np.array([number for _, number in joined]), ("test", "val"), where="pydoc-topics")
    return {
        split: [(text, number) for words, number in (joined[row] for row in rows) for text in _cut(words)]
        for split, rows in parts.items()
    }


def _join(paragraphs: Iterable[str]) -> Iterator[list[str]]:
    """Yield the words of paragraphs joined to `SHORTEST` words or more; a rest that is shorter is dropped."""
    words: list[str] = []
    for paragraph in paragraphs:
        words += paragraph.split()
        if len(words) >= SHORTEST:
            yield words
            words = []


def _cut(words: list[str]) -> Iterator[str]:
    """Yield pieces of at most `LONGEST` words, as equal as can be."""
    count = -(-len(words) // LONGEST)
    bounds = [len(words) * piece // count for piece in range(count + 1)]
    return (" ".join(words[start:end]) for start, end in pairwise(bounds))
