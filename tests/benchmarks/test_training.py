"""The benchmarks of the bench itself, small: what is timed is right, and what is computed from times is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import comparison, plain, training
from benchmarks.cifar import cifar_folder
from benchmarks.comparison import Clock, Course, Scale, measure_comparison
from benchmarks.rows import throughput_rows
from benchmarks.run import parse
from benchmarks.table import markdown
from switch_ema.data.catalog import locate
from switch_ema.data.images import load
from tests.benchmarks.test_benchmarks import MACHINE

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))


def test_random_bytes_stand_in_for_data_that_are_absent(tmp_path: Path) -> None:
    assert "not found" in cifar_folder(tmp_path / "data", 500, 100)
    found = load(locate(str(tmp_path / "data")))
    sizes = {name: len(getattr(found, name).labels) for name in ("train", "val", "test")}
    assert sizes == {"train": 450, "val": 50, "test": 100}
    assert found.train.images.shape[1:] == (32, 32, 3)


def test_a_part_of_the_real_set_is_what_its_reader_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not found" in cifar_folder(tmp_path / "cifar10", 2_000, 100)  # stands in for the real set
    whole = load(locate("cifar10"))
    monkeypatch.setattr("benchmarks.cifar.TRAIN", 2_000)
    assert cifar_folder(tmp_path / "part", 150, 30) == "CIFAR-10"
    part = load(locate(str(tmp_path / "part")))
    known = {image.tobytes(): label for image, label in zip(whole.test.images, whole.test.labels, strict=True)}
    assert [known[image.tobytes()] for image in part.test.images] == part.test.labels.tolist()
    assert len(part.train.labels) == 135


@pytest.mark.parametrize("name", ["crop_flip", "crop_flip_v2", "heavy_torchvision", "heavy_timm"])
def test_peers_images_are_normalised(name: str) -> None:
    torch.manual_seed(0)
    colour = (np.array(MEAN) * 255).round().astype(np.uint8)  # an image of the mean colour becomes 0
    image = Image.fromarray(np.broadcast_to(colour, (32, 32, 3)).copy())
    made = getattr(plain, name)(MEAN, STD)(image)
    assert (made.shape, made.dtype) == ((3, 32, 32), torch.float32)
    if name.startswith("crop"):
        assert made.abs().max() < 0.01


def test_peers_mix_within_the_batch() -> None:
    torch.manual_seed(0)
    images, targets = plain.Mixed(10)([(torch.full((3, 8, 8), float(label)), label) for label in range(8)])
    assert images.shape == (8, 3, 8, 8)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert targets.max() < 1


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_script_trains(channels_last: bool) -> None:
    torch.manual_seed(0)
    images = np.zeros((32, 4, 4, 3), np.uint8)
    images[16:] = 255
    labels = np.repeat(np.arange(2), 16)
    data = plain.PILImages(
        images, labels, lambda image: torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
    )
    model = nn.Sequential(nn.Conv2d(3, 2, 4), nn.Flatten())
    script = plain.Script(model, plain.loader(data, 8, 0, CPU), CPU, 0.1, channels_last)
    first = script.train_epoch()
    assert [script.train_epoch() for _ in range(5)][-1] < first / 2


def test_rows_of_training_and_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        plain, "loader", lambda data, size, workers, device, collate=None: plain_loader(data, size, collate)
    )
    found = list(training.measure_training(CPU, 2, steps=1, model="mlp"))
    assert [row.contender for row in found] == [
        "switch_ema",
        "torch + torchvision",
        "torch + torchvision, channels_last",
    ]
    assert all(row.unit == "images/s" and (row.value or 0) > 0 for row in found)
    assert found[0].ratio == 1
    monkeypatch.setattr(training, "HEAVY", {"erasing": "0.25"})  # the rest has tests of its own
    found += training.measure_data(CPU, 1, batches=1)
    text = markdown(MACHINE, found)
    assert "| training, images/s, mlp" in text
    assert "random bytes" in text


def plain_loader(data: plain.PILImages, size: int, collate: object) -> torch.utils.data.DataLoader[object]:
    """Make the loader without processes."""
    return torch.utils.data.DataLoader(data, size, collate_fn=collate, drop_last=True)  # type: ignore[arg-type]


def test_ratios_say_how_many_times_as_fast_ours_is() -> None:
    times = {"switch_ema": [1.0, 2.0, 4.0], "slow": [3.0, 6.0, 12.0]}
    ours, slow = throughput_rows("training", "table", "images/s", times, "switch_ema", 100, "images/s")
    assert ours.value == 50
    assert slow.value == pytest.approx(100 / 6)
    assert (slow.low, slow.ratio, slow.high) == (3, 3, 3)


def test_comparison_is_divided_by_the_plain_runs_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([10.0, 44.0, 12.0, 26.0, 14.0])
    asked = []

    def timed(folder: Path, methods: str, *rest: object) -> comparison.Cost:
        asked.append(methods)
        return comparison.Cost(next(seconds), [Course([1.0] * 8, [0.5] * 8)])

    monkeypatch.setattr(comparison, "_timed", timed)
    found = list(measure_comparison(CPU, 2, scale=Scale(100, epochs=8)))
    assert asked == ["baseline", comparison.METHODS] * 2 + ["baseline"]
    (times,) = (row for row in found if row.case == "times a plain run")
    assert times.value == (44 / 11 + 26 / 13) / 2
    ten = next(row for row in found if row.contender == comparison.PEERS)
    assert ten.value == 120
    assert {row.value for row in found if row.contender == "30 epochs"} == {1.0}


def test_courses_of_other_lengths() -> None:
    # 8 epochs with points at 1, 2, 4 and 8; SWA has an average after epoch 6
    course = Course([10.0] * 8, [5, 5, 1, 5, 1, 1, 2, 7])
    assert course.at(8, 1) == 80 + 5 + 5 + 1 + 5 + 1 + 1 + 2 + 7
    assert course.at(8, 3) == 80 + 5 + 5 + 1 + 5 + 1 + 7  # 3 and 6, beside the points
    assert course.at(8, 100) == 80 + 5 + 5 + 5 + 7
    # 20 epochs: points at 2, 5, 10 and 20, others late from 16 to 19
    assert course.at(20, 1) == 200 + 3 * 5 + 12 * 1 + 4 * 2 + 7


def test_a_real_comparison_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "METHODS", "baseline,ema:decay=0.9,sema:decay=0.9")
    cifar_folder(tmp_path / "data", 500, 100)
    cost = comparison._timed(tmp_path, comparison.METHODS, CPU, Scale(100, 8, "mlp", 64, 2), 1)
    assert len(cost.courses) == 2
    assert all(len(course.training) == 2 and min(course.training) > 0 for course in cost.courses)
    assert 0 < cost.training + cost.measuring < cost.seconds


def test_clock_takes_epochs_apart() -> None:
    course = comparison._course([3.0, 4.0], [2.0, 5.0])
    assert (course.training, course.measuring) == ([2.0, 3.0], [1.0, 1.0])
    assert Clock().ends == {}


def test_options() -> None:
    options = parse(["--only", "comparison", "--eval-every", "2", "3"])
    assert options.eval_every == [2, 3]
