"""Clips as folders of frames: ``train/CLIP/0001.png ...`` (also ``val/``, ``test/``), or ``CLIP/0001.png ...``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from switch_ema.data.folder import image_names
from switch_ema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Clip:
    """A folder of frames.

    Attributes:
        path: The folder.
        files: Names of its frames, in the order of their numbers.
    """

    path: str
    files: tuple[str, ...]


def found(path: str) -> bool:
    """Say whether the folder holds split folders, or folders with images."""
    return any(name in _SPLITS or any(image_names(os.path.join(path, name))) for name in _folders(path))


def scan(path: str) -> dict[str, list[Clip]]:
    """List the clips of every split that is there; without split folders all clips are under ``train``.

    Args:
        path: The folder.

    Returns:
        The clips by split, sorted by name; with train/ and val/ alone, val/ is the test split.

    Raises:
        InputError: There is no train/, or a clip has no frames, or its frames have no numbers or one number twice.
    """
    there = [split for split in _SPLITS if split in _folders(path)]
    if not there:
        return {"train": _clips(path)}
    if "train" not in there:
        raise InputError(f"{path}: no folder train/ beside {' and '.join(there)}/; add it")
    splits = {split: _clips(os.path.join(path, split)) for split in there}
    if "test" not in splits and "val" in splits:
        splits["test"] = splits.pop("val")
    return splits


def read(clips: Sequence[Clip], image_size: int | None) -> NDArray[np.uint8]:
    """Decode the frames of clips into one array: grey if all are grey, else RGB.

    Args:
        clips: The clips.
        image_size: Scale the shorter side to this and crop the centre; None keeps the frames as they are.

    Returns:
        All frames, clip after clip, of shape (frames, height, width, 1 or 3).

    Raises:
        InputError: A frame cannot be read, has another size than the first, or more than 8 bits a channel.
    """
    import numpy as np

    from switch_ema.data.decode import UnreadableImageError, as_array, fit, open_image

    files = [os.path.join(clip.path, name) for clip in clips for name in clip.files]
    frames = np.empty((0, 0, 0, 0), np.uint8)
    for row, file in enumerate(files):
        try:
            frame = as_array(fit(open_image(file, file), image_size))
        except UnreadableImageError as error:
            raise InputError(f"{error}; replace the frame, or remove its clip") from error
        if row == 0:
            frames = np.empty((len(files), *frame.shape), np.uint8)
        elif frame.shape[:2] != frames.shape[1:3]:
            first, this = (f"{width}x{height}" for height, width in (frames.shape[1:3], frame.shape[:2]))
            raise InputError(
                f"{file}: the frame is {this}, the first one ({files[0]}) {first}; write --image-size to make all equal"
            )
        if frame.shape[2] > frames.shape[3]:
            frames = np.repeat(frames, 3, axis=3)
        frames[row] = frame  # a grey frame among coloured ones is broadcast over the channels
    return frames


def _clips(directory: str) -> list[Clip]:
    names = _folders(directory)
    if not names:
        raise InputError(f"{directory}: no clips in it; put the frames of each clip into a folder of its own")
    return [_clip(os.path.join(directory, name)) for name in names]


def _clip(path: str) -> Clip:
    numbered: dict[int, str] = {}
    for name in sorted(image_names(path)):
        digits = re.findall(r"\d+", os.path.splitext(name)[0])
        if not digits:
            raise InputError(f"{os.path.join(path, name)}: no number in the name; call the frames 0001.png, 0002.png")
        number = int(digits[-1])
        if number in numbered:
            raise InputError(f"{path}: {numbered[number]} and {name} are both frame {number}; remove one")
        numbered[number] = name
    if not numbered:
        raise InputError(f"{path}: no frames in this clip; add some or remove the folder")
    return Clip(path, tuple(numbered[number] for number in sorted(numbered)))


def _folders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
