"""Switch EMA in the Hugging Face Trainer: two lines more.

Run it with `python examples/trainer.py`; it takes a few seconds on a CPU and downloads nothing.
"""

import tempfile
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import Trainer, TrainingArguments

from switch_ema import SwitchEMA
from switch_ema.integrations.transformers import WeightAveragingCallback


class Classifier(nn.Module):
    """A small network in the form that the Trainer wants: it returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.layers(images)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def main() -> float:
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    data = [
        {"images": (image / 16).astype("float32"), "labels": label} for image, label in zip(images, labels, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            Classifier(),
            TrainingArguments(
                folder, num_train_epochs=3, per_device_train_batch_size=50, learning_rate=5e-3, eval_strategy="epoch",
                save_strategy="epoch", report_to=[], disable_tqdm=True, use_cpu=True, remove_unused_columns=False,
            ),
            train_dataset=data[:1400],
            eval_dataset=data[1400:],
            compute_metrics=lambda seen: {"accuracy": float((seen.predictions.argmax(1) == seen.label_ids).mean())},
        )  # fmt: skip
        averaging = WeightAveragingCallback(partial(SwitchEMA, decay=0.9, switch_every="1 epoch")).attach(
            trainer
        )  # added
        trainer.train()  # with resume_from_checkpoint=True it goes on, average and all
        accuracy = trainer.evaluate()["eval_accuracy"]  # on the average
    averager = averaging.averager
    print(f"accuracy {accuracy:.3f} after {averager.n_averaged} updates and {averager.n_switches} switches")
    return float(accuracy)


if __name__ == "__main__":
    assert main() > 0.85
