"""The self-supervised task fulfils the contract, and learns."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from switch_ema.bench.task import Metric, Shard, Task
from switch_ema.data.catalog import locate
from switch_ema.data.images import Images, load
from switch_ema.errors import InputError
from switch_ema.tasks.augment.crop import ResizedCrop
from switch_ema.tasks.selfsup import task as module
from switch_ema.tasks.selfsup.methods import Views, views
from switch_ema.tasks.selfsup.module import MomentumMethod, SelfSupervised
from switch_ema.tasks.selfsup.options import METHODS
from switch_ema.tasks.selfsup.task import SelfSup

CPU = torch.device("cpu")
ROOT = Path(os.environ.get("SEMA_DATA") or "../shared/data")
SMALL: dict[str, dict[str, Any]] = {  # options that make a method quick
    "mae": {"model": "timm/test_vit", "image_size": 32, "decoder_dim": 32, "decoder_depth": 1},
    "simmim": {"model": "timm/test_vit", "image_size": 32},
    "barlow-twins": {"hidden_dim": 32, "projection_dim": 32},
    "simsiam": {"hidden_dim": 32, "projection_dim": 32},
}


def batches(task: SelfSup, size: int, seed: int = 0, shard: Shard = Shard()) -> list[tuple[Tensor, ...]]:  # noqa: B008
    return list(task.train_batches(size, seed, CPU, shard))


def test_it_is_a_task() -> None:
    task: Task = SelfSup()
    assert (task.name, task.data, task.model) == ("selfsup", "digits", "small-resnet")
    assert task.metrics == (Metric("knn_accuracy", True), Metric("loss", False))
    assert task.final_metrics == (Metric("linear_accuracy", True),)
    assert task.num_train == 1294
    assert SelfSup(probe_epochs=0, finetune_epochs=1).final_metrics == (Metric("finetune_accuracy", True),)
    assert [SelfSup(method=m, train_size=50).model for m in ("simmim", "a2mim")] == ["vit-t", "small-resnet"]


@pytest.mark.parametrize("method", ["simclr", "moco-v2", "byol", "a2mim"])
def test_batches_depend_on_the_seed_alone(method: str) -> None:
    task = SelfSup(method=method, train_size=100)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = batches(task, 32, seed=5)
    assert torch.get_rng_state().equal(state)
    assert len(first) == 3
    torch.manual_seed(2)
    again = batches(SelfSup(method=method, train_size=100, seed=3), 32, seed=5)
    assert all(a.equal(b) for one, other in zip(first, again, strict=True) for a, b in zip(one, other, strict=True))
    assert not any(a[0].equal(b[0]) for a, b in zip(first, batches(task, 32, seed=6), strict=True))
    assert not first[0][0].equal(first[0][1])
    assert method != "a2mim" or not first[0][1].equal(first[1][1])
    assert all(view.dtype in (torch.float32, torch.bool) and len(view) == 32 for shown in first for view in shown)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("method", ["simclr", "byol", "a2mim"])
def test_shards_make_up_the_whole_batch(method: str, world_size: int) -> None:
    task = SelfSup(method=method, train_size=100)
    whole = batches(task, 32)
    parts = [batches(task, 32, shard=Shard(rank, world_size)) for rank in range(world_size)]
    for shown, *shards in zip(whole, *parts, strict=True):
        for index, view in enumerate(shown):
            torch.testing.assert_close(torch.cat([part[index] for part in shards]), view)


def test_views_show_at_least_four_by_four_pixels_and_grey_ones_are_not_mirrored() -> None:
    for size, channels, least in ((8, 1, 0.25), (4, 1, 1.0), (32, 3, 0.08)):
        for chain in views("byol", nn.Identity(), channels, size, {}).chains:
            crop = chain.steps[0]  # type: ignore[attr-defined]
            assert (crop.size, crop.scale, crop.flip) == (size, (least, 1.0), channels == 3)
    crop = views("a2mim", nn.Identity(), 1, 8, {"crop_scale": 0.5}).chains[0].steps[0]  # type: ignore[attr-defined]
    assert crop.scale == (0.5, 1.0)


def test_an_epoch_shows_every_image_once() -> None:
    """With views that show the whole image unchanged, the batches are the training images in another order."""
    task = SelfSup(method="a2mim", train_size=64, crop_scale=1.0)
    crop = ResizedCrop(8, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=False)
    task._views = Views((crop,), grid=4, mask_ratio=0.6)
    seen = torch.cat([shown[0] for shown in batches(task, 32)]).permute(0, 2, 3, 1)
    data = load(locate("digits"), train_size=64, unlabeled=True)
    pixels = (seen * data.std[0] + data.mean[0]).round().byte().numpy()
    assert sorted(image.tobytes() for image in pixels) == sorted(image.tobytes() for image in data.train.images)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_is_measured(method: str) -> None:
    torch.manual_seed(0)
    small = SMALL.get(method, {})
    task = SelfSup(method=method, train_size=64, probe_epochs=2, **small)
    model = task.build_model()
    part = task.averaged_part(model)
    assert isinstance(model, SelfSupervised)
    assert part is model.online
    optimizer = torch.optim.AdamW(part.parameters(), 1e-3)
    for shown in batches(task, 32):
        loss = task.loss(model, shown)
        assert loss.shape == ()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        task.after_step(model, 0.5)
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = task.evaluate(model, "val", CPU)
    assert task.evaluate(nn.Sequential(model)[0], "val", CPU) == first  # the same views
    assert first.keys() == {metric.name for metric in task.metrics}
    assert all(map(math.isfinite, first.values()))
    final = task.evaluate_final(model, CPU)
    assert final.keys() == {"val", "test"}
    assert all(shares.keys() == {"linear_accuracy"} for shares in final.values())
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert not model.training


def test_the_target_moves_after_a_step_alone() -> None:
    task = SelfSup(method="byol", train_size=64, hidden_dim=32)
    model = task.build_model()
    assert isinstance(model, MomentumMethod)
    with torch.no_grad():
        for parameter in model.online.parameters():
            parameter.add_(1)
    old = [p.clone() for p in model.target.parameters()]
    task.loss(model, batches(task, 32)[0])
    assert all(a.equal(b) for a, b in zip(old, model.target.parameters(), strict=True))
    task.after_step(nn.ModuleDict({"wrapped": model}), 0.5)
    for a, b in zip(old, model.target.parameters(), strict=True):
        torch.testing.assert_close(b, a + (1 - model.momentum_at(0.5)))


def test_a_queue_is_never_longer_than_the_training_set() -> None:
    cases: list[tuple[dict[str, Any], int]] = [({}, 100), ({"queue_size": 37}, 37)]
    for options, want in cases:
        model = SelfSup(method="moco-v2", train_size=100, **options).build_model()
        assert model.state_dict()["criterion.memory_bank.bank"].shape == (want, 128)


def test_simclr_learns_more_than_a_random_network_knows() -> None:
    torch.manual_seed(0)
    task = SelfSup(probe_epochs=20)
    model = task.build_model()
    random = task.evaluate(model.eval(), "test", CPU)["knn_accuracy"]
    optimizer = torch.optim.AdamW(task.averaged_part(model).parameters(), 2e-3)
    model.train()
    for epoch in range(2):
        for shown in task.train_batches(64, epoch, CPU):
            optimizer.zero_grad()
            task.loss(model, shown).backward()
            optimizer.step()
    assert random < 0.87
    assert task.evaluate(model.eval(), "test", CPU)["knn_accuracy"] > random + 0.05
    assert task.evaluate_final(model, CPU)["test"]["linear_accuracy"] > 0.9


def test_unlabelled_images_are_trained_on_where_there_are_such(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(locate("digits"), train_size=80, unlabeled=True)
    extra = Images(np.full((300, 8, 8, 1), 9, np.uint8), np.full(300, -1), np.arange(300))
    monkeypatch.setattr(module, "load", lambda *a, **k: type(data)(**{**vars(data), "unlabeled": extra}))
    task = SelfSup()
    assert task.num_train == 300
    level = (9 - data.mean[0]) / data.std[0]
    task._views = Views((ResizedCrop(8, flip=False),) * 2)
    assert all(torch.allclose(view, torch.tensor(level)) for shown in batches(task, 32) for view in shown)
    assert SelfSup(train_size=80).num_train == 80
    assert task.evaluate(task.build_model().eval(), "val", CPU)["knn_accuracy"] > 0.5  # the bank has labels


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(InputError, match="need a vision transformer"):
        SelfSup(method="mae", model="small-resnet")
    with pytest.raises(InputError, match="a2mim finds no maps"):
        SelfSup(method="a2mim", model="mlp")
    with pytest.raises(InputError, match="mask_patch 3: does not tile images of 8x8 pixels; write 2 or 4"):
        SelfSup(method="simmim", mask_patch=3)
    task = SelfSup(train_size=50)
    for size, shard, words in ((1, Shard(), "at least 2"), (51, Shard(), "write 1 to 50"), (2, Shard(0, 2), "least 4")):
        with pytest.raises(InputError, match=words):
            task.train_batches(size, 0, CPU, shard)


@pytest.mark.skipif(not (ROOT / "cifar10").is_dir(), reason=f"no CIFAR-10 in {ROOT} (set SEMA_DATA)")
def test_cifar10() -> None:
    task = SelfSup(data="cifar10", train_size=100, method="byol")
    first, second = batches(task, 50)[0]
    assert first.shape == second.shape == (50, 3, 32, 32)
    assert task.loss(task.build_model(), (first, second)).isfinite()
    assert (first.mean((0, 2, 3)).abs() < 0.6).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu() -> None:
    device = torch.device("cuda")
    for method in METHODS:
        task = SelfSup(method=method, train_size=64, probe_epochs=2, finetune_epochs=1)
        torch.manual_seed(0)
        model = task.build_model()
        here = task.evaluate(model.eval(), "val", CPU)
        there = task.evaluate(model.to(device), "val", device)
        assert there["loss"] == pytest.approx(here["loss"], rel=1e-2)
        task.loss(model.train(), next(task.train_batches(32, 0, device))).backward()
        task.evaluate_final(model.eval(), device)
