"""Video prediction fulfils the task contract; its batches depend on their seed alone."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from switch_ema.bench.exhibit import Picture
from switch_ema.bench.task import Metric, Shard, Task
from switch_ema.data.video.moving import Scenes
from switch_ema.errors import InputError
from switch_ema.tasks.video.batches import paint
from switch_ema.tasks.video.models.names import MODELS
from switch_ema.tasks.video.options import OPTIONS, Chosen, check
from switch_ema.tasks.video.task import Video
from tests.conftest import Sema
from tests.data.video.make import npy_folder

CPU = torch.device("cpu")
WHOLE = Shard()
TINY: dict[str, Any] = {"image_size": 16, "inputs": 2, "outputs": 3, "train_size": 20, "test_size": 8}


def tiny(**options: Any) -> Video:
    return Video(**{**TINY, **options})


def batches(task: Video, size: int, seed: int = 0, shard: Shard = WHOLE) -> list[tuple[Tensor, Tensor]]:
    return list(task.train_batches(size, seed, CPU, shard))


def whole(task: Video, seed: int = 0) -> Tensor:
    """Return all sequences of an epoch in a fixed order."""
    size = task.num_train
    (batch,) = batches(task, size, seed)
    rows = torch.cat(batch, 1).flatten(1)
    return rows[np.lexsort(rows.numpy().T)]


class Says(nn.Module):
    """Predicts what it is told, sequence by sequence; keeps what it was asked."""

    def __init__(self, answer: Tensor, extra: float | None = None) -> None:
        super().__init__()
        self.answer, self.extra, self.at = answer, extra, 0
        self.asked: list[tuple[Tensor, Tensor | None]] = []

    def forward(self, past: Tensor, future: Tensor | None = None) -> Tensor:
        self.asked.append((past, future))
        self.at += len(past)
        return self.answer[self.at - len(past) : self.at]

    def extra_loss(self, predicted: Tensor, truth: Tensor) -> Tensor | None:
        return None if self.extra is None else self.extra * (predicted - truth).abs().mean()


def test_it_is_a_task() -> None:
    task: Task = Video()  # the type checker compares the signatures
    assert (task.name, task.data, task.model) == ("video", "moving-digits", "simvp-gsta")
    assert task.metrics[0] == Metric("mse", higher_is_better=False)
    assert [metric.name for metric in task.metrics] == ["mse", "mae", "ssim", "psnr", "ssim_openstl"]
    assert [metric.higher_is_better for metric in task.metrics] == [False, False, True, True, True]
    assert task.num_train == 256


@pytest.mark.parametrize("data", ["moving-digits", "npy"])
def test_an_epoch_goes_once_through_and_drops_the_rest(data: str, tmp_path: Path) -> None:
    if data == "npy":
        data = str(npy_folder(tmp_path, {"train": (10, 10), "val": (1, 10), "test": (1, 10)}))
        task = Video(data=data, inputs=2, outputs=3)
    else:
        task = tiny(fresh=False)
    side = task.build_model()(torch.zeros(1, 2, 1, 8, 8)).shape[-1] if data != "moving-digits" else 16
    got = batches(task, 6)
    assert len(got) == 3
    for past, future in got:
        assert past.shape == (6, 2, 1, side, side)
        assert future.shape == (6, 3, 1, side, side)
        assert past.dtype == future.dtype == torch.float32
        assert past.min() >= 0
        assert future.max() <= 1
    everything = {row.numpy().tobytes() for row in whole(task)}
    seen = [torch.cat([past, future], 1).flatten(1) for past, future in got]
    rows = {row.numpy().tobytes() for part in seen for row in part}
    assert rows <= everything
    assert len(rows) == 18
    assert len(everything) == 20


def test_fresh_sequences_differ_between_epochs_and_fixed_ones_do_not() -> None:
    new, same = tiny(), tiny(fresh=False)
    assert not whole(new, 0).equal(whole(new, 1))
    assert whole(new, 0).equal(whole(tiny(), 0))
    assert whole(same, 0).equal(whole(same, 1))
    orders = [batches(same, 20, seed)[0][0] for seed in (0, 1)]
    assert not orders[0].equal(orders[1])


@pytest.mark.parametrize("fresh", [True, False])
def test_batches_depend_on_their_seed_alone(fresh: bool) -> None:
    task = tiny(fresh=fresh)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = batches(task, 8, seed=5)
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    again = list(Video(**TINY, fresh=fresh, seed=3).train_batches(8, 5, CPU))
    for (a, b), (c, d) in zip(first, again, strict=True):
        assert a.equal(c)
        assert b.equal(d)
    assert not any(a.equal(c) for (a, _), (c, _) in zip(first, batches(task, 8, seed=6), strict=True))


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("fresh", [True, False])
def test_shards_make_up_the_whole_batch(fresh: bool, world_size: int) -> None:
    task = tiny(fresh=fresh)
    expected = batches(task, 8)
    parts = [batches(task, 8, shard=Shard(rank, world_size)) for rank in range(world_size)]
    for (past, future), *shards in zip(expected, *parts, strict=True):
        assert torch.cat([part[0] for part in shards]).equal(past)
        assert torch.cat([part[1] for part in shards]).equal(future)
        assert {len(part[1]) for part in shards} == {8 // world_size}


def test_digits_are_painted_where_they_are_and_the_brighter_pixel_wins() -> None:
    generator = np.random.default_rng(0)
    digits = generator.integers(0, 256, (5, 4, 4), np.uint8)
    scenes = Scenes(generator.integers(0, 5, (3, 2)), generator.integers(0, 7, (3, 6, 2, 2)))
    expected = np.zeros((3, 6, 1, 10, 10), np.uint8)
    for n, t, d in np.ndindex(3, 6, 2):
        top, left = scenes.corners[n, t, d]
        place = expected[n, t, 0, top : top + 4, left : left + 4]
        np.maximum(place, digits[scenes.digits[n, d]], out=place)
    np.testing.assert_array_equal(paint(torch.from_numpy(digits), scenes, 10), expected)


@pytest.mark.parametrize("extra", [None, 0.5])
@pytest.mark.parametrize("k", [3, 4])
def test_the_loss_is_against_the_last_frames(k: int, extra: float | None) -> None:
    task = tiny()
    past, future = batches(task, 20)[0]
    answer = torch.rand(20, k, 1, 16, 16)
    model = Says(answer, extra)
    expected = mse_loss(answer, torch.cat([past, future], 1)[:, -k:])
    if extra is not None:
        expected = expected + extra * (answer[:, -3:] - future).abs().mean()
    assert task.loss(model, (past, future)).item() == pytest.approx(expected.item(), rel=1e-6)
    ((asked, shown),) = model.asked
    assert asked is past
    assert shown is future


def test_evaluation_never_shows_the_future_and_averages_over_all_frames() -> None:
    task = tiny(test_size=40)  # more than a batch, and no multiple of it
    answer = torch.zeros(40, 4, 1, 16, 16)
    answer[:, 0] = 9  # one frame more than is asked for
    model = Says(answer)
    got = task.evaluate(model, "test", CPU)
    assert [len(past) for past, _ in model.asked] == [32, 8]
    assert {future for _, future in model.asked} == {None}
    truth = torch.cat([future for _, future in task._batches.held_out("test", 7, CPU)]).double()
    assert truth.shape == (40, 3, 1, 16, 16)
    assert got["mse"] == pytest.approx(truth.square().sum().item() / 120, rel=1e-5)
    assert got["mae"] == pytest.approx(truth.sum().item() / 120, rel=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_evaluation_leaves_mode_and_gradients_alone_and_repeats_itself(training: bool) -> None:
    task = tiny()
    model = task.build_model().train(training)
    torch.manual_seed(0)
    first = task.evaluate(model, "val", CPU)
    torch.manual_seed(1)
    assert task.evaluate(model.eval(), "val", CPU) == task.evaluate(model, "val", CPU)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert set(first) == {metric.name for metric in task.metrics}


@pytest.mark.parametrize("model", MODELS)
def test_every_network_learns(model: str) -> None:
    torch.manual_seed(0)
    task = tiny(model=model, image_size=8, outputs=2)
    net = task.build_model()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    batch = batches(task, 4)[0]
    losses = []
    for step in range(6):
        optimizer.zero_grad()
        loss = task.loss(net, batch)
        assert loss.shape == ()
        loss.backward()
        optimizer.step()
        task.after_step(net, (step + 1) / 6)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert task.evaluate(net.eval(), "test", CPU)["mse"] > 0


def test_exhibits_show_the_same_sequences_of_every_network() -> None:
    task = tiny()
    shown = [task.exhibits(task.build_model().eval(), CPU) for _ in range(2)]
    first, second = (exhibits[0] for exhibits in shown)
    assert isinstance(first, Picture)
    assert isinstance(second, Picture)
    assert first.frames.shape == (5, 4 * 88 - 4, 3 * 88 - 4, 3)
    assert first.frames[:, :, :84].equal(second.frames[:, :, :84])  # the truth
    assert not first.frames.equal(second.frames)
    assert [picture.name for picture in shown[0]] == ["videos", "strips"]


def test_initial_weights_come_from_the_global_generator() -> None:
    def weights() -> Tensor:
        torch.manual_seed(3)
        return nn.utils.parameters_to_vector(tiny().build_model().parameters())

    assert weights().equal(weights())


@pytest.mark.parametrize(
    ("size", "shard", "words"),
    [
        (0, WHOLE, "batch size 0: write 1 to 20"),
        (21, WHOLE, "batch size 21: write 1 to 20"),
        (10, Shard(0, 4), "batch size 10: write a multiple of 4"),
    ],
)
def test_bad_batch_size_is_refused_at_the_call(size: int, shard: Shard, words: str) -> None:
    with pytest.raises(InputError, match=words):
        tiny().train_batches(size, 0, CPU, shard)


def test_options_and_their_defaults() -> None:
    assert set(OPTIONS) == {field.name for field in fields(Chosen)}
    assert Chosen().spans("moving-digits") == (5, 5)
    assert Chosen(outputs=3).spans("moving-mnist") == (10, 3)
    assert [Chosen().network_size(side, 8) for side in (60, 64)] == ["small", "paper"]
    assert [Chosen(size=size).network_size(32, 32) for size in ("small", "paper")] == ["small", "paper"]
    assert check("moving-digits", "mau", {"fresh": "false", "train_size": None}).is_generated


def test_the_report_shows_predictions(sema: Sema, tmp_path: Path) -> None:
    options = ("--image-size", 8, "--inputs", 2, "--outputs", 2, "--train-size", 16, "--test-size", 4)
    answer = sema("compare", "video", *options, "--epochs", 1, "--seeds", 1, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Predictions beside the truth" in report
    assert "frame by frame" in report


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_are_the_same_on_a_gpu() -> None:
    task = tiny()
    there = list(task.train_batches(8, 0, torch.device("cuda")))
    for (past, future), (same, equal) in zip(batches(task, 8), there, strict=True):
        assert same.is_cuda
        assert same.cpu().equal(past)
        assert equal.cpu().equal(future)
    model = task.build_model().eval()
    here = task.evaluate(model, "test", CPU)
    assert task.evaluate(model.cuda(), "test", torch.device("cuda")) == pytest.approx(here, rel=1e-3)
