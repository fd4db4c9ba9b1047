"""Classification fulfils the task contract; its batches depend on their seed alone."""

from __future__ import annotations

import inspect
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from switch_ema.bench.task import Metric, Shard, Split, Task
from switch_ema.data.catalog import locate
from switch_ema.data.images import load
from switch_ema.errors import InputError
from switch_ema.tasks.classification import Classification
from tests.data.make import aircraft

CPU = torch.device("cpu")
ROOT = Path(os.environ.get("SEMA_DATA") or "../shared/data")


def batches(task: Classification, size: int, seed: int = 0, shard: Shard = Shard()) -> list[tuple[Tensor, Tensor]]:  # noqa: B008
    return list(task.train_batches(size, seed, CPU, shard))


@pytest.fixture
def colour(tmp_path: Path) -> str:
    """Forty colour images of two classes, 16x16."""
    generator = np.random.default_rng(0)
    for row in range(40):
        folder = tmp_path / str(row % 2)
        folder.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{row}.png")
    return str(tmp_path)


def test_it_is_a_task() -> None:
    task: Task = Classification()  # the type checker compares the signatures
    for name, member in inspect.getmembers(Task):
        if not name.startswith("_"):
            assert hasattr(task, name)
            if inspect.isfunction(member):
                wanted, got = inspect.signature(member), inspect.signature(getattr(Classification, name))
                assert list(wanted.parameters) == list(got.parameters)
    assert (task.name, task.data, task.model) == ("classification", "digits", "small-resnet")
    assert task.metrics == (Metric("accuracy", True), Metric("loss", False))
    assert task.num_train == 1294


@pytest.mark.parametrize("size", [1, 32, 1294])
def test_an_epoch_is_shuffled_once_through_and_drops_the_rest(size: int) -> None:
    task = Classification(train_size=100) if size == 1 else Classification()
    got = batches(task, size)
    assert len(got) == task.num_train // size
    assert all(images.shape == (size, 1, 8, 8) and labels.shape == (size,) for images, labels in got)
    assert all(images.dtype == torch.float32 and labels.dtype == torch.int64 for images, labels in got)
    seen = torch.cat([images for images, _ in got]).flatten(1)
    everything = load(locate("digits"), train_size=100 if size == 1 else None).train.images
    assert len(np.unique(seen.numpy(), axis=0)) >= len(np.unique(everything, axis=0)) - task.num_train % size
    if task.num_train % size == 0:
        assert seen.mean().abs() < 1e-5
        assert abs(seen.std(correction=0) - 1) < 1e-5


def test_images_keep_their_labels() -> None:
    data = load(locate("digits")).train
    known = {image.tobytes(): label for image, label in zip(data.images, data.labels, strict=True)}
    mean, std = load(locate("digits")).mean[0], load(locate("digits")).std[0]
    for images, labels in batches(Classification(), 32):
        pixels = (images * std + mean).round().byte().permute(0, 2, 3, 1).numpy()
        assert [known[image.tobytes()] for image in pixels] == labels.tolist()


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_batches_depend_on_the_seed_alone(augment: str) -> None:
    task = Classification(augment=augment, train_size=200)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = batches(task, 32, seed=5)
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    second = batches(Classification(augment=augment, train_size=200), 32, seed=5)
    assert all(a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(first, second, strict=True))
    other = batches(task, 32, seed=6)
    assert not any(a.equal(c) for (a, _), (c, _) in zip(first, other, strict=True))


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_shards_make_up_the_whole_batch(augment: str, world_size: int) -> None:
    task = Classification(augment=augment, train_size=200)
    whole = batches(task, 32)
    parts = [batches(task, 32, shard=Shard(rank, world_size)) for rank in range(world_size)]
    for (images, labels), *shards in zip(whole, *parts, strict=True):
        assert torch.cat([part[0] for part in shards]).equal(images)
        assert torch.cat([part[1] for part in shards]).equal(labels)
        assert {len(part[1]) for part in shards} == {32 // world_size}


def test_crop_flip_gives_crops_of_the_padded_or_mirrored_image(colour: str) -> None:
    plain = Classification(data=colour, augment="none")
    augmented = Classification(data=colour, augment="crop-flip")
    kinds = set()
    for seed in range(4):
        (before, labels), (after, same) = batches(plain, 28, seed)[0], batches(augmented, 28, seed)[0]
        assert labels.equal(same)
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        for image, crop in zip(before, after, strict=True):
            padded = pad(image, (2, 2, 2, 2), mode="reflect")
            found = {
                (y, x, mirrored)
                for y in range(5)
                for x in range(5)
                for mirrored in (False, True)
                if (padded[:, y : y + 16, x : x + 16].flip(2) if mirrored else padded[:, y : y + 16, x : x + 16]).equal(
                    crop
                )
            }
            assert len(found) == 1
            kinds |= found
    assert len(kinds) > 40  # of 50


def test_auto_augments_colour_images_only(colour: str) -> None:
    def first(**options: Any) -> Tensor:
        return batches(Classification(**options), 8)[0][0]

    assert first(data=colour).equal(first(data=colour, augment="crop-flip"))
    assert not first(data=colour).equal(first(data=colour, augment="none"))
    assert first().equal(first(augment="none"))
    assert not first().equal(first(augment="crop-flip"))


def test_held_out_images_are_not_augmented(colour: str) -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return torch.zeros(len(x), 2)

    for augment in ("none", "crop-flip"):
        Classification(data=colour, augment=augment).evaluate(Spy(), "test", CPU)
    assert seen[0].equal(seen[1])


@pytest.mark.parametrize("stream", ["true", "false"])
def test_validation_takes_the_share_of_images_that_is_asked_for(colour: str, stream: str) -> None:
    task = Classification(data=colour, image_size=16, stream=stream, val_share=0.25)
    assert task.num_train == 24  # of 40: 20 % for test, a quarter of the rest for validation


@pytest.mark.parametrize("share", [0, 1, "0.0"])
def test_a_share_that_leaves_nothing_is_refused(share: Any) -> None:
    with pytest.raises(InputError, match=r"^val_share [01]: write a share above 0 and below 1"):
        Classification(val_share=share)


def test_data_with_a_validation_split_keep_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"val_share 0\.3: .* has a validation split of its own; leave it out"):
        Classification(data=str(aircraft(tmp_path / "set")), image_size=16, val_share=0.3)


def test_label_noise_is_exact_and_leaves_the_held_out_labels_clean() -> None:
    def labels(**options: Any) -> Tensor:
        return batches(Classification(**options), 1294)[0][1]

    clean, noisy = labels(), labels(label_noise=0.4)
    assert (clean != noisy).sum() == round(0.4 * 1294)
    assert noisy.equal(labels(label_noise=0.4, seed=0))
    assert not noisy.equal(labels(label_noise=0.4, seed=1))
    perfect = {
        split: {image.tobytes(): label for image, label in zip(part.images, part.labels, strict=True)}
        for split, part in (("val", load(locate("digits")).val), ("test", load(locate("digits")).test))
    }
    task = Classification(label_noise=0.4)
    mean, std = load(locate("digits")).mean[0], load(locate("digits")).std[0]

    class Oracle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            pixels = (x * std + mean).round().byte().permute(0, 2, 3, 1).numpy()
            known = {**perfect["val"], **perfect["test"]}
            return nn.functional.one_hot(torch.tensor([known[image.tobytes()] for image in pixels]), 10).float()

    for split in ("val", "test"):
        assert task.evaluate(Oracle(), split, CPU)["accuracy"] == 1


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_is_exact_over_the_split(split: Split) -> None:
    torch.manual_seed(0)
    task = Classification()
    model = task.build_model().eval()
    data = load(locate("digits"))
    part = data.val if split == "val" else data.test
    images = ((torch.from_numpy(part.images).double() - data.mean[0]) / data.std[0]).permute(0, 3, 1, 2)
    labels = torch.from_numpy(part.labels)
    got = task.evaluate(model, split, CPU)
    logits = model.double()(images)
    assert got["accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert got["loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_evaluation_leaves_mode_and_gradients_alone(training: bool) -> None:
    task = Classification()
    model = task.build_model().train(training)
    task.evaluate(model, "val", CPU)
    assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_model_gives_a_loss_that_is_not_finite(value: float) -> None:
    task = Classification(model="mlp")
    model = task.build_model().eval()
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    assert not math.isfinite(task.evaluate(model, "val", CPU)["loss"])
    assert not task.loss(model, batches(task, 32)[0]).isfinite()


@pytest.mark.parametrize("model", ["small-resnet", "mlp", "timm/resnet10t"])
def test_training_learns(model: str) -> None:
    torch.manual_seed(0)
    task = Classification(model=model, train_size=320)
    network = task.build_model()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for epoch in range(4):
        for batch in task.train_batches(32, epoch, CPU):
            optimizer.zero_grad()
            loss = task.loss(network, batch)
            assert loss.shape == ()
            loss.backward()
            optimizer.step()
    assert task.evaluate(network.eval(), "test", CPU)["accuracy"] > 0.7


def test_image_size_scales_all_splits() -> None:
    task = Classification(image_size=16, train_size=50)
    assert batches(task, 10)[0][0].shape == (10, 1, 16, 16)
    assert task.evaluate(task.build_model().eval(), "val", CPU)["loss"] > 0


@pytest.mark.parametrize(
    ("size", "shard", "words"),
    [
        (0, Shard(), "batch size 0: write 1 to 100"),
        (101, Shard(), "batch size 101: write 1 to 100"),
        (10, Shard(0, 4), "batch size 10: write a multiple of 4"),
    ],
)
def test_bad_batch_size_is_refused_at_the_call(size: int, shard: Shard, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Classification(train_size=100).train_batches(size, 0, CPU, shard)


@pytest.mark.skipif(not (ROOT / "cifar10").is_dir(), reason=f"no CIFAR-10 in {ROOT} (set SEMA_DATA)")
def test_cifar10() -> None:
    task = Classification(data="cifar10", train_size=100)
    images, labels = batches(task, 50)[0]
    assert images.shape == (50, 3, 32, 32)
    assert task.loss(task.build_model(), (images, labels)).isfinite()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_are_the_same_on_a_gpu() -> None:
    task = Classification(augment="crop-flip", train_size=200)
    there = list(task.train_batches(32, 0, torch.device("cuda")))
    for (images, labels), (same, equal) in zip(batches(task, 32), there, strict=True):
        assert same.is_cuda
        torch.testing.assert_close(same.cpu(), images)
        assert equal.cpu().equal(labels)
    model = task.build_model().eval()
    here = task.evaluate(model, "test", CPU)
    assert task.evaluate(model.cuda(), "test", torch.device("cuda")) == pytest.approx(here, rel=1e-3)
