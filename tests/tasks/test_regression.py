"""Regression fulfils the task contract; its batches depend on their seed alone, its errors are in the target's unit."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from switch_ema.bench.task import Metric, Shard, Task
from switch_ema.data.numbers import locate_numbers
from switch_ema.data.numberset import NumberSet, load_numbers
from switch_ema.errors import InputError
from switch_ema.tasks.regression import Regression
from switch_ema.tasks.regression_options import AUGMENTS, LOSSES, OPTIONS, Chosen, check

CPU = torch.device("cpu")
WHOLE = Shard()
NAMES = ("mae", "rmse", "gmae", "pearson", "spearman")


def batches(task: Regression, size: int, seed: int = 0, shard: Shard = WHOLE) -> list[tuple[Tensor, Tensor]]:
    return list(task.train_batches(size, seed, CPU, shard))


def known(name: str = "digits-rotated", **options: Any) -> NumberSet:
    return load_numbers(locate_numbers(name), **options)


def test_it_is_a_task() -> None:
    task: Task = Regression()  # the type checker compares the signatures
    assert (task.name, task.data, task.model) == ("regression", "digits-rotated", "small-resnet")
    assert [metric.name for metric in task.metrics] == list(NAMES)
    assert task.metrics[0] == Metric("mae", higher_is_better=False)
    assert [metric.higher_is_better for metric in task.metrics] == [False, False, False, True, True]
    assert task.num_train == 1294
    assert Regression(data="diabetes").model == "mlp"
    assert Regression(model="mlp").model == "mlp"
    assert Regression(angular=True).metrics == task.metrics[:3]


@pytest.mark.parametrize("name", ["digits-rotated", "diabetes"])
@pytest.mark.parametrize("size", [32, 319])
def test_an_epoch_is_shuffled_once_through_and_drops_the_rest(name: str, size: int) -> None:
    task = Regression(data=name, train_size=319)
    got = batches(task, size)
    assert len(got) == 319 // size
    shape = (size, 10) if name == "diabetes" else (size, 1, 16, 16)
    assert all(inputs.shape == shape and targets.shape == (size,) for inputs, targets in got)
    assert all(inputs.dtype == targets.dtype == torch.float32 for inputs, targets in got)
    seen = torch.cat([targets for _, targets in got])
    data = known(name, train_size=319)
    restored = (seen.double() * data.target_std + data.target_mean).numpy()
    left = sorted(data.train.targets.tolist())
    assert all(abs(np.array(left) - value).min() < 1e-4 for value in restored)
    if size == 319:
        np.testing.assert_allclose(sorted(restored), left, rtol=1e-4, atol=1e-4)
        inputs = torch.cat([inputs for inputs, _ in got])
        axes = (0, 2, 3) if inputs.ndim == 4 else (0,)
        assert inputs.mean(axes).abs().max() < 1e-4
        assert (inputs.std(axes, correction=0) - 1).abs().max() < 1e-4


@pytest.mark.parametrize("scale_target", [True, False])
@pytest.mark.parametrize("name", ["digits-rotated", "diabetes"])
def test_inputs_keep_their_targets(name: str, scale_target: bool) -> None:
    data = known(name, train_size=200)
    center, scale = (data.target_mean, data.target_std) if scale_target else (0.0, 1.0)
    mean, std = torch.tensor(data.input_mean), torch.tensor(data.input_std)
    normalised = (torch.from_numpy(data.train.inputs).double() - mean) / std
    for inputs, learned in batches(Regression(data=name, scale_target=scale_target, train_size=200), 64):
        values = (inputs.permute(0, 2, 3, 1) if inputs.ndim == 4 else inputs).double()
        distance, row = torch.cdist(values.flatten(1), normalised.flatten(1)).min(1)
        assert distance.max() < 1e-3
        np.testing.assert_allclose(learned, (data.train.targets[row] - center) / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("augment", ["none", "crop"])
def test_batches_depend_on_their_seed_alone(augment: str) -> None:
    task = Regression(augment=augment, train_size=100)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = batches(task, 32, seed=5)
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    for (a, b), (c, d) in zip(first, batches(task, 32, seed=5), strict=True):
        assert a.equal(c)
        assert b.equal(d)
    assert not any(a.equal(c) for (a, _), (c, _) in zip(first, batches(task, 32, seed=6), strict=True))


def test_the_seed_of_a_run_leaves_the_data_alone() -> None:
    first, second = (Regression(seed=seed, train_size=100) for seed in (0, 1))
    for (a, b), (c, d) in zip(batches(first, 32), batches(second, 32), strict=True):
        assert a.equal(c)
        assert b.equal(d)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize(
    ("name", "augment"), [("digits-rotated", "none"), ("digits-rotated", "crop"), ("diabetes", "none")]
)
def test_shards_make_up_the_whole_batch(name: str, augment: str, world_size: int) -> None:
    task = Regression(data=name, augment=augment, train_size=200)
    whole = batches(task, 32)
    parts = [batches(task, 32, shard=Shard(rank, world_size)) for rank in range(world_size)]
    for (inputs, targets), *shards in zip(whole, *parts, strict=True):
        assert torch.cat([part[0] for part in shards]).equal(inputs)
        assert torch.cat([part[1] for part in shards]).equal(targets)
        assert {len(part[1]) for part in shards} == {32 // world_size}


@pytest.mark.parametrize("training", [False, True])
def test_evaluation_leaves_mode_and_gradients_alone(training: bool) -> None:
    task = Regression(train_size=50)
    model = task.build_model().train(training)
    task.evaluate(model, "val", CPU)
    assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_initial_weights_come_from_the_global_generator() -> None:
    def weights(name: str) -> Tensor:
        torch.manual_seed(3)
        return nn.utils.parameters_to_vector(Regression(data=name).build_model().parameters())

    for name in ("digits-rotated", "diabetes"):
        assert weights(name).equal(weights(name))


def trained(epochs: int, **options: Any) -> dict[str, float]:
    torch.manual_seed(0)
    task = Regression(**options)
    model = task.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for epoch in range(epochs):
        for batch in task.train_batches(32, epoch, CPU):
            optimizer.zero_grad()
            loss = task.loss(model, batch)
            assert loss.shape == ()
            loss.backward()
            optimizer.step()
    return task.evaluate(model.eval(), "test", CPU)


@pytest.mark.parametrize("options", [{}, {"loss": "l2"}, {"loss": "huber", "scale_target": False, "train_size": 480}])
def test_training_learns_how_far_digits_are_turned(options: dict[str, Any]) -> None:
    constant = abs(known().test.targets).mean()
    assert trained(2, image_size=12, **{"train_size": 240, **options})["mae"] < 0.7 * constant


def test_training_learns_angles_all_around_the_circle(tmp_path: Path) -> None:
    degrees = np.random.default_rng(0).uniform(-180, 540, 200)
    lines = [f"{np.cos(np.deg2rad(angle))},{np.sin(np.deg2rad(angle))},{angle}" for angle in degrees]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,angle", *lines]))
    assert trained(20, data=str(tmp_path), target="angle", angular=True)["mae"] < 5  # a constant is 90 off


def test_training_learns_from_a_table_as_well_as_a_line() -> None:
    data = known("diabetes")
    line = LinearRegression().fit(data.train.inputs, data.train.targets)
    expected = abs(line.predict(data.test.inputs) - data.test.targets).mean()
    constant = abs(data.test.targets - np.median(data.train.targets)).mean()
    got = trained(10, data="diabetes")["mae"]
    assert got < 1.05 * expected
    assert got < 0.8 * constant


@pytest.mark.parametrize(
    ("size", "shard", "words"),
    [
        (0, WHOLE, "batch size 0: write 1 to 100"),
        (101, WHOLE, "batch size 101: write 1 to 100"),
        (10, Shard(0, 4), "batch size 10: write a multiple of 4"),
    ],
)
def test_bad_batch_size_is_refused_at_the_call(size: int, shard: Shard, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Regression(train_size=100).train_batches(size, 0, CPU, shard)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "digit-rotated"}, "did you mean 'digits-rotated'"),
        ({"loss": "l3"}, "loss l3: write one of l1, l2, huber"),
        ({"augment": "flip"}, "augment flip: write one of auto, none, crop"),
        ({"augment": "crop-flip"}, "augment crop-flip: it mirrors images, which changes their angle; write crop or"),
        ({"augment": "resized-crop"}, "augment resized-crop: it mirrors and stretches images, which changes their"),
        ({"randaugment": 9}, "randaugment 9: it turns and shears images; the target of digits-rotated is their angle"),
        ({"randaugment": 11}, "randaugment 11: write a magnitude from 0 to 10"),
        ({"crop_scale": 0}, "crop_scale 0: write a share above 0"),
        ({"stream": True}, "stream true: digits-rotated is no list of image files"),
        ({"angular": True, "scale_target": False}, "scale_target false: with angular, cosine and sine are learnt"),
        ({"drop_path": 0.1}, "drop_path"),
        ({"train_size": 0}, "train_size 0: write a whole number"),
        ({"train_size": 10**6}, "train size 1000000: write 1 to 1294"),
        ({"image_size": -1}, "image_size -1: write a whole number"),
        ({"angular": "maybe"}, "angular maybe: write true or false"),
        ({"model": "resnet"}, "resnet"),
        ({"target": "age"}, "digits-rotated: its target is fixed; leave out --target"),
        ({"data": "diabetes", "angular": True}, "angular true: the target of diabetes is no angle"),
        ({"data": "diabetes", "model": "small-resnet"}, "model small-resnet: diabetes has vectors.*write mlp"),
        ({"data": "diabetes", "image_size": 8}, "image_size 8: diabetes has vectors"),
        ({"data": "diabetes", "augment": "crop"}, "augment crop: diabetes has vectors"),
        ({"data": "diabetes", "dropout": 0.1}, "dropout 0.1: diabetes has vectors"),
        ({"data": "diabetes", "skip_corrupt": True}, "skip_corrupt true: diabetes has vectors"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Regression(**options).build_model()
    assert "\n" not in str(caught.value)


def test_the_check_needs_no_task() -> None:
    with pytest.raises(InputError, match="did you mean 'angular'"):
        check("digits-rotated", "auto", {"angula": True})
    assert check("digits-rotated", "small-resnet", {"angular": "true", "train_size": None}).period == 360
    assert set(OPTIONS) == {field.name for field in fields(Chosen)}
    for name, choices in (("loss", LOSSES), ("augment", AUGMENTS)):
        assert [OPTIONS[name].read(choice) for choice in choices] == list(choices)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["digits-rotated", "diabetes"])
def test_batches_are_the_same_on_a_gpu(name: str) -> None:
    task = Regression(data=name, augment="none" if name == "diabetes" else "crop", train_size=200)
    there = list(task.train_batches(32, 0, torch.device("cuda")))
    for (inputs, targets), (same, equal) in zip(batches(task, 32), there, strict=True):
        assert same.is_cuda
        torch.testing.assert_close(same.cpu(), inputs)
        assert equal.cpu().equal(targets)
    model = task.build_model().eval()
    here = task.evaluate(model, "test", CPU)
    assert task.evaluate(model.cuda(), "test", torch.device("cuda")) == pytest.approx(here, rel=1e-3)
