"""Snapshots: power-function averages, written to a folder during training.

A snapshot is a safetensors file of one average at one step: the tensors under the model's names, and in the metadata,
as text, what they are (run, gamma, step) and a checksum of each. A file is written beside its place and moved into it,
so that one that is there is whole.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor

from switch_ema import __version__
from switch_ema.averaging.profiles import Power
from switch_ema.averaging.slots import differences
from switch_ema.averaging.tensors import is_sharded

_FORMAT = "switch_ema snapshot 1"
_NAME = re.compile(r"step-\d+-gamma-[^-]+\.safetensors")


@dataclass(frozen=True)
class Kind:
    """What the tensors of a run's snapshots are, beside their names.

    Attributes:
        copied: Names of those that are not averaged; a snapshot has their latest value.
        tied: Further names of tied tensors, each with the name under which the tensor is stored.
        use_buffers: Whether buffers are among them.
    """

    copied: frozenset[str]
    tied: Mapping[str, str]
    use_buffers: bool


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A stored average: where it is, and what its metadata says.

    Attributes:
        path: The file.
        run: Identifies the training run.
        profile: The average's exponent and step.
        kind: What its tensors are.
        checksums: CRC-32 of each tensor by name.
    """

    path: Path
    run: str
    profile: Power
    kind: Kind
    checksums: Mapping[str, int]

    @staticmethod
    def place(folder: Path, profile: Power) -> Path:
        """Return the file for a profile."""
        return folder / f"step-{profile.step:010d}-gamma-{profile.gamma!r}.safetensors"

    @classmethod
    def write(cls, folder: Path, run: str, profile: Power, kind: Kind, tensors: Mapping[str, Tensor]) -> None:
        """Store an average, in place of one of the same step and gamma.

        Args:
            folder: An existing folder.
            run: Identifies the training run.
            profile: What the average is.
            kind: What its tensors are.
            tensors: Contiguous tensors on the CPU, by name.
        """
        metadata = {
            "format": _FORMAT,
            "switch_ema": __version__,
            "run": run,
            "gamma": repr(profile.gamma),
            "step": str(profile.step),
            "copied": json.dumps(sorted(kind.copied)),
            "tied": json.dumps(dict(kind.tied)),
            "use_buffers": json.dumps(kind.use_buffers),
            "checksums": json.dumps({name: _checksum(tensor) for name, tensor in tensors.items()}),
        }
        path = cls.place(folder, profile)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            part.touch()
            mode = part.stat().st_mode
            metadata["checksum"] = str(_checksum_of_text(metadata))
            safetensors().torch.save_file(dict(tensors), part, metadata)
            part.chmod(mode)  # the library would let nobody else read it
            _flush(part)
            os.replace(part, path)
            _flush(folder)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the metadata of a snapshot.

        Raises:
            ValueError: If the file is damaged, or something else.
        """
        library = safetensors()
        try:
            with library.safe_open(path, framework="pt") as file:
                metadata, names = file.metadata() or {}, set(file.keys())
        except (library.SafetensorError, OSError) as error:
            raise _damaged(path, str(error)) from None
        found = metadata.get("format")
        if found != _FORMAT:
            raise ValueError(
                f"{path} is not a snapshot of PostHocEMA that this version reads (format {found!r}, not "
                f"{_FORMAT!r}); move it out of the folder"
            )
        if metadata.pop("checksum", "") != str(_checksum_of_text(metadata)):
            raise _damaged(path, "its metadata does not fit its checksum")
        checksums = json.loads(metadata["checksums"])
        if found := differences(names, checksums):
            raise _damaged(path, found)
        kind = Kind(
            frozenset(json.loads(metadata["copied"])),
            json.loads(metadata["tied"]),
            json.loads(metadata["use_buffers"]),
        )
        return cls(path, metadata["run"], Power(float(metadata["gamma"]), int(metadata["step"])), kind, checksums)

    def open(self) -> AbstractContextManager[Any]:
        """Open the file, for `tensor`, in a `with` block."""
        file: AbstractContextManager[Any] = safetensors().safe_open(self.path, framework="pt")
        return file

    def tensor(self, file: Any, name: str) -> Tensor:
        """Return a tensor of the opened file.

        Raises:
            ValueError: If it is not what was written.
        """
        try:
            tensor: Tensor = file.get_tensor(name)
        except (safetensors().SafetensorError, OSError) as error:
            raise _damaged(self.path, str(error)) from None
        if _checksum(tensor) != self.checksums[name]:
            raise _damaged(self.path, f"{name!r} does not fit its checksum")
        return tensor


def find(folder: Path) -> list[Snapshot]:
    """Return the snapshots in a folder, of whatever run, by step and gamma.

    Raises:
        ValueError: If a file is damaged.
    """
    found = [Snapshot.read(path) for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda s: (s.profile.step, s.profile.gamma))


def as_stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Return a tensor as it is stored: contiguous, on the CPU, an average on request in another float type.

    A sharded one is gathered, so all processes that have a shard must call this.

    Raises:
        ValueError: If a finite value is infinite in the type.
    """
    tensor = cast(Any, tensor.detach()).full_tensor() if is_sharded(tensor) else tensor.detach()
    narrow = tensor
    if dtype is not None and tensor.dtype.is_floating_point:
        narrow = narrow.to(dtype)
        if bool((narrow.isinf() & tensor.isfinite()).any()):
            raise ValueError(
                f"the average of {name!r} has values beyond the range of {dtype} ({float(tensor.abs().max()):.4g}); "
                "write dtype=torch.float32"
            )
    return narrow.to("cpu").contiguous()


def safetensors() -> Any:
    """Return the library that reads and writes the files.

    Raises:
        ImportError: If it is not installed; the message says how.
    """
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise ImportError('snapshots are safetensors files; run: pip install "switch-ema[files]"') from None
    return safetensors


def _checksum(tensor: Tensor) -> int:
    """Return the CRC-32 of a tensor's type, shape and bytes."""
    flat = tensor.contiguous().reshape(-1)
    kind = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    return zlib.crc32(flat.view(torch.uint8).numpy().data, kind)


def _checksum_of_text(metadata: Mapping[str, str]) -> int:
    return zlib.crc32(json.dumps(dict(metadata), sort_keys=True).encode())


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is damaged ({reason}); restore it, or delete it to go on with the other snapshots")


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    if os.name == "nt" and path.is_dir():  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
