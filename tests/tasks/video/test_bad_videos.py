"""Wrong videos and options: exit code 2 and one line that says where, what, and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Sema
from tests.data import make as images
from tests.data.video.make import array, clip_folder, clip_folders, npy_folder, published

Spoil = Callable[[Path], object]
SHORT = ("--inputs", 2, "--outputs", 2)


def clips(spoil: Spoil) -> Spoil:
    """Spoil a good folder of clips."""
    return lambda path: spoil(clip_folders(path, {"train": [4] * 3, "test": [4] * 2}))


def npy(spoil: Spoil) -> Spoil:
    return lambda path: spoil(npy_folder(path))


def save(name: str, values: Any) -> Spoil:
    return npy(lambda path: np.save(path / name, values))


def write(name: str, content: bytes) -> Spoil:
    return lambda path: (path / name).write_bytes(content)


def one_pixel_less(path: Path) -> None:
    (path / "train.npy").write_bytes((path / "train.npy").read_bytes()[:-1])


def odd_arrays(path: Path) -> None:
    for split in ("train", "test"):
        np.save(path / f"{split}.npy", array(0, 4, 4, size=(9, 9)))


def deep(path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(path / "train" / "clip00" / "2.png")


REFUSED: dict[str, tuple[Spoil, list[str]]] = {
    "empty folder": (lambda path: path, ["the folder is empty; it should hold clips as folders"]),
    "nothing known": (write("a.mp4", b"x"), ["no videos in a known format", "train.npy and test.npy"]),
    "a single clip": (lambda path: clip_folders(path, {"": [9]}), ["1 training clip(s), too few", "at least 3"]),
    "no train": (lambda path: clip_folders(path, {"test": [4]}), ["no folder train/ beside test/; add it"]),
    "split without clips": (clips(lambda path: (path / "val").mkdir()), ["val: no clips in it"]),
    "clip without frames": (clips(lambda path: (path / "train" / "x").mkdir()), ["x: no frames in this clip"]),
    "frame without a number": (
        clips(lambda path: (path / "test" / "clip03" / "1.png").rename(path / "test" / "clip03" / "a.png")),
        ["a.png: no number in the name", "0001.png"],
    ),
    "one number twice": (
        clips(lambda path: (path / "train" / "clip01" / "1.png").rename(path / "train" / "clip01" / "02.png")),
        ["clip01: 02.png and 2.png are both frame 2; remove one"],
    ),
    "unequal lengths": (
        clips(lambda path: clip_folder(path / "train" / "long", 7, 6)),
        ["clip00 has 4 frames", "long has 6; write --frames 4", "--frames any"],
    ),
    "too short": (
        clips(lambda path: clip_folder(path / "test" / "short", 7, 3)),
        ["short: 3 frames, where inputs and outputs need 4", "together at most 3"],
    ),
    "unequal sizes": (
        clips(lambda path: clip_folder(path / "train" / "wide", 7, 4, size=(12, 8))),
        ["wide", "1.png: the frame is 12x8, the first one", "8x8; write --image-size"],
    ),
    "unreadable frame": (
        clips(write("train/clip02/3.png", b"no image")),
        ["clip02", "3.png: not a readable image", "replace the frame, or remove its clip"],
    ),
    "16 bits": (clips(deep), ["2.png: pixels of mode I;16; convert the image to 8 bits"]),
    "sides that the network cannot halve": (
        lambda path: clip_folders(path, {"train": [4] * 2, "test": [4]}, size=(10, 8)),
        ["simvp-gsta cannot take frames of 8x10", "--image-size"],
    ),
    "floats": (save("train.npy", np.zeros((4, 4, 8, 8), np.float32)), ["values of type <f4; save the pixels as uint8"]),
    "too few axes": (save("train.npy", array(0, 4, 4)[0]), ["train.npy: shape 4x8x8; write an array of shape (n, fr"]),
    "channels first": (
        save("train.npy", np.zeros((4, 4, 3, 8, 8), np.uint8)),
        ["train.npy: shape 4x4x3x8x8", "with 1 or 3 channels"],
    ),
    "time first": (
        save("train.npy", np.ascontiguousarray(array(0, 3, 20).swapaxes(0, 1))),
        ["train.npy: 3 frames, where inputs and outputs need 4"],
    ),
    "Fortran order": (save("train.npy", np.asfortranarray(array(0, 4, 4))), ["stored in Fortran order; save numpy."]),
    "no clips": (save("test.npy", np.zeros((0, 4, 8, 8), np.uint8)), ["test.npy: shape 0x4x8x8: no frames in it"]),
    "other sizes": (save("test.npy", np.zeros((2, 4, 8, 12), np.uint8)), ["frames of 12x8 with 1 channel(s)", "8x8"]),
    "other lengths": (save("test.npy", array(0, 2, 5)), ["clips of unequal length", "train.npy has 4", "--frames 4"]),
    "sides of arrays": (odd_arrays, ["cannot take frames of 9x9", "--image-size scales stored frames"]),
    "truncated": (npy(one_pixel_less), ["train.npy:", "promises", "copy it again"]),
    "no npy": (npy(write("train.npy", b"train")), ["train.npy: not a .npy file"]),
    "empty npy": (npy(write("train.npy", b"")), ["train.npy: not a .npy file"]),
    "damaged header": (
        npy(write("train.npy", b"\x93NUMPY\x01\x00\x04\x00{'a'")),
        ["train.npy: a .npy file with a damaged header"],
    ),
    "no train.npy": (lambda path: npy_folder(path, {"test": (2, 4)}), ["no train.npy beside test.npy; add it"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_data_is_refused(case: str, sema: Sema, tmp_path: Path) -> None:
    spoil, words = REFUSED[case]
    folder = tmp_path / "data"
    folder.mkdir()
    spoil(folder)
    answer = sema("compare", "video", "--data", folder, *SHORT, "--batch-size", 2, "--out", tmp_path / "out")
    assert answer.code == 2
    said = [line for line in answer.err.splitlines() if not line.startswith("results go to")]
    assert len(said) == 1, answer.err
    assert [word for word in words if word not in said[0]] == [], said


OPTIONS: list[tuple[tuple[object, ...], str]] = [
    (("--data", "moving-digit"), "did you mean 'moving-digits'"),
    (("--model", "simvp"), "unknown model 'simvp'; did you mean 'simvp-"),
    (("--inputs", 0), "--inputs 0: write a whole number of at least 1"),
    (("--outputs", "ten"), "--outputs ten: write a whole number"),
    (("--size", "large"), "--size large: write one of auto, paper, small"),
    (("--frames", 1), "--frames 1: write a number of frames of at least 2, or any"),
    (("--frames", 12), "--frames 12: the sequences of moving-digits are generated; leave it out"),
    (("--image-size", 30), "simvp-gsta cannot take frames of 30x30 pixels"),
    (("--image-size", 4), "simvp-gsta cannot take frames of 4x4 pixels"),
    (("--train-size", 0), "--train-size 0: write a whole number"),
    (("--frame", 3), "--frame is no option of task video; did you mean 'frames'"),
]


@pytest.mark.parametrize(("arguments", "words"), OPTIONS, ids=[" ".join(map(str, a)) for a, _ in OPTIONS])
def test_wrong_options_are_refused(arguments: tuple[object, ...], words: str, sema: Sema, tmp_path: Path) -> None:
    answer = sema("compare", "video", *arguments, "--out", tmp_path / "out")
    assert answer.code == 2
    assert words in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--frames", 3), "--frames 3: inputs and outputs need 4, and"),
        (("--frames", 5), "train.npy has 4; write a number between"),
        (("--fresh", "true"), "has stored frames; leave it out"),
        (("--train-size", 9), "--train-size 9: there are 3 sequences; write at most as many"),
        (("--test-size", 9), "--test-size 9: there are 2 sequences"),
    ],
)
def test_options_that_do_not_fit_stored_videos(
    arguments: tuple[object, ...], words: str, sema: Sema, tmp_path: Path
) -> None:
    answer = sema("compare", "video", "--data", npy_folder(tmp_path / "data"), *SHORT, *arguments, "--batch-size", 2)
    assert answer.code == 2
    assert words in answer.err


PUBLISHED: dict[str, tuple[Callable[[Path], object], tuple[object, ...], str]] = {
    "sequences first": (
        lambda file: np.save(file, np.load(published(file)).swapaxes(0, 1).copy()),
        (),
        "shape 3x20x64x64; mnist_test_seq.npy is 20xNx64x64, time first",
    ),
    "floats": (lambda file: np.save(file, np.load(published(file)) / 255), (), "values of type <f8; save the pixels"),
    "truncated": (lambda file: file.write_bytes(published(file).read_bytes()[:-5]), (), "promises 245888; copy it"),
    "too many frames asked for": (published, ("--outputs", 11), "20 frames, where inputs and outputs need 21"),
    "no npy file": (lambda file: file.write_bytes(b"PK"), (), "not a .npy file"),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_a_wrong_published_file_is_refused(
    case: str, sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, arguments, words = PUBLISHED[case]
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    images.idx(tmp_path / "mnist")
    file = tmp_path / "moving-mnist" / "mnist_test_seq.npy"
    file.parent.mkdir()
    spoil(file)
    for data in ("moving-mnist", file):
        answer = sema("compare", "video", "--data", data, *arguments)
        assert answer.code == 2
        assert str(file) in answer.err
        assert words in answer.err, answer.err


def test_moving_mnist_without_mnist(sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    answer = sema("compare", "video", "--data", "moving-mnist")
    assert answer.code == 2
    assert f"no folder {tmp_path / 'mnist'} with them; set SEMA_DATA" in answer.err
    assert "or write --data moving-digits" in answer.err


def test_a_file_that_is_no_array(sema: Sema, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    answer = sema("compare", "video", "--data", tmp_path / "a.mp4")
    assert answer.code == 2
    assert "a.mp4: this is a file; give mnist_test_seq.npy, or a folder" in answer.err
