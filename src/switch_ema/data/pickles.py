"""Reading pickled numbers without trusting the file.

An ordinary unpickler calls whatever the file names, so a prepared file runs any program. This one knows the few names
that numpy arrays of numbers need, and even for these it calls stand-ins of its own, which only collect their arguments.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import IO, Any

from switch_ema.errors import InputError

_NUMBERING = ("PUT", "BINPUT", "LONG_BINPUT")
_NUMBERS = re.compile(r"[biuf][1248]|[?]")


def loads(content: bytes, where: str) -> Any:
    """Read pickled numbers, texts, lists, tuples, dictionaries and numpy arrays of numbers.

    Args:
        content: The pickle, by Python 2 or 3; what follows it is not read.
        where: The file, for messages.

    Returns:
        The object; texts that Python 2 wrote come as latin-1.

    Raises:
        InputError: The pickle needs anything else, or is damaged.

    Example:
        >>> loads(pickle.dumps({"labels": [3, 1]}), "a file")
        {'labels': [3, 1]}
    """
    return loads_from(io.BytesIO(content), where)


def loads_from(stream: IO[bytes], where: str) -> Any:
    """Read one pickle from a stream; see `loads`."""
    try:
        _check_commands(stream)
        return _arrays(_NumbersOnly(stream, where).load())
    except InputError:
        raise
    except Exception as error:  # a damaged pickle leads the interpreter of its commands anywhere
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise InputError(f"{where}: damaged ({reason}); copy or download it again") from error


def _check_commands(stream: IO[bytes]) -> None:
    """Refuse numbers for which the unpickler would make room before it looks what is there.

    Raises:
        ValueError: The stream ends within the pickle, or an object is numbered beyond those before it.
    """
    start = stream.tell()
    for number, (command, argument, _) in enumerate(pickletools.genops(stream)):
        if command.name in _NUMBERING and int(argument or 0) > number + 1:
            raise ValueError(f"object {argument} among {number}")
    stream.seek(start)


class _NumbersOnly(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], where: str) -> None:
        super().__init__(stream, encoding="latin1")
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module.replace("numpy.core", "numpy._core"), name))
        if known is None:
            raise InputError(
                f"{self._where}: refused, it would call {module}.{name}; only plain numbers, texts, lists, "
                f"dictionaries and numpy arrays are read from a pickle"
            )
        return _Call(known)

    def persistent_load(self, pid: Any) -> Any:
        raise InputError(
            f"{self._where}: refused, it refers to objects outside, such as tensors; save numpy arrays instead"
        )


class _Call:
    """What the file gets for a name: it can be called, and nothing of it can be changed."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a name cannot be changed")


class _Stated:
    """Collects what an array or its type would be restored from."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Stated):
    __slots__ = ()

    def value(self) -> Any:
        _, shape, kind, fortran, content = self.state
        return _restored(content, kind, shape, "F" if fortran else "C")


class _Scalar(_Stated):
    __slots__ = ()

    def value(self) -> Any:
        kind, content = self.arguments
        return _restored(content, kind, (), "C").item()


class _Buffer(_Stated):
    __slots__ = ()

    def value(self) -> Any:
        content, kind, shape, order = self.arguments[:4]
        return _restored(content, kind, shape, order)


class _Kind(_Stated):
    __slots__ = ()

    def value(self) -> str:
        code = self.arguments[0]
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise ValueError(f"arrays of type {code!r} are not read")
        order = self.state[1] if self.state else "|"
        return f"{order if order in ('<', '>') else '='}{code}" if code != "?" else code


def _restored(content: Any, kind: Any, shape: Any, order: Any) -> Any:
    import numpy as np

    if not isinstance(kind, _Kind) or order not in ("C", "F"):
        raise ValueError("not an array of numbers")
    raw = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(raw, bytes | bytearray):
        raise ValueError("not an array of numbers")
    return np.frombuffer(raw, kind.value()).reshape(tuple(shape), order=order)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"unknown encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Return what Python 3 writes an empty bytes object as, in a form that Python 2 reads."""
    return b""


def _arrays(value: Any) -> Any:
    """Replace stand-ins by arrays; lists of numbers stay as they are."""
    if isinstance(value, _Array | _Scalar | _Buffer):
        return value.value()
    if isinstance(value, dict):
        return {key: _arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_arrays(item) for item in value)
    if isinstance(value, _Stated | _Call):
        raise ValueError("not an array of numbers")
    return value


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "scalar"): _Scalar,
    ("numpy._core.numeric", "_frombuffer"): _Buffer,
    ("numpy", "ndarray"): _Stated,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): dict,
}
