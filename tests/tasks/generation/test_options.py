"""Wrong requests for the generation task are refused in one line; a right one runs from the command line."""

from __future__ import annotations

import importlib.util
import json
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
import torchmetrics.image.fid
from torch import Tensor, nn

from switch_ema.tasks.generation.inception import inception_features, missing
from tests.conftest import Sema
from tests.data.test_pictures import flat

REFUSED = {
    "steps below 50": (("--steps", 20), "--steps 20: write at least 50"),
    "sampling steps": (("--sampling-steps", 30), "--sampling-steps 30: does not divide the 1000 steps; write 25 or 40"),
    "more sampling steps than steps": (("--steps", 50, "--sampling-steps", 60), "does not divide the 50 steps; write"),
    "one sample": (("--samples", 1), "--samples 1: distances compare sets; write at least 2"),
    "schedule": (("--noise-schedule", "quadratic"), "--noise-schedule quadratic: write one of linear, cosine"),
    "prediction": (("--prediction", "x"), "--prediction x: write one of epsilon, v"),
    "sampler": (("--sampler", "euler"), "--sampler euler: write one of ddim, ddpm"),
    "dropout": (("--dropout", 1), "--dropout 1: nothing would be left"),
    "size": (("--image-size", 30), "--image-size 30: unet-small halves the side 2 times; write 28 or 32"),
    "size of the digits": (("--model", "unet-celeba64"), "--image-size 8: unet-celeba64 halves the side 4 times"),
    "model": (("--model", "unet"), "unknown model 'unet'"),
    "data": (("--data", "celeb"), "unknown data set or folder 'celeb'; did you mean 'celeba'"),
    "train size": (("--train-size", 5000), "train size 5000: write 10 (one per class) to 1294"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_requests_are_refused(case: str, sema: Sema, tmp_path: Path) -> None:
    arguments, words = REFUSED[case]
    answer = sema("compare", "generation", *arguments, "--out", tmp_path / "x")
    assert answer.code == 2
    assert words in answer.err
    assert answer.err.splitlines()[-1].startswith("sema: ")
    assert not list((tmp_path / "x").glob("rows.jsonl"))


def test_images_of_a_wrong_size_are_refused_when_they_are_read(sema: Sema, tmp_path: Path) -> None:
    folder = flat(tmp_path / "data", 20, (10, 10))
    answer = sema("compare", "generation", "--data", folder, "--out", tmp_path / "x")
    assert answer.code == 2
    assert "--image-size 10: unet-small halves the side 2 times; write 8 or 12" in answer.err


def test_a_comparison_shows_samples_of_every_method(
    sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switch_ema.tasks.generation.task._LOSS_IMAGES", 10)
    quick = ("--train-size", 64, "--sampling-steps", 2, "--samples", 20, "--epochs", 1, "--seeds", 1)
    answer = sema("compare", "generation", *quick, "--methods", "ema:decay=0.9", "--json", "--out", tmp_path / "x")
    assert answer.code == 0, answer.err
    rows = [json.loads(line) for line in (tmp_path / "x" / "rows.jsonl").read_text().splitlines()]
    measured = {(row["method"], row["split"], row["metric"]) for row in rows}
    methods = {method for method, *_ in measured}
    assert methods == {"baseline", "ema:decay=0.9"}
    for method in methods:
        assert {(method, split, "loss") for split in ("val", "test")} <= measured
        assert {(method, "test", f"{kind}_distance") for kind in ("feature", "kernel")} <= measured
    kept = json.loads(next((tmp_path / "x" / "exhibits").glob("*.json")).read_text())["exhibits"]
    assert {(exhibit["method"], exhibit["name"]) for exhibit in kept} == {
        (method, name) for method in methods for name in ("samples", "denoising")
    }


def test_inception_is_refused_where_it_is_not(sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    there = [False]

    def find_spec(name: str) -> ModuleSpec | None:
        if name not in ("torchmetrics", "torch_fidelity"):
            return find(name)
        return ModuleSpec(name, None) if there[0] else None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    answer = sema("compare", "generation", "--inception", "true", "--out", tmp_path / "x")
    assert answer.code == 2
    assert 'torchmetrics is not installed; run: pip install "switch-ema[bench]"' in answer.err
    there[0] = True
    lack = missing()
    assert lack is not None
    assert lack.startswith(f"no file {tmp_path}/hub/checkpoints/weights-inception")
    assert str(tmp_path) == str(Path(torch.hub.get_dir()).parent)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    Path(lack.removeprefix("no file ").split(";")[0]).touch()
    assert missing() is None


def test_inception_takes_bytes_of_three_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inception(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert images.dtype == torch.uint8
            assert images.shape[1:] == (3, 4, 4)
            return images.float().mean((2, 3))

    class Metric:
        def __init__(self, feature: int) -> None:
            assert feature == 2048
            self.inception = Inception()

    monkeypatch.setattr(torchmetrics.image.fid, "FrechetInceptionDistance", Metric)
    images = torch.arange(70, dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 4, 1)
    features = inception_features(images, 255, torch.device("cpu"))
    assert features.equal(torch.arange(70)[:, None].expand(-1, 3).double())
    assert inception_features(images[:17], 16, torch.device("cpu"))[[1, 16], 0].tolist() == [16, 255]


def test_it_is_refused_without_diffusers(sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    answer = sema("compare", "generation", "--out", tmp_path / "x")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert 'generation needs diffusers, which is not installed; run: pip install "switch-ema[bench]"' in answer.err
