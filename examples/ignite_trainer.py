"""Switch EMA in an Ignite trainer, with an evaluation and a checkpoint after every epoch.

Run it with `python examples/ignite_trainer.py`; it takes a few seconds on a CPU.
"""

import tempfile
from functools import partial

import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver
from ignite.metrics import Accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from switch_ema import SwitchEMA
from switch_ema.integrations.ignite import WeightAveraging


def main(folder: str) -> float:
    torch.manual_seed(0)
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    data = TensorDataset(images.float() / 16, labels)
    train = DataLoader(TensorDataset(*data[:1400]), 50, shuffle=True)
    test = DataLoader(TensorDataset(*data[1400:]), 397)

    model = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
    averaging = WeightAveraging(partial(SwitchEMA, decay=0.98, switch_every="1 epoch"), model)  # added
    averaging.attach(trainer, optimizer)  # added

    def evaluate(engine: Engine) -> None:
        with averaging.averager.average_parameters():  # added
            evaluator.run(test)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, evaluate)

    parts = {"model": model, "optimizer": optimizer, "trainer": trainer, "averager": averaging.averager}
    checkpoint = Checkpoint(parts, DiskSaver(folder, require_empty=False), n_saved=1)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    trainer.run(train, max_epochs=5)

    Checkpoint.load_objects(parts, torch.load(str(checkpoint.last_checkpoint), weights_only=True))
    assert averaging.averager.n_averaged == 5 * 28
    assert averaging.averager.n_switches == 5
    return float(evaluator.state.metrics["accuracy"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        accuracy = main(folder)
    print(f"test accuracy of the average: {accuracy:.3f}")
    assert accuracy > 0.9
