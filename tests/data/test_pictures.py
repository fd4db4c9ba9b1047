"""Folders of images without classes are found, divided and refused; labelled sets are what they are elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from switch_ema.data.catalog import locate
from switch_ema.data.images import load
from switch_ema.data.pictures import load_pictures, locate_pictures
from switch_ema.errors import InputError
from tests.data import make


def colour(number: int) -> tuple[int, int, int]:
    return number * 5, 255 - number * 5, 100


def flat(folder: Path, count: int = 20, size: tuple[int, int] = (10, 12)) -> Path:
    """Write images of one colour each, numbered from 0."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", size, colour(number)).save(folder / f"{number:06}.png")
    return folder


def numbers(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[int]:
    return sorted(int(image[0, 0, 0]) // 5 for image in images)


@pytest.mark.parametrize("inner", ["", "img_align_celeba"])
def test_a_flat_folder_is_divided(inner: str, tmp_path: Path) -> None:
    flat(tmp_path / inner)
    source = locate_pictures(str(tmp_path))
    assert source.format == "flat"
    found = load_pictures(source, image_size=8)
    assert [len(part) for part in (found.train, found.val, found.test)] == [14, 2, 4]
    assert found.train.shape == (14, 8, 8, 3)
    assert found.train.dtype == np.uint8
    parts = [numbers(part) for part in (found.train, found.val, found.test)]
    assert sorted(number for part in parts for number in part) == list(range(20))
    fewer = load_pictures(source, image_size=8, train_size=5)
    assert set(numbers(fewer.train)) < set(parts[0])
    assert [numbers(fewer.val), numbers(fewer.test)] == parts[1:]
    assert not found.labelled


def test_celeba_is_cropped_in_the_middle_and_divided_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = flat(tmp_path / "celeba" / "img_align_celeba", 10, (16, 24))
    image = Image.new("RGB", (16, 24), (255, 0, 0))
    image.paste(colour(3), (0, 4, 16, 20))
    image.save(folder / "000003.png")
    lines = "".join(f"{number:06}.png {split}\n" for number, split in enumerate([0] * 6 + [1] * 2 + [2] * 2))
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text(lines)
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    found = load_pictures(locate_pictures("celeba"), image_size=16)
    assert [numbers(part) for part in (found.train, found.val, found.test)] == [[0, 1, 2, 3, 4, 5], [6, 7], [8, 9]]
    assert (found.train[3] == colour(3)).all()


def test_labelled_sets_are_read_as_elsewhere(tmp_path: Path) -> None:
    for spec in ("digits", str(make.image_folder(tmp_path, ("train", "test")))):
        found, want = load_pictures(locate_pictures(spec), image_size=8), load(locate(spec), image_size=8)
        assert found.labelled
        for part, other in ((found.train, want.train), (found.val, want.val), (found.test, want.test)):
            np.testing.assert_array_equal(part, other.images)


def test_damaged_images_are_named_or_left_out(tmp_path: Path) -> None:
    (flat(tmp_path) / "000007.png").write_bytes(b"no image")
    source = locate_pictures(str(tmp_path))
    with pytest.raises(InputError, match=r"000007.png: not a readable image .*--skip-corrupt"):
        load_pictures(source, image_size=8)
    found = load_pictures(source, image_size=8, skip_corrupt=True)
    assert len(found.train) + len(found.val) + len(found.test) == 19


def test_wrong_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown data set or folder 'celebaa'; did you mean 'celeba'"):
        locate_pictures("celebaa")
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"'celeba' not found: no images in .*img_align_celeba; set SEMA_DATA"):
        locate_pictures("celeba")
    folder = flat(tmp_path / "x", 10)
    with pytest.raises(InputError, match="no data in a known format"):
        locate(str(folder))  # what classification accepts is as it was
    with pytest.raises(InputError, match="10x12 pixels; give --image-size"):
        load_pictures(locate_pictures(str(folder)))
    with pytest.raises(InputError, match="train size 9"):
        load_pictures(locate_pictures(str(folder)), image_size=8, train_size=9)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="folder is empty"):
        locate_pictures(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("000003.png 0", "000003.png 3"), "entry 4: split '3'; write 0"),
        (("000003.png 0", "000099.png 0"), "entry 4: no image 000099.png"),
        (("000003.png 0\n", ""), "000003.png: not listed in"),
        (("000003.png 0", "000003.png"), "line 4: '000003.png'; it needs 2 fields"),
    ],
)
def test_a_list_of_splits_that_does_not_fit_is_refused(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    flat(tmp_path, 10)
    text = "".join(f"{number:06}.png 0\n" for number in range(10))
    (tmp_path / "list_eval_partition.txt").write_text(text.replace(*change))
    with pytest.raises(InputError, match=words):
        load_pictures(locate_pictures(str(tmp_path)), image_size=8)
