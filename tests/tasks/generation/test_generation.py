"""The generation task fulfils the contract, learns, and measures every model alike."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import torch
from pyarrow import parquet
from torch import Tensor, nn

from switch_ema.bench.exhibit import Picture
from switch_ema.bench.task import Metric, Shard, Task
from switch_ema.data.catalog import locate
from switch_ema.data.images import load
from switch_ema.tasks.generation import task as module
from switch_ema.tasks.generation.distances import frechet_distance, kernel_distance
from switch_ema.tasks.generation.features import classifier_features
from switch_ema.tasks.generation.pictures import as_bytes
from switch_ema.tasks.generation.task import Generation
from tests.data.test_pictures import flat

CPU = torch.device("cpu")
REAL = Path(os.environ.get("SEMA_DATA") or "../shared/data")
QUICK: dict[str, Any] = {"train_size": 64, "sampling_steps": 2, "samples": 40, "inception": "false"}

AT_THE_END = (1 - torch.linspace(1e-4, 0.02, 1000).double()).prod().rsqrt().item()
"""What the sampler multiplies its noise by, before it clips, if the model finds no noise in it."""

Batch = tuple[Tensor, Tensor, Tensor]


def batches(task: Generation, size: int = 32, seed: int = 0, shard: Shard | None = None) -> list[Batch]:
    return list(task.train_batches(size, seed, CPU, shard or Shard()))


def noise(count: int) -> Tensor:
    """Return what samples are made from."""
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Says(nn.Module):
    """Says always the same, and remembers what it was asked."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = value
        self.asked: list[Tensor] = []

    def forward(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        self.asked.append(timesteps.clone())
        return torch.full_like(noisy, self.value)


def test_it_is_a_task() -> None:
    task: Task = Generation(inception="false")
    assert (task.name, task.data, task.model, task.num_train) == ("generation", "digits", "unet-small", 1294)
    assert task.metrics == tuple(Metric(name, False) for name in ("loss", "loss_low", "loss_high"))
    assert task.final_metrics == (Metric("feature_distance", False), Metric("kernel_distance", False))


def test_batches_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = batches(Generation(**QUICK), seed=5)
    assert torch.get_rng_state().equal(state)
    again = batches(Generation(**QUICK, seed=3), seed=5)
    other = batches(Generation(**QUICK), seed=6)
    for one, same, different in zip(first, again, other, strict=True):
        assert all(a.equal(b) for a, b in zip(one, same, strict=True))
        assert not any(a.equal(b) for a, b in zip(one, different, strict=True))
    assert not any(a.equal(b) for a, b in zip(*first, strict=True))


@pytest.mark.parametrize("world_size", [2, 4])
def test_shards_make_up_the_whole_batch(world_size: int) -> None:
    task = Generation(**QUICK, flip="true")
    parts = [batches(task, shard=Shard(rank, world_size)) for rank in range(world_size)]
    for whole, *shards in zip(batches(task), *parts, strict=True):
        assert all(torch.cat(pieces).equal(part) for part, *pieces in zip(whole, *shards, strict=True))


def test_an_epoch_shows_every_image_once_with_noise_at_every_level() -> None:
    shown = batches(Generation(inception="false"), 64)
    assert len(shown) == 20
    images, added, timesteps = (torch.cat(parts) for parts in zip(*shown, strict=True))
    stored = load(locate("digits")).train.images
    seen = {image.tobytes() for image in as_bytes(images, white=16).numpy()}
    assert len(seen - {image.tobytes() for image in stored}) == 0
    assert len(seen) > 1270
    assert (images.min().item(), images.max().item()) == (-1, 1)
    assert added.mean().abs() < 0.02
    assert added.std().item() == pytest.approx(1, abs=0.02)
    assert timesteps.dtype == torch.int64
    assert timesteps.bincount(minlength=1000).view(4, 250).sum(1).tolist() == pytest.approx([320] * 4, abs=60)


def test_colour_images_are_mirrored_and_grey_ones_are_not(tmp_path: Path) -> None:
    folder = str(flat(tmp_path, 40, (8, 8)))
    cases: list[tuple[dict[str, Any], bool]] = [
        ({}, False), ({"flip": "true"}, True), ({"data": folder}, True), ({"data": folder, "flip": "false"}, False)
    ]  # fmt: skip
    for options, mirrors in cases:
        change = Generation(**{**QUICK, "train_size": 20, **options})._batches._augment.crop
        assert (change is not None) == mirrors
        assert change is None or (change.padding, change.flip) == (0, True)  # type: ignore[union-attr]


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_the_loss_is_the_mean_squared_error(prediction: str) -> None:
    task = Generation(**QUICK, prediction=prediction)
    images, added, timesteps = batches(task)[0]
    a = (1 - torch.linspace(1e-4, 0.02, 1000).double()).cumprod(0)[timesteps][:, None, None, None]
    want = added if prediction == "epsilon" else a.sqrt() * added - (1 - a).sqrt() * images
    model = Says(0.3)
    loss = task.loss(model, (images, added, timesteps))
    assert loss.item() == pytest.approx((0.3 - want).square().mean().item(), rel=1e-4)
    assert [asked.equal(timesteps) for asked in model.asked] == [True]  # one call


def test_the_held_out_loss_is_taken_at_fixed_levels_with_fixed_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Generation(**QUICK)
    model = Says()
    found = task.evaluate(model, "val", CPU)
    assert [asked.unique().tolist() for asked in model.asked] == [[62], [187], [312], [437], [562], [687], [812], [937]]
    assert all(len(asked) == 144 for asked in model.asked)
    assert found["loss"] == pytest.approx(1, abs=0.03)  # the variance of the noise
    assert found == {"loss": found["loss"], "loss_low": found["loss"], "loss_high": found["loss"]}
    monkeypatch.setattr(module, "_EVALUATION_BATCH", 50)
    assert task.evaluate(Says(), "val", CPU) == pytest.approx(found, rel=1e-6)
    monkeypatch.setattr(module, "_LOSS_IMAGES", 30)
    model = Says()
    task.evaluate(model, "val", CPU)
    assert sum(map(len, model.asked)) == 8 * 30


class Leaves(nn.Module):
    """Takes the image for nothing: at timestep t all of x_t but its share of noise is an error that grows with a_t."""

    def forward(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        return noisy


def test_little_noise_is_low_and_much_is_high() -> None:
    found = Generation(**QUICK).evaluate(Leaves(), "test", CPU)
    assert found["loss_low"] > 0.3 > 0.02 > found["loss_high"]
    assert found["loss"] == pytest.approx((found["loss_low"] + found["loss_high"]) / 2)


def test_training_lowers_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOSS_IMAGES", 40)
    torch.manual_seed(0)
    task = Generation(**{**QUICK, "train_size": 200})
    model = task.build_model()
    before = task.evaluate(model.eval(), "val", CPU)["loss"]
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    model.train()
    for epoch in range(2):
        for batch in batches(task, 20, epoch):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
    assert before == pytest.approx(1, abs=0.03)
    assert task.evaluate(model.eval(), "val", CPU)["loss"] < 0.4


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_equal_weights_are_measured_alike_and_random_numbers_left_alone(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOSS_IMAGES", 40)
    torch.manual_seed(0)
    task, other = (Generation(**QUICK, sampler=sampler, seed=seed) for seed in (0, 7))
    model = task.build_model().eval()
    nn.init.normal_(model.unet.conv_out.weight, std=0.1)  # type: ignore[union-attr,arg-type]
    twin = copy.deepcopy(model)
    classifier_features.cache_clear()
    state = torch.get_rng_state()
    found, final, shown = task.evaluate(model, "val", CPU), task.evaluate_final(model, CPU), task.exhibits(model, CPU)
    assert torch.get_rng_state().equal(state)  # a resumed run is as an uninterrupted one
    torch.manual_seed(5)
    classifier_features.cache_clear()  # as in another process
    assert other.evaluate_final(twin, CPU) == final
    assert other.evaluate(twin, "val", CPU) == found
    pairs = zip(other.exhibits(twin, CPU), shown, strict=True)
    assert all(a.frames.equal(b.frames) for a, b in pairs if isinstance(a, Picture) and isinstance(b, Picture))
    assert not model.training
    nn.init.normal_(twin.unet.conv_out.weight, std=0.1)  # type: ignore[union-attr,arg-type]
    assert other.evaluate_final(twin, CPU) != final


def test_features_name_classes_and_distances_tell_good_from_bad() -> None:
    source = locate("digits")
    features = classifier_features(source, 400, None, False, CPU)
    images = load(source, train_size=400)
    train, test = (torch.from_numpy(part.images) for part in (images.train, images.test))
    known, asked = features(train), features(test)
    assert asked.shape == (359, 64)
    assert asked.dtype == torch.float64
    nearest = torch.cdist(asked, known).argmin(1)
    right = torch.from_numpy(images.train.labels)[nearest] == torch.from_numpy(images.test.labels)
    assert right.double().mean() > 0.9
    blurred = ((test.float() + test.float().roll(1, 2)) / 2).byte()
    for distance in (frechet_distance, kernel_distance):
        good, worse, bad = (distance(features(made), asked) for made in (train, blurred, torch.zeros_like(test)))
        assert good < worse < bad


def test_final_metrics_are_taken_on_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def features(images: Tensor) -> Tensor:
        seen.append(images)
        return images.flatten(1)[:, :3].double()

    monkeypatch.setattr(module, "classifier_features", lambda *_, **__: features)
    monkeypatch.setattr(module, "_EVALUATION_BATCH", 25)  # samples in two parts
    task = Generation(**QUICK)
    values = task.evaluate_final(Says(), CPU)["test"]
    made, real = seen
    assert (made.shape, made.dtype, real.shape) == ((40, 8, 8, 1), torch.uint8, (359, 8, 8, 1))
    assert values == {
        "feature_distance": frechet_distance(features(made), features(real)),
        "kernel_distance": kernel_distance(features(made), features(real)),
    }
    assert made.max() == 16  # grey values as in the data
    assert made.int().sub(as_bytes(noise(40) * AT_THE_END, white=16)).abs().max() <= 1
    lost = task.evaluate_final(Says(math.nan), CPU)["test"]
    assert all(map(math.isnan, lost.values()))


def test_pictures() -> None:
    task = Generation(**{**QUICK, "sampling_steps": 20})
    samples, denoising = task.exhibits(Says(), CPU)
    assert isinstance(samples, Picture)
    assert isinstance(denoising, Picture)
    assert samples.frames.shape == (1, 80, 80, 3)
    assert denoising.frames.shape == (1, 40, 90, 3)
    assert samples.frames.dtype == torch.uint8
    cells = denoising.frames[0, 10:20]  # the second strip: noise first, its sample last
    assert cells[1:9, 1:9].equal(as_bytes(noise(64)[1:2])[0].expand(-1, -1, 3))
    assert cells[1:9, 81:89].equal(samples.frames[0, 1:9, 11:19])
    second_row = as_bytes(noise(64)[8:9] * AT_THE_END)[0].int()
    assert (samples.frames[0, 11:19, 1:9] - second_row).abs().max() <= 1
    assert Generation(**QUICK).exhibits(Says(), CPU)[1].frames.shape == (1, 40, 30, 3)  # type: ignore[union-attr]


def test_images_without_classes_have_no_features(tmp_path: Path) -> None:
    task = Generation(data=str(flat(tmp_path, 20, (12, 10))), image_size=8, inception="false")
    assert task.final_metrics == ()
    assert task.evaluate_final(Says(), CPU) == {}
    assert batches(task, 7)[0][0].shape == (7, 3, 8, 8)


def test_inception_features_give_fid_and_kid_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "missing", lambda: None)
    monkeypatch.setattr(module, "inception_features", lambda images, white, device: images.flatten(1)[:, :2].double())
    folder = str(flat(tmp_path, 20, (8, 8)))
    task = Generation(data=folder, sampling_steps=2, samples=10)
    assert [metric.name for metric in task.final_metrics] == ["fid", "kid"]
    assert task.evaluate_final(Says(), CPU)["test"].keys() == {"fid", "kid"}
    names = [metric.name for metric in Generation(train_size=50).final_metrics]
    assert names == ["feature_distance", "kernel_distance", "fid", "kid"]
    monkeypatch.setattr(module, "missing", lambda: "no file")
    assert Generation(data=folder).final_metrics == ()


@pytest.mark.skipif(not (REAL / "cifar10").is_dir(), reason=f"no CIFAR-10 in {REAL} (set SEMA_DATA)")
def test_cifar10(tmp_path: Path) -> None:
    for split, count in (("train", 200), ("test", 30)):
        rows = next(parquet.ParquetFile(REAL / "cifar10" / f"{split}.parquet").iter_batches(count))
        parquet.write_table(pyarrow.Table.from_batches([rows]), tmp_path / f"{split}.parquet")
    task = Generation(**{**QUICK, "samples": 8}, data=str(tmp_path))
    model = task.build_model()
    batch = batches(task, 8)[0]
    assert batch[0].shape == batch[1].shape == (8, 3, 32, 32)
    assert task.loss(model, batch).isfinite()
    values = task.evaluate_final(model.eval(), CPU)["test"]
    assert all(map(math.isfinite, values.values()))
    assert values["feature_distance"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu() -> None:
    device = torch.device("cuda")
    for sampler in ("ddim", "ddpm"):
        task = Generation(**QUICK, sampler=sampler)
        torch.manual_seed(0)
        model = task.build_model()
        here = task.evaluate(model.eval(), "val", CPU)
        assert task.evaluate(model.to(device), "val", device) == pytest.approx(here, rel=1e-2)
        task.loss(model.train(), next(task.train_batches(32, 0, device))).backward()
        state = torch.cuda.get_rng_state()
        first = task.evaluate_final(model.eval(), device)
        assert torch.cuda.get_rng_state().equal(state)
        classifier_features.cache_clear()
        assert task.evaluate_final(model, device) == first
        task.exhibits(model, device)
