"""What `--data` accepts where a language is to be modelled: names of data sets, text files and folders of them.

Everything here needs the standard library only, so that a wrong path is refused at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from switch_ema.data.root import data_root
from switch_ema.errors import InputError, unknown

DATASETS = {
    "pydoc": "Python's language reference, some 0.4 MB of English that come with Python",
    "tinyshakespeare": "1.1 MB of Shakespeare's plays, from $SEMA_DATA/text/tinyshakespeare.txt",
    "ptb": "Penn Treebank, a million words of newspapers, 10,000 of them different, from $SEMA_DATA/ptb",
    "wikitext-2": "2.4 million words of Wikipedia, 33,278 of them different, from $SEMA_DATA/wikitext-2",
    "wikitext-103": "103 million words of Wikipedia, 267,735 of them different, from $SEMA_DATA/wikitext-103",
}
"""The named data sets, each with one line that describes it."""

FORMATS = (
    "ptb.train.txt, ptb.valid.txt and ptb.test.txt, or wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens (or "
    "all three .raw), or train.txt, valid.txt and test.txt"
)
"""What a folder given to `--data` may hold."""

_FOLDERS = ("ptb", "wikitext-2", "wikitext-103")
_PATTERNS = {"ptb.{}.txt": True, "wiki.{}.tokens": True, "wiki.{}.raw": False, "{}.txt": False}  # divided into words?


@dataclass(frozen=True)
class Source:
    """A text that was found and passed the cheap checks.

    Attributes:
        name: The name or path as the user gave it.
        files: One text file, or three of training, validation and test text; none for the embedded text.
        tokenized: Whether blanks part words and signs, and rare words are ``<unk>`` already, as in the published sets.
    """

    name: str
    files: tuple[str, ...] = ()
    tokenized: bool = False


def locate(spec: str) -> Source:
    """Find a text and check all that can be checked without reading it.

    Args:
        spec: A name from `DATASETS`, or the path of a text file or of a folder (see `FORMATS`). Named sets that are
            not embedded lie below the folder in the environment variable ``SEMA_DATA`` (default ``../shared/data``).
            In the folder of a named set, ``train.txt`` and its like hold words parted by blanks; elsewhere they hold
            plain text.

    Returns:
        Where the text lies and how to read it.

    Raises:
        InputError: Nothing is there, or one of three files is missing, or a file is empty.

    Example:
        >>> locate("pydoc")
        Source(name='pydoc', files=(), tokenized=False)
    """
    if spec == "pydoc":
        return Source(spec)
    root = data_root()
    path = os.path.join(root, spec) if spec in _FOLDERS else spec
    if spec == "tinyshakespeare":
        path = os.path.join(root, "text", "tinyshakespeare.txt")
    if spec in DATASETS and not os.path.exists(path):
        raise InputError(
            f"data set {spec!r} not found: no {'folder' if spec in _FOLDERS else 'file'} {path}; set SEMA_DATA to the "
            f"folder that holds {os.path.relpath(path, root)}, or write --data pydoc"
        )
    if os.path.isfile(path):
        _check_size(path)
        return Source(spec, (path,))
    if not os.path.isdir(path):
        raise unknown("data set, text file or folder", spec, DATASETS, hint=f"or the path of a folder with {FORMATS}")
    return _located_in(path, spec)


def _located_in(folder: str, spec: str) -> Source:
    for pattern, tokenized in _PATTERNS.items():
        if os.path.isfile(os.path.join(folder, pattern.format("train"))):
            files = tuple(os.path.join(folder, pattern.format(split)) for split in ("train", "valid", "test"))
            for file in files:
                _check_size(file)
            return Source(spec, files, tokenized or (pattern == "{}.txt" and spec in _FOLDERS))
    raise InputError(f"{folder}: no training text; the folder should hold {FORMATS}; or name one text file")


def _check_size(file: str) -> None:
    try:
        size = os.path.getsize(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); the folder should hold {FORMATS}") from error
    if size == 0:
        raise InputError(f"{file}: the file is empty; it should hold text")
