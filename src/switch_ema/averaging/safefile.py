"""Safetensors files read a block at a time and checked against their checksums; nothing in them is ever unpickled.

The `safetensors` package checks a file's header (lengths, offsets, types); the data is then read here in small blocks
rather than mapped, so that memory does not grow with the size of the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor

from switch_ema.averaging import safewriter
from switch_ema.averaging.files import Checksum
from switch_ema.averaging.safewriter import ABOUT, CHECKSUMS, CODES, DTYPES, FORMAT, Entry, header_checksum, in_order

_CURE = "use an undamaged copy, or save it again"
_CHANGED = "does not match its checksum: the content was changed or damaged"


@final
class SafeFile:
    """A safetensors file opened for reading, after a check of its header; a context manager.

    Args:
        path: The file.
        cure: What to do if it is damaged, for the message.

    Raises:
        FileNotFoundError: If it is not there.
        ImportError: If the `safetensors` package is missing.
        ValueError: If it is no whole safetensors file, or its header is damaged; the message names it, the reason and
            the cure.

    Attributes:
        path: The file.
        entries: Type and shape of every tensor by name, also of those that share the data of another one.
        aliases: Names that share the data of another one, and whose.
        about: What `write_safetensors` was told about the file; `None` if it was written by something else.
    """

    def __init__(self, path: Path, cure: str = _CURE) -> None:
        self.path = path
        self._cure = cure
        self._file = path.open("rb", buffering=0)
        try:
            self.entries, self._starts, self.about = self._read_header()
            self._check_header()
            self.aliases = self._read_aliases()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def files(self) -> list[Path]:
        """The file, in a list."""
        return [self.path]

    def blocks(self, name: str) -> Iterator[Tensor]:
        """Yield a tensor in flat blocks, each good until the next; call `verify` before."""
        dtype = self.entries[name].dtype
        for data in self._bytes(self.aliases.get(name, name)):
            yield torch.frombuffer(data, dtype=torch.uint8).view(dtype)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor; call `verify` before."""
        return joined(self.blocks(name), self.entries[name])

    def verify(self, take: Callable[[str, Tensor], object] | None = None) -> dict[str, Any]:
        """Read all of a file that has a checksum, one tensor after the other, and compare.

        Args:
            take: Is given each tensor by name, tied ones once. They are to be trusted only after the method has
                returned.

        Returns:
            What the file says about itself.

        Raises:
            ValueError: If the file has no checksum, or another one than its content.
        """
        if self.about is None:
            raise self._refusal(
                "has no checksum, so it was not written by this library or its header is damaged",
                "read a file of another library with safetensors.torch.load_file",
            )
        checksum = Checksum({key: value for key, value in self.about.items() if key != "checksum"})
        for name in in_order({name: self.entries[name] for name in self._starts}):
            entry = self.entries[name]
            checksum.add_tensor(name, CODES[entry.dtype], entry.shape)
            if take is None:
                for data in self._bytes(name):
                    checksum.add_bytes(data)
            else:
                take(name, joined(self._hashed(name, checksum), entry))
        if checksum.hexdigest() != self.about.get("checksum"):
            raise self._refusal(_CHANGED)
        return dict(self.about)

    def _hashed(self, name: str, checksum: Checksum) -> Iterator[Tensor]:
        for data in self._bytes(name):
            checksum.add_bytes(data)
            yield torch.frombuffer(data, dtype=torch.uint8).view(self.entries[name].dtype)

    def _bytes(self, name: str) -> Iterator[memoryview]:
        """Yield the bytes of a tensor by the block, each in place of the one before."""
        entry = self.entries[name]
        start, left = self._starts[name], entry.nbytes
        data = memoryview(bytearray(min(left, safewriter.BLOCK * entry.dtype.itemsize)))
        while left:
            block = data[:left]
            self._file.seek(start)
            if _read_into(self._file, block) < len(block):
                raise self._refusal("is cut short")
            yield block
            start, left = start + len(block), left - len(block)

    def _refusal(self, reason: str, cure: str = "") -> ValueError:
        return ValueError(f"{self.path} {reason}; {cure or self._cure}")

    def _read_header(self) -> tuple[dict[str, Entry], dict[str, int], dict[str, Any] | None]:
        first = self._file.read(8)
        safe_open, error_type = safetensors()
        try:
            with safe_open(str(self.path), framework="pt") as file:
                metadata = file.metadata() or {}
                parts = [(name, file.get_slice(name)) for name in file.offset_keys()]
                found = [(name, part.get_dtype(), tuple(part.get_shape())) for name, part in parts]
        except (error_type, ValueError, OverflowError) as error:
            is_header = int.from_bytes(first, "little") <= self.path.stat().st_size
            if first.startswith((b"PK", b"\x80")) and not is_header:
                raise self._refusal(
                    "is a pickle or torch file, which is not opened as safetensors",
                    "name a .safetensors file, or give a torch checkpoint its ending .pt",
                ) from None
            reason = " ".join(str(error).split())
            raise self._refusal(f"is no whole safetensors file ({reason})") from None
        entries, starts = {}, {}
        start = 8 + int.from_bytes(first, "little")  # the package has checked that tensors follow without gaps
        for name, code, shape in found:
            if code not in DTYPES:
                raise self._refusal(f"holds {name!r} of type {code}, which torch cannot hold", "convert it first")
            entries[name], starts[name] = Entry(DTYPES[code], shape), start
            start += entries[name].nbytes
        return entries, starts, self._read_about(metadata)

    def _read_about(self, metadata: Mapping[str, str]) -> dict[str, Any] | None:
        if ABOUT not in metadata:
            return None
        try:
            about = json.loads(metadata[ABOUT])
            if not isinstance(about, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            raise self._refusal("has damaged metadata") from None
        if about.get("format") != FORMAT:
            cure = "update switch-ema" if isinstance(about.get("format"), int) else ""
            raise self._refusal(f"has format {about.get('format')!r}, this version reads {FORMAT}", cure)
        return about

    def _check_header(self) -> None:
        if self.about is not None:
            about = {key: value for key, value in self.about.items() if key not in CHECKSUMS}
            if header_checksum(about, self.entries) != self.about.get("header_checksum"):
                raise self._refusal(_CHANGED)

    def _read_aliases(self) -> dict[str, str]:
        aliases = (self.about or {}).get("aliases", {})
        known = isinstance(aliases, dict) and all(
            alias not in self._starts and isinstance(name, str) and name in self._starts
            for alias, name in aliases.items()
        )
        if not known:
            raise self._refusal("names tied tensors that it does not hold")
        self.entries.update({alias: self.entries[name] for alias, name in aliases.items()})
        return dict(aliases)


def read_tensors(path: Path, cure: str = _CURE) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read all of a file into memory, and check it against its checksum.

    Args:
        path: The file.
        cure: What to do if it is damaged, for the message.

    Returns:
        The tensors by name, tied ones once, and what the file says about itself.

    Raises:
        FileNotFoundError: If it is not there.
        ImportError: If the `safetensors` package is missing.
        ValueError: If it is damaged, or has no checksum.
    """
    tensors: dict[str, Tensor] = {}
    with SafeFile(path, cure) as file:
        about = file.verify(tensors.__setitem__)
    return tensors, about


def joined(blocks: Iterator[Tensor], entry: Entry) -> Tensor:
    """Return a tensor from its flat blocks, in the type and shape of an entry."""
    flat, start = torch.empty(entry.size, dtype=entry.dtype), 0
    for block in blocks:
        flat[start : start + len(block)] = block
        start += len(block)
    return flat.view(entry.shape)


def safetensors() -> tuple[Any, type[Exception]]:
    """Return what opens files in the `safetensors` package, and what it raises.

    Raises:
        ImportError: If the package is missing.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ImportError(
            'reading safetensors files needs the safetensors package; run: pip install "switch-ema[files]"'
        ) from None
    return safe_open, SafetensorError


def _read_into(file: Any, data: memoryview) -> int:
    done = 0
    while done < len(data) and (count := file.readinto(data[done:])):
        done += count
    return done
