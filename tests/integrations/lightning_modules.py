"""Lightning modules and trainers of the tests."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from tests.integrations.modules import Batch, Loader, batches, network, sgd

QUIET = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]
"""Marks for what Lightning warns of by itself."""

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)


class Module(LightningModule):
    """Classifies; remembers the weights it was validated with."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.seen: list[dict[str, Tensor]] = []
        self.after_validation: list[dict[str, Tensor]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss: Tensor = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.net(batch[0])

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.seen.append({name: value.clone() for name, value in self.net.state_dict().items()})

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.on_validation_epoch_end()

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        output: Tensor = self.net(batch[0])
        return output

    def configure_optimizers(self) -> Any:
        return sgd(self.net)


def trainer(folder: Path, *callbacks: Callback, **given: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return Trainer(callbacks=list(callbacks), **{**settings, **given})


def fit(folder: Path, callback: Any, *others: Callback, ckpt_path: Any = None, **given: Any) -> tuple[Module, Trainer]:
    module = Module()
    trains = trainer(folder, callback, *others, **given)
    trains.fit(module, Loader(batches()), Loader(batches(1)), ckpt_path=ckpt_path)
    return module, trains
