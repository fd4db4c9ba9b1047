"""Small videos on disk, right by default, whose pixels tell clip and frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[np.uint8]]


def frame(clip: int, number: int, size: tuple[int, int] = (8, 8), channels: int = 1) -> Array:
    """Make a frame (height, width[, 3]) that tells its clip and its number by every pixel: 10 * clip + number."""
    return np.full((size[1], size[0], channels), 10 * clip + number, np.uint8).squeeze()


def clip_folder(folder: Path, clip: int, frames: int, size: tuple[int, int] = (8, 8), channels: int = 1) -> Path:
    """Write 1.png, 2.png, ..., 10.png, ...: sorted as texts they would be in another order."""
    folder.mkdir(parents=True)
    for number in range(frames):
        Image.fromarray(frame(clip, number, size, channels)).save(folder / f"{number + 1}.png")
    return folder


def clip_folders(path: Path, lengths: Mapping[str, Sequence[int]], size: tuple[int, int] = (8, 8)) -> Path:
    """Write clips of some lengths for each split; "" writes them directly. Clips are numbered through all splits."""
    number = 0
    for split, counts in lengths.items():
        for count in counts:
            clip_folder(path / split / f"clip{number:02}", number, count, size)
            number += 1
    return path


def array(first: int, clips: int, frames: int, size: tuple[int, int] = (8, 8)) -> Array:
    return np.stack([[frame(first + clip, number, size) for number in range(frames)] for clip in range(clips)])


def npy_folder(path: Path, shapes: Mapping[str, tuple[int, int]] | None = None) -> Path:
    """Write train.npy, test.npy, ... of so many clips of so many frames; clips are numbered through all files."""
    path.mkdir(parents=True, exist_ok=True)
    first = 0
    for split, (clips, frames) in (shapes or {"train": (4, 4), "test": (2, 4)}).items():
        np.save(path / f"{split}.npy", array(first, clips, frames))
        first += clips
    return path


def published(file: Path, sequences: int = 3) -> Path:
    """Write a file like the published test file of Moving-MNIST: every pixel is 20 * sequence + frame."""
    file.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.arange(20)[:, None] + 20 * np.arange(sequences)
    np.save(file, np.broadcast_to(numbers.astype(np.uint8)[..., None, None], (20, sequences, 64, 64)))
    return file
