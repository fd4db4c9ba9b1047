"""Real MNIST's digits move, and training on them beats what is known without learning."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from switch_ema.data.catalog import locate
from switch_ema.data.idx import tables
from switch_ema.tasks.video.metrics import measure
from switch_ema.tasks.video.task import Video
from tests.data.make import IDX_PREFIX, idx_bytes

REAL = Path(os.environ.get("SEMA_DATA") or "../shared/data")
CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason=f"no MNIST in {REAL} (set SEMA_DATA)")


@pytest.fixture(scope="module")
def some_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the first digits of the real MNIST."""
    root = tmp_path_factory.mktemp("root")
    (root / "mnist").mkdir()
    for split, table in tables(locate("mnist").path, None).items():
        rows = np.arange(2000 if split == "train" else 200)
        for name, values in (("images-idx3", table.read(rows)[..., 0]), ("labels-idx1", table.labels[rows])):
            (root / "mnist" / f"{IDX_PREFIX[split]}-{name}-ubyte").write_bytes(idx_bytes(values.astype(np.uint8)))
    return root


@pytest.fixture(autouse=True)
def root(some_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(some_mnist))


def mse(predicted: Tensor, truth: Tensor) -> float:
    return measure(predicted, truth)["mse"].mean().item()


def test_moving_mnist_is_learnt() -> None:
    torch.manual_seed(0)
    task = Video(data="moving-mnist", image_size=16, inputs=3, outputs=2, train_size=160, test_size=48)
    past, future = next(task._batches.held_out("test", 48, CPU))
    repeated = mse(past[:, -1:].expand_as(future), future)
    black = mse(torch.zeros_like(future), future)
    model = task.build_model()
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    for epoch in range(4):
        for batch in task.train_batches(16, epoch, CPU):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
    assert task.evaluate(model.eval(), "test", CPU)["mse"] < 0.8 * min(repeated, black)


def test_moving_mnist_at_its_own_size() -> None:
    task = Video(data="moving-mnist", train_size=16, test_size=4)
    past, future = next(task.train_batches(16, 0, CPU))
    assert past.shape == future.shape == (16, 10, 1, 64, 64)
    assert future.max() == 1
    lit = (torch.cat([past, future], 1) > 0.5).float().mean((1, 2, 3, 4))
    assert 0.01 < lit.mean() < 0.1  # two digits on 64x64 pixels
