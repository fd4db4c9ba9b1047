"""Faults that a process brings upon itself, at a write point of its choice.

A write point is a call that changes the disk: opening a file for writing, each write and flush, `fsync`, `replace`,
`truncate`, `unlink`, `mkdir`. Calls outside the watched folder do not count.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import switch_ema.bench.compare as comparing
from switch_ema.bench import train

_FREEING = ("unlink", "truncate", "flush")  # what a full disk allows; nothing is left to flush after a refused write


@dataclass(frozen=True)
class Fault:
    """What goes wrong in a process.

    Attributes:
        kind: `"none"`; `"kill"`, SIGKILL in the middle of a write point; `"full"`, no space from a write point on;
            `"read-only"`, no writing from a write point on; `"clock"`, a wall clock that jumps at every look;
            `"limit"`, the kernel's own limit on the size of a file; `"offline"`, no sockets.
        point: Which write point, from 1; for `"limit"` the size in bytes.
        folder: The watched folder.
    """

    kind: str = "none"
    point: int = 0
    folder: str = ""


class _Points:
    """Counts write points, and acts from the chosen one on."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._count = 0
        self._folder = os.path.realpath(fault.folder)

    def watches(self, path: object) -> bool:
        if not isinstance(path, str | os.PathLike):
            return False
        return os.path.realpath(os.fspath(path)).startswith(self._folder)

    def reach(self, what: str, half: Callable[[], object] = lambda: None) -> None:
        self._count += 1
        if self._count < self._fault.point:
            return
        if self._fault.kind == "kill":
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        elif what not in _FREEING or self._fault.kind == "read-only":
            half()
            number = errno.ENOSPC if self._fault.kind == "full" else errno.EROFS
            raise OSError(number, os.strerror(number))


class _File:
    """A file opened for writing whose writes are write points; half of the bytes arrive before one fails."""

    def __init__(self, file: Any, points: _Points) -> None:
        self._file, self._points = file, points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._points.reach("write", half)
        return int(self._file.write(data))

    def flush(self) -> None:
        self._points.reach("flush")
        self._file.flush()


def install(fault: Fault) -> None:
    """Bring a fault upon this process, which is not to be used for anything else afterwards."""
    train._CHECKPOINT_SECONDS = 0.0  # a checkpoint after every epoch: there is something to lose
    if fault.kind in ("kill", "full", "read-only"):
        _watch(_Points(fault))
    elif fault.kind == "clock":
        _jumping_clock(fault.point)
    elif fault.kind == "limit":
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.point, fault.point))
    elif fault.kind == "offline":
        refuse_sockets()


def refuse_sockets() -> None:
    """Make every use of a socket of the internet an error."""
    import socket

    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"the network was used: {address}")

    def look_up(*names: object, **_: object) -> None:
        raise AssertionError(f"a name was looked up: {names}")

    socket.socket.connect = refuse  # type: ignore[assignment,method-assign]
    socket.socket.connect_ex = refuse  # type: ignore[assignment,method-assign]
    socket.getaddrinfo = look_up  # type: ignore[assignment]


def _watch(points: _Points) -> None:
    opened = io.open

    def open_(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+") or not points.watches(path):
            return opened(path, mode, *rest, **named)
        points.reach("open")
        return _File(opened(path, mode, *rest, **named), points)

    def watching(name: str) -> Any:
        original = getattr(os, name)

        def call(first: Any, *rest: Any, **named: Any) -> Any:
            if name == "fsync" or points.watches(first):
                points.reach(name)
            return original(first, *rest, **named)

        return call

    io.open = builtins.open = open_  # type: ignore[assignment]
    for name in ("fsync", "replace", "truncate", "unlink", "mkdir"):
        setattr(os, name, watching(name))


def _jumping_clock(seed: int) -> None:
    import random
    from datetime import UTC, datetime, tzinfo

    rng = random.Random(seed)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Jumping:
            return cls.fromtimestamp(rng.uniform(0, 4e9), tz or UTC)

    time.time = lambda: rng.uniform(0, 4e9)
    setattr(comparing, "datetime", Jumping)  # noqa: B010
