"""Points in the plane fulfil the task contract; the picture shows what the network says and was trained on."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from switch_ema.bench.task import Metric, Shard, Task
from switch_ema.data.points import draw_points
from switch_ema.errors import InputError
from switch_ema.tasks.points import Batch, PointClasses
from switch_ema.tasks.points_options import OPTIONS, Chosen, check

CPU = torch.device("cpu")
WHOLE = Shard()
BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


def batches(task: PointClasses, size: int, seed: int = 0, shard: Shard = WHOLE) -> list[Batch]:
    return list(task.train_batches(size, seed, CPU, shard))


def told(task: PointClasses, weight: list[list[float]], bias: list[float]) -> nn.Module:
    """Make a linear network."""
    model = nn.Linear(2, 2)
    model.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return model.eval()


def test_it_is_a_task() -> None:
    task: Task = PointClasses()  # the type checker compares the signatures
    assert (task.name, task.data, task.model, task.num_train) == ("points", "circles", "points-mlp", 50)
    assert [metric.name for metric in task.metrics] == ["accuracy", "loss", "ece"]
    assert task.metrics[0] == Metric("accuracy", higher_is_better=True)
    assert [metric.higher_is_better for metric in task.metrics] == [True, False, False]
    assert set(OPTIONS) == {field.name for field in fields(Chosen)}


@pytest.mark.parametrize("data", ["circles", "moons", "spirals"])
def test_an_epoch_goes_once_through_the_drawn_points(data: str) -> None:
    task = PointClasses(data=data, train_size=30, noise=0.1, seed=3)
    got = batches(task, 8)
    assert [(points.shape, labels.shape) for points, labels in got] == [((8, 2), (8,))] * 3
    assert all((points.dtype, labels.dtype) == (torch.float32, torch.int64) for points, labels in got)
    drawn = draw_points(data, "train", 30, noise=0.1, seed=3)
    points, labels = batches(task, 30)[0]
    row = torch.cdist(points, torch.from_numpy(drawn.inputs).float()).argmin(1)
    assert sorted(row.tolist()) == list(range(30))
    assert row.tolist() != list(range(30))
    np.testing.assert_allclose(points, drawn.inputs[row], atol=1e-6)  # not normalised
    assert labels.tolist() == drawn.labels[row].tolist()


def test_batches_depend_on_their_seed_alone() -> None:
    task = PointClasses()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again, other = batches(task, 10, seed=5), batches(task, 10, seed=5), batches(task, 10, seed=6)
    assert torch.get_rng_state().equal(state)
    assert all(a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(first, again, strict=True))
    assert not any(a.equal(c) for (a, _), (c, _) in zip(first, other, strict=True))


@pytest.mark.parametrize("world_size", [2, 5])
def test_shards_make_up_the_whole_batch(world_size: int) -> None:
    task = PointClasses()
    parts = [batches(task, 10, shard=Shard(rank, world_size)) for rank in range(world_size)]
    for (points, labels), *shards in zip(batches(task, 10), *parts, strict=True):
        assert torch.cat([part[0] for part in shards]).equal(points)
        assert torch.cat([part[1] for part in shards]).equal(labels)


def test_the_seed_draws_training_points_and_wrong_labels_alone() -> None:
    clean, noisy, other = (PointClasses(seed=seed, label_noise=rate) for seed, rate in ((0, 0), (0, 0.2), (1, 0.2)))
    trained_on = (next(task.fixed_batches("train", CPU)) for task in (clean, noisy, other))
    (points, truth), (same, wrong), (others, wrong_too) = trained_on
    assert points.equal(same)
    assert (truth != wrong).sum() == (truth != wrong_too).sum() == 10  # the true classes come in turns
    assert not wrong.equal(wrong_too)
    assert not points.equal(others)
    for part in ("val", "test"):
        held_out = [next(task.fixed_batches(part, CPU)) for task in (clean, noisy, other)]
        assert all(p.equal(held_out[0][0]) and labels.equal(held_out[0][1]) for p, labels in held_out)


def test_fixed_batches_are_those_trained_on_in_their_order() -> None:
    task = PointClasses(train_size=20, val_size=30, test_size=40, label_noise=0.5)
    for part, size in (("train", 20), ("val", 30), ("test", 40)):
        ((points, labels),) = task.fixed_batches(part, CPU)  # type: ignore[arg-type]
        assert points.shape == (size, 2)
        drawn = draw_points("circles", part, size, noise=0.2)
        np.testing.assert_allclose(points, drawn.inputs, atol=1e-6)
        assert (labels.numpy() == drawn.labels).mean() == (0.5 if part == "train" else 1)


def test_metrics_follow_their_definitions() -> None:
    task = PointClasses(data="moons", test_size=40)
    model = told(task, [[0.0, 0.7], [0.3, -0.4]], [0.1, 0.0])
    drawn = draw_points("moons", "test", 40, noise=0.2)
    logits = model(torch.from_numpy(drawn.inputs).float()).detach()
    shares, labels = logits.softmax(1).double().numpy(), drawn.labels
    sure, right = shares.max(1), shares.argmax(1) == labels
    bins = np.ceil(sure * 15)
    ece = sum((bins == k).mean() * abs(sure[bins == k].mean() - right[bins == k].mean()) for k in np.unique(bins))
    got = task.evaluate(model, "test", CPU)
    assert got["accuracy"] == pytest.approx(right.mean())
    assert got["loss"] == pytest.approx(cross_entropy(logits, torch.from_numpy(labels)).item())
    assert got["ece"] == pytest.approx(ece, abs=1e-6)
    assert task.evaluate(model, "val", CPU) != got


def test_a_diverged_network_is_measured() -> None:
    task = PointClasses()
    model = told(task, [[np.nan, 0.0], [0.0, 0.0]], [0.0, 0.0])
    assert np.isnan(task.evaluate(model, "test", CPU)["loss"])
    (picture,) = task.exhibits(model, CPU)
    assert (picture.frames[0, 0] == 255).all()


@pytest.mark.parametrize("training", [False, True])
def test_evaluation_leaves_mode_and_gradients_alone(training: bool) -> None:
    task = PointClasses()
    model = task.build_model().train(training)
    task.evaluate(model, "val", CPU)
    task.exhibits(model, CPU)
    assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_network_has_the_width_asked_for() -> None:
    def made(width: int) -> nn.Module:
        torch.manual_seed(3)
        return PointClasses(width=width).build_model()

    assert [tuple(p.shape) for p in made(7).parameters()] == [(7, 2), (7,), (7, 7), (7,), (2, 7), (2,)]
    same: list[Tensor] = [nn.utils.parameters_to_vector(made(16).parameters()) for _ in range(2)]
    assert same[0].equal(same[1])


@pytest.mark.parametrize(("data", "at_least"), [("circles", 0.8), ("moons", 0.88), ("spirals", 0.7)])
def test_training_learns(data: str, at_least: float) -> None:
    torch.manual_seed(0)
    task = PointClasses(data=data, noise=0.1)
    model = task.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for epoch in range(30):
        for batch in task.train_batches(10, epoch, CPU):
            optimizer.zero_grad()
            loss = task.loss(model, batch)
            assert loss.shape == ()
            loss.backward()
            optimizer.step()
    assert task.evaluate(model.eval(), "test", CPU)["accuracy"] > at_least


def pixel(frame: Tensor, task: PointClasses, x: float, y: float) -> tuple[int, ...]:
    """Return the colour at a place: the picture covers the test points and a tenth of the longer side around them."""
    extent = draw_points(task.data, "test", 500, noise=0.0).inputs
    low, high = extent.min(0), extent.max(0)
    margin = 0.1 * (high - low).max()
    column = (x - low[0] + margin) / (high[0] - low[0] + 2 * margin) * frame.shape[1]
    row = (high[1] + margin - y) / (high[1] - low[1] + 2 * margin) * frame.shape[0]
    return tuple(frame[int(row), int(column)].tolist())


def test_the_picture_shows_regions_and_points() -> None:
    task = PointClasses(train_size=4, noise=0.0, label_noise=0.5)
    model = told(task, [[0.0, 0.0], [0.0, 200.0]], [0.0, -100.0])  # class 1 above y = 0.5
    (picture,) = task.exhibits(model, CPU)
    frame = picture.frames[0]
    assert (frame.dtype, picture.name, len(picture.frames)) == (torch.uint8, "regions", 1)
    assert max(frame.shape[:2]) == 360
    above, below = (tuple(round(255 + 0.6 * (c - 255)) for c in colour) for colour in (ORANGE, BLUE))
    assert {pixel(frame, task, x, 1.1) for x in (-1.1, 0.0, 1.1)} == {above}
    assert {pixel(frame, task, x, -1.1) for x in (-1.1, 0.0, 1.1)} == {below}
    border = [row for row in range(frame.shape[0]) if frame[row, 2].sum() < 150]
    middle = frame.shape[0] * (1 - (0.5 + 1.2) / 2.4)
    assert border
    assert all(abs(row - middle) < 2 for row in border)
    points, labels = next(task.fixed_batches("train", CPU))
    truth = draw_points("circles", "train", 4, noise=0.0).labels
    for (x, y), label, true in zip(points.tolist(), labels.tolist(), truth.tolist(), strict=True):
        beside = pixel(frame, task, x + 0.018, y)  # within the point, off the arms of the cross
        assert beside == pytest.approx(ORANGE if label else BLUE, abs=15)
        crossed = pixel(frame, task, x, y) != pytest.approx(beside, abs=60)
        assert crossed == (label != true)


def test_every_network_is_shown_on_the_same_grid() -> None:
    first, second = (PointClasses(seed=seed).exhibits(PointClasses().build_model(), CPU)[0] for seed in (0, 1))
    assert first.frames.shape == second.frames.shape
    moons = PointClasses(data="moons").exhibits(PointClasses().build_model(), CPU)[0].frames
    assert moons.shape[1] < moons.shape[2] == 360


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "circle"}, "unknown data set of points 'circle'; did you mean 'circles'"),
        ({"model": "small-resnet"}, "unknown model 'small-resnet'"),
        ({"train_size": 1}, "train_size 1: write 2 to 10000"),
        ({"test_size": 10_001}, "test_size 10001: write 2 to 10000"),
        ({"val_size": 0}, "val_size 0: write a whole number of at least 1"),
        ({"noise": -0.1}, "noise -0.1: write a number of at least 0"),
        ({"factor": 1}, "factor 1: both circles would be the same; write 0 to below 1"),
        ({"factor": 1.5}, "factor 1.5: write a share from 0 to 1"),
        ({"data": "moons", "factor": 0.5}, "factor 0.5: moons has no inner circle; leave it out"),
        ({"label_noise": 40}, "label_noise 40: write a share"),
        ({"width": 0}, "width 0: write a whole number"),
        ({"nois": 0.1}, "nois is no option here; did you mean 'noise'"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        PointClasses(**options)
    assert "\n" not in str(caught.value)


def test_the_check_needs_no_task() -> None:
    check("circles", "points-mlp", {"factor": "0.3", "train_size": None})
    with pytest.raises(InputError, match="did you mean 'noise'"):
        check("circles", "points-mlp", {"nois": 0.1})


@pytest.mark.parametrize("size", [0, 51])
def test_bad_batch_size_is_refused_at_the_call(size: int) -> None:
    with pytest.raises(InputError, match=f"batch size {size}: write 1 to 50"):
        PointClasses().train_batches(size, 0, CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same() -> None:
    task, cuda = PointClasses(), torch.device("cuda")
    for (points, labels), (same, equal) in zip(batches(task, 10), task.train_batches(10, 0, cuda), strict=True):
        assert same.is_cuda
        assert same.cpu().equal(points)
        assert equal.cpu().equal(labels)
    model = task.build_model().eval()
    here = task.evaluate(model, "test", CPU)
    assert task.evaluate(model.cuda(), "test", cuda) == pytest.approx(here, rel=1e-3)
    assert task.exhibits(model, cuda)[0].frames.device == CPU
