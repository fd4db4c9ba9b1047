"""Snapshots: power-function averages, written to a folder during training.

A snapshot is a safetensors file of one average at one step: the tensors under the model's names, and what they are
(run, gamma, step) as what the file says about itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from switch_ema.averaging.profiles import Power
from switch_ema.averaging.safefile import SafeFile
from switch_ema.averaging.safewriter import Entry, storable
from switch_ema.averaging.shards import write_gathered

_NAME = re.compile(r"step-\d+-gamma-[^-]+\.safetensors")
_CURE = "restore it, or delete it to go on with the other snapshots"


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
    """A stored average: where it is, and what it says about itself.

    Attributes:
        path: The file.
        run: Identifies the training run.
        profile: The average's exponent and step.
        kind: What its tensors are.
        entries: Type and shape of each tensor by name, tied ones once.
    """

    path: Path
    run: str
    profile: Power
    kind: Kind
    entries: Mapping[str, Entry]

    @staticmethod
    def place(folder: Path, profile: Power) -> Path:
        """Return the file for a profile."""
        return folder / f"step-{profile.step:010d}-gamma-{profile.gamma!r}.safetensors"

    @classmethod
    def write(
        cls,
        folder: Path,
        run: str,
        profile: Power,
        kind: Kind,
        averages: Mapping[str, Tensor],
        dtype: torch.dtype | None = None,
    ) -> None:
        """Store an average, in place of one of the same step and gamma.

        Sharded tensors are gathered one at a time: then all processes must call this, and the first one writes.

        Args:
            folder: An existing folder.
            run: Identifies the training run.
            profile: What the average is.
            kind: What its tensors are.
            averages: Tensors by name.
            dtype: Type in which float averages are stored; by default the one they have.

        Raises:
            OSError: If the disk is full or the folder cannot be written; a snapshot that was there is untouched then.
            ValueError: If a finite value is beyond the range of the type.
        """
        entries = {name: storable(name, average) for name, average in averages.items()}
        for name, entry in entries.items():
            if dtype is not None and entry.dtype.is_floating_point and name not in kind.copied:
                entries[name] = Entry(dtype, entry.shape)
        about = {
            "run": run,
            "gamma": profile.gamma,
            "step": profile.step,
            "copied": sorted(kind.copied),
            "use_buffers": kind.use_buffers,
            "aliases": dict(kind.tied),
        }
        write_gathered(cls.place(folder, profile), averages, entries, about)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what a snapshot says about itself.

        Raises:
            ValueError: If the file is damaged, or something else.
        """
        with SafeFile(path, _CURE) as file:
            about = file.about or {}
            try:
                profile = Power(about["gamma"], about["step"])
                kind = Kind(frozenset(about["copied"]), file.aliases, about["use_buffers"])
                entries = {name: entry for name, entry in file.entries.items() if name not in file.aliases}
                return cls(path, about["run"], profile, kind, entries)
            except KeyError:
                raise ValueError(f"{path} is not a snapshot of PostHocEMA; move it out of the folder") from None

    def open(self) -> SafeFile:
        """Open the file; its values are to be trusted only after its `verify`."""
        return SafeFile(self.path, _CURE)


def find(folder: Path) -> list[Snapshot]:
    """Return the snapshots in a folder, of whatever run, by step and gamma.

    Raises:
        ValueError: If the header of a file is damaged.
    """
    found = [Snapshot.read(path) for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda s: (s.profile.step, s.profile.gamma))
