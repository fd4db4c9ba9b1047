"""Safetensors files written a block at a time, as their values are computed, and what reading them shares with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from switch_ema import __version__
from switch_ema.averaging.files import Checksum, write_atomically

FORMAT = 1
BLOCK = 1 << 16  # elements: what is worked on at once stays in the processor's cache
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
ABOUT = "switch_ema"  # our key in the metadata of a file; its value is JSON
CHECKSUMS = ("header_checksum", "checksum")  # of names, types, shapes and the rest of ABOUT; and of the values, too


class Entry(NamedTuple):
    """Type and shape of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.size * self.dtype.itemsize


def write_safetensors(
    path: Path, entries: Mapping[str, Entry], about: Mapping[str, Any], blocks: Callable[[str], Iterable[Tensor]]
) -> dict[str, Any]:
    """Write a safetensors file atomically, a block at a time: the header first, then one tensor after the other.

    Args:
        path: The file; one that is there is replaced.
        entries: Type and shape of each tensor by name.
        about: What the file says about itself; version, format and checksum are added.
        blocks: Returns a tensor's values, flat, in blocks of any type and size.

    Returns:
        What the file says about itself.

    Raises:
        OSError: If the disk is full or the folder cannot be written; nothing is left behind then.
        ValueError: If a value is beyond the range of the type in which it is stored.
    """
    about = {**about, "format": FORMAT, "version": __version__}
    about["header_checksum"] = header_checksum(about, entries)
    checksum = Checksum(about)
    about["checksum"] = "0" * Checksum.LENGTH  # filled in when all tensors are written
    header = _header(entries, about)

    def write(file: BinaryIO) -> None:
        file.write(header)
        for name in in_order(entries):
            checksum.add_tensor(name, CODES[entries[name].dtype], entries[name].shape)
            _write_tensor(file, checksum, name, entries[name], blocks(name))
        about["checksum"] = checksum.hexdigest()
        file.seek(0)
        file.write(_header(entries, about))

    write_atomically(path, write)
    return about


def _write_tensor(file: BinaryIO, checksum: Checksum, name: str, entry: Entry, blocks: Iterable[Tensor]) -> None:
    written = 0
    for block in blocks:
        data = to_bytes(name, block, entry.dtype)
        checksum.add_bytes(data)
        file.write(data)
        written += len(data)
    if written != entry.nbytes:
        raise RuntimeError(f"{name!r} has {written} bytes instead of {entry.nbytes}")


def header_checksum(about: Mapping[str, Any], entries: Mapping[str, Entry]) -> str:
    """Return the checksum of all that a file says before its values, so that a damaged header is not taken at its word.

    Args:
        about: What the file says about itself, without checksums.
        entries: Type and shape of each tensor by name.
    """
    checksum = Checksum(about)
    for name in in_order(entries):
        checksum.add_tensor(name, CODES[entries[name].dtype], entries[name].shape)
    return checksum.hexdigest()


def in_blocks(tensor: Tensor) -> Iterator[Tensor]:
    """Yield a tensor's values, flat, in blocks of `BLOCK` elements and a rest."""
    flat = tensor.detach().reshape(-1)
    for start in range(0, len(flat), BLOCK):
        yield flat[start : start + BLOCK]


def to_bytes(name: str, block: Tensor, dtype: torch.dtype) -> bytearray:
    """Return a flat tensor's values in a type, as bytes.

    Raises:
        ValueError: If a finite value is beyond the range of the type.
    """
    data = bytearray(block.numel() * dtype.itemsize)
    if data:
        block = block.detach().cpu()
        stored = torch.frombuffer(data, dtype=torch.uint8).view(dtype).copy_(block)
        if block.dtype != dtype and dtype.is_floating_point:
            cure = f"store it in a wider type, such as {wider(dtype)}"
            if refusal := beyond_range(repr(name), block, stored, cure):
                raise ValueError(refusal)
    return data


def beyond_range(what: str, values: Tensor, stored: Tensor, cure: str) -> str:
    """Return what is wrong if a finite value is not finite any more in another type; empty if all are.

    Args:
        what: What has the values.
        values: The values; floats or complex.
        stored: The same in another type.
        cure: What to do about it.
    """
    lost = values.isfinite() & ~stored.to(values.dtype).isfinite()
    if not bool(lost.any()):
        return ""
    largest, end = float(values[lost].abs().max()), torch.finfo(stored.dtype).max
    narrow = str(stored.dtype).removeprefix("torch.")
    return f"{what} has values beyond the range of {stored.dtype} ({largest:.4g}); {cure} ({narrow} ends at {end:.5g})"


def wider(dtype: torch.dtype) -> torch.dtype:
    """Return a type of floats that holds what a type does not."""
    return torch.float32 if torch.finfo(dtype).max < 1e38 else torch.float64


def storable(name: str, tensor: Tensor) -> Entry:
    """Return the entry of a tensor that a file can hold.

    Raises:
        ValueError: If it is sparse, quantized, without values, or of a type that safetensors has not.
    """
    reason = ""
    if tensor.layout is not torch.strided or tensor.is_quantized:
        reason = "is sparse or quantized; convert it with .to_dense() or .dequantize()"
    elif tensor.is_meta:
        reason = "is on the meta device and has no values; load or initialise it first"
    elif tensor.dtype not in CODES:
        reason = f"is of type {str(tensor.dtype).removeprefix('torch.')}, which safetensors has not; convert it first"
    if reason:
        raise ValueError(f"tensor {name!r} {reason}")
    return Entry(tensor.dtype, tuple(tensor.shape))


def kind_of(dtype: torch.dtype) -> str:
    """Return whether a type is one of floats, complex, whole or truth values."""
    if dtype.is_floating_point:
        return "float"
    return "complex" if dtype.is_complex else "bool" if dtype is torch.bool else "integer"


def _header(entries: Mapping[str, Entry], about: Mapping[str, Any]) -> bytes:
    content: dict[str, Any] = {"__metadata__": {"format": "pt", ABOUT: json.dumps(about, sort_keys=True)}}
    start = 0
    for name in in_order(entries):
        entry = entries[name]
        end = start + entry.nbytes
        content[name] = {"dtype": CODES[entry.dtype], "shape": list(entry.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def in_order(entries: Mapping[str, Entry]) -> list[str]:
    """Return names so that every tensor is aligned in the file: wide types first, then by name."""
    return sorted(entries, key=lambda name: (-entries[name].dtype.itemsize, name))
