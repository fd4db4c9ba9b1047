"""What `--data` accepts where videos are predicted: names of data sets, folders of clips, and .npy files.

Everything here needs the standard library only, so that a wrong path or a damaged header is refused at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from switch_ema.data import idx
from switch_ema.data.named import NAMED
from switch_ema.data.root import data_root
from switch_ema.data.video import clips, npyfile
from switch_ema.data.video.windows import Frames, cut
from switch_ema.errors import InputError, unknown

DATASETS = {
    "moving-digits": "two of the digits that come with scikit-learn, moving over 32x32 pixels, grey; generated",
    "moving-mnist": "two handwritten digits moving over 64x64 pixels, grey; generated from $SEMA_DATA/mnist, tested on "
    "$SEMA_DATA/moving-mnist/mnist_test_seq.npy where it is there",
}
"""The named data sets, each with one line that describes it."""

FORMATS = (
    f"clips as folders of numbered frames (below train/, val/ and test/, or directly), or train.npy and test.npy of "
    f"shape (n, frames, height, width), or {npyfile.PUBLISHED}"
)
"""What a folder given to `--data` may hold."""

_SPLITS = ("train", "val", "test")

_CANVAS = {"moving-digits": 32, "moving-mnist": npyfile.PUBLISHED_SIZE}


@dataclass(frozen=True)
class Source:
    """A data set that was found and passed the cheap checks.

    Attributes:
        name: The name or path as the user gave it.
        format: ``moving-digits``, ``moving-mnist``, ``clips`` or ``npy``.
        path: The folder to read: of MNIST, of clips, or of .npy files; empty for embedded data.
        test_file: The published test file of Moving-MNIST; empty where the test split is generated.
    """

    name: str
    format: str
    path: str = ""
    test_file: str = ""

    @property
    def is_generated(self) -> bool:
        """Whether the training sequences are generated."""
        return self.format.startswith("moving-")


def locate(spec: str) -> Source:
    """Find a data set and check all that can be checked without reading frames.

    Args:
        spec: A name from `DATASETS`, or the path of a folder (see `FORMATS`) or of the published test file of
            Moving-MNIST. Named sets that are not embedded lie below the folder in the environment variable
            ``SEMA_DATA`` (default ``../shared/data``).

    Returns:
        Where the data lie and how to read them.

    Raises:
        InputError: Nothing is there, or it is not a data set, or a file is empty, damaged or of the wrong kind.

    Example:
        >>> locate("moving-digits").is_generated
        True
    """
    if spec == "moving-digits":
        return Source(spec, spec)
    try:
        return _located(spec)
    except OSError as error:
        raise InputError(
            f"{error.filename or spec}: cannot be read ({error.strerror}); check its permissions"
        ) from error


def check_length(source: Source, length: int, frames: Frames) -> None:
    """Refuse stored videos that are too short for sequences of a length, or unequally long, by name.

    Args:
        source: What `locate` found.
        length: Frames in a sequence, those to predict from and those to predict.
        frames: How many frames to take of each clip (see `switch_ema.data.video.windows.Frames`).

    Raises:
        InputError: See `switch_ema.data.video.windows.cut`.
    """
    if source.test_file and length > npyfile.PUBLISHED_FRAMES:
        raise InputError(
            f"{source.test_file}: {npyfile.PUBLISHED_FRAMES} frames, where inputs and outputs need {length}; write less"
            " of them, or put the file elsewhere to have the test split generated"
        )
    if source.format == "clips":
        found = clips.scan(source.path)
        cut([(clip.path, len(clip.files)) for split in found.values() for clip in split], length, frames)
    elif source.format == "npy":
        shapes = {file: npyfile.check_clips(file) for file in npy_files(source.path).values()}
        cut([(file, shape[1]) for file, shape in shapes.items()], length, frames)


def canvas(source: Source) -> int | None:
    """Return the usual side of generated frames in pixels; None for stored ones."""
    return _CANVAS.get(source.format)


def frame_size(source: Source) -> tuple[int, int] | None:
    """Return height and width of the stored frames where a header tells them: of .npy files; None elsewhere."""
    if source.format != "npy":
        return None
    return npyfile.check_clips(npy_files(source.path)["train"])[2:4]


def npy_files(path: str) -> dict[str, str]:
    """Return the .npy files of a folder by split; with train.npy and val.npy alone, the latter is the test split."""
    files = {split: os.path.join(path, f"{split}.npy") for split in _SPLITS}
    there = {split: file for split, file in files.items() if os.path.isfile(file)}
    if "test" not in there and "val" in there:
        there["test"] = there.pop("val")
    return there


def _located(spec: str) -> Source:
    if spec == "moving-mnist":
        published = os.path.join(_root(), spec, npyfile.PUBLISHED)
        return _moving_mnist(spec, published if os.path.isfile(published) else "")
    if os.path.isfile(spec):
        if not spec.endswith(".npy"):
            raise InputError(f"{spec}: this is a file; give {npyfile.PUBLISHED}, or a folder with {FORMATS}")
        return _moving_mnist(spec, spec)
    if not os.path.isdir(spec):
        raise unknown("data set or folder", spec, DATASETS, hint=f"or the path of a folder with {FORMATS}")
    if not any(not name.startswith(".") for name in os.listdir(spec)):
        raise InputError(f"{spec}: the folder is empty; it should hold {FORMATS}")
    if os.path.isfile(published := os.path.join(spec, npyfile.PUBLISHED)):
        return _moving_mnist(spec, published)
    if there := npy_files(spec):
        _check_npy(spec, there)
        return Source(spec, "npy", spec)
    if clips.found(spec):
        _check_clips(spec, clips.scan(spec))
        return Source(spec, "clips", spec)
    raise InputError(f"{spec}: no videos in a known format; the folder should hold {FORMATS}")


def _moving_mnist(spec: str, published: str) -> Source:
    if published:
        npyfile.check_published(published)
    root, entry = _root(), NAMED["mnist"]
    for candidate in entry.folders:
        path = os.path.join(root, candidate)
        if os.path.isdir(path) and idx.found(path):
            idx.check(path)
            return Source(spec, "moving-mnist", path, published)
    raise InputError(
        f"{spec}: its training sequences are made of MNIST's digits, and there is no folder "
        f"{os.path.join(root, entry.folders[0])} with them; set SEMA_DATA to the folder that holds mnist/, which "
        f"should have {entry.wants}; or write --data moving-digits"
    )


def _check_npy(path: str, there: dict[str, str]) -> None:
    if "train" not in there:
        raise InputError(f"{path}: no train.npy beside {os.path.basename(next(iter(there.values())))}; add it")
    shapes = {file: npyfile.check_clips(file) for file in there.values()}
    first = there["train"]
    for file, shape in shapes.items():
        if shape[2:] != shapes[first][2:]:
            this, other = (f"{s[3]}x{s[2]} with {s[4]} channel(s)" for s in (shape, shapes[first]))
            raise InputError(f"{file}: frames of {this}, in {first} {other}; make them equal")
    _check_enough(first, shapes[first][0], 3 - len(there))


def _check_clips(path: str, there: dict[str, list[clips.Clip]]) -> None:
    _check_enough(path, len(there["train"]), 3 - len(there))


def _check_enough(where: str, count: int, missing: int) -> None:
    """Refuse training clips too few to hold a clip out for every missing split and keep one."""
    if count <= missing:
        raise InputError(f"{where}: {count} training clip(s), too few to hold some out; give at least {missing + 1}")


def _root() -> str:
    return data_root()
