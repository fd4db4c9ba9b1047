"""Sequences cut from stored frames: folders of frames, .npy files, and the published test file of Moving-MNIST."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data.decode import resize
from switch_ema.data.splits import SPLIT_SEED, held_out_size
from switch_ema.data.video import clips
from switch_ema.data.video.catalog import npy_files
from switch_ema.data.video.windows import Frames, cut
from switch_ema.errors import FieldError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Recorded:
    """Sequences of stored frames, which may stay on disk until they are read.

    Attributes:
        frames: All frames, uint8 of shape (frames, height, width, 1 or 3).
        starts: At which frame each sequence starts, int64 of shape (n,).
        length: Frames in a sequence.
        stride: From one frame of a sequence to the next.
        image_size: Side to scale and crop the frames to when they are read; None keeps them.
    """

    frames: NDArray[np.uint8]
    starts: NDArray[np.int64]
    length: int
    stride: int = 1
    image_size: int | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a frame."""
        height, width, channels = self.frames.shape[1:]
        return (channels, height, width) if self.image_size is None else (channels, self.image_size, self.image_size)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return sequences by number, of shape (n, length, height, width, channels)."""
        places = self.starts[rows][:, None] + self.stride * np.arange(self.length)
        found = resize(np.asarray(self.frames[places.ravel()]), self.image_size)
        return found.reshape(*places.shape, *found.shape[1:])

    def some(self, size: int | None, option: str) -> Recorded:
        """Keep a fixed choice of so many sequences; None keeps all."""
        if size is None:
            return self
        if size > len(self):
            raise FieldError(option, f"{size}: there are {len(self)} sequences; write at most as many")
        chosen = np.random.default_rng(SPLIT_SEED).permutation(len(self))[:size]
        return replace(self, starts=self.starts[np.sort(chosen)])


def read_published(file: str, length: int, image_size: int | None) -> Recorded:
    """Map the published test file of Moving-MNIST, (time, sequences, height, width), and cut its sequences."""
    stored = np.load(file, mmap_mode="r")
    time, count, side, _ = stored.shape
    windows = np.array(cut([(file, time)], length)[0])
    starts = np.add.outer(np.arange(count), count * windows).ravel()
    return Recorded(stored.reshape(-1, side, side, 1), starts, length, count, image_size)


def read_clips(path: str, length: int, frames: Frames, image_size: int | None) -> dict[str, Recorded]:
    """Read a folder of clips, whose frames are kept in memory; the splits that it lacks are held out.

    Args:
        path: The folder (see `switch_ema.data.video.clips.scan`).
        length: Frames in a sequence.
        frames: How many frames to take of each clip.
        image_size: Side to scale and crop the frames to; None keeps them.

    Returns:
        The sequences of ``train``, ``val`` and ``test``.

    Raises:
        InputError: Clips are too short or unequally long, or a frame is unreadable or of another size.
    """
    splits = clips.scan(path)
    everything = [clip for found in splits.values() for clip in found]
    windows = cut([(clip.path, len(clip.files)) for clip in everything], length, frames)
    pixels = clips.read(everything, image_size)  # all at once: one size, one number of channels
    first = np.cumsum([0, *(len(clip.files) for clip in everything)])
    starts = [first[at] + np.array(own) for at, own in enumerate(windows)]
    ends = np.cumsum([len(found) for found in splits.values()])[:-1]
    groups = dict(zip(splits, np.split(np.arange(len(everything)), ends), strict=True))
    return {
        split: Recorded(pixels, np.concatenate([starts[clip] for clip in own]), length)
        for split, own in _held_out(groups).items()
    }


def read_npy(path: str, length: int, frames: Frames, image_size: int | None) -> dict[str, Recorded]:
    """Map a folder of .npy files of shape (clips, frames, height, width[, channels]); otherwise as `read_clips`."""
    files = npy_files(path)
    stored = {split: np.load(file, mmap_mode="r") for split, file in files.items()}
    counts = [(files[split], array.shape[1]) for split, array in stored.items()]
    windows = dict(zip(stored, cut(counts, length, frames), strict=True))
    groups = {split: np.arange(len(array)) for split, array in stored.items()}
    parts = {}
    for split, own in _held_out(groups).items():
        file = split if split in stored else "train"
        array = stored[file]
        starts = np.add.outer(own * array.shape[1], np.array(windows[file])).ravel()
        flat = array.reshape(-1, *array.shape[2:4], array.shape[4] if array.ndim == 5 else 1)
        parts[split] = Recorded(flat, starts, length, image_size=image_size)
    return parts


def _held_out(groups: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    """Hold clips out of the training clips for the splits that are not there."""
    parts = dict(groups)
    for split in ("test", "val"):
        if split not in parts:
            order = np.random.default_rng(SPLIT_SEED).permutation(parts["train"])
            size = held_out_size(split, len(order))
            parts[split], parts["train"] = np.sort(order[:size]), np.sort(order[size:])
    return parts
