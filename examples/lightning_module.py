"""Switch EMA in a Lightning training: one callback, and the checkpoint holds the average.

Run it with `python examples/lightning_module.py`; it takes a few seconds on a CPU.
"""

import tempfile
from functools import partial

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from switch_ema import SwitchEMA
from switch_ema.integrations.lightning import WeightAveraging


class Digits(LightningModule):
    """Classifies the digits of scikit-learn."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        correct = self.net(batch[0]).argmax(1) == batch[1]
        self.log("accuracy", correct.float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)


def main() -> float:
    seed_everything(0, verbose=False)
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    data = TensorDataset(images.float() / 16, labels)
    train, test = TensorDataset(*data[:1400]), TensorDataset(*data[1400:])

    averaging = WeightAveraging(partial(SwitchEMA, decay=0.98, switch_every="1 epoch"))  # added
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=5,
            accelerator="cpu",
            callbacks=[averaging],  # added
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            default_root_dir=folder,
        )
        model = Digits()
        trainer.fit(model, DataLoader(train, 50, shuffle=True), DataLoader(test, 397))  # validates on the average
        trainer.save_checkpoint(f"{folder}/digits.ckpt")
        loaded = Digits.load_from_checkpoint(f"{folder}/digits.ckpt", weights_only=True)  # the average, without us

    for one, other in zip(loaded.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert averaging.averager.n_switches == 5
    return float(trainer.callback_metrics["accuracy"])


if __name__ == "__main__":
    accuracy = main()
    print(f"test accuracy of the average: {accuracy:.3f}")
    assert accuracy > 0.9
