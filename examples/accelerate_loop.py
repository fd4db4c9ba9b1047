"""Switch EMA in a loop with Accelerate: gradient accumulation, and a state from which training goes on.

Run it with `python examples/accelerate_loop.py`; it takes a few seconds on a CPU.
"""

import tempfile
from functools import partial

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from switch_ema import SwitchEMA
from switch_ema.integrations.accelerate import average


def main() -> float:
    torch.manual_seed(0)
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    images = images.float() / 16
    test_images, test_labels = images[1400:], labels[1400:]

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), 25, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    method = partial(SwitchEMA, decay=0.98, switch_every="1 epoch")
    averager = average(accelerator, method, model, optimizer)  # added

    for _ in range(5):
        model.train()
        for batch, target in loader:
            with accelerator.accumulate(model):
                accelerator.backward(nn.functional.cross_entropy(model(batch), target))
                optimizer.step()
                optimizer.zero_grad()
        averager.end_epoch()  # added

    with tempfile.TemporaryDirectory() as folder:
        accelerator.save_state(folder)  # the averager is in it
        accelerator.load_state(folder)
    model.eval()
    with averager.average_parameters(), torch.no_grad():  # added
        correct = model(test_images).argmax(1) == test_labels
    assert averager.n_averaged == 5 * 28
    assert averager.n_switches == 5
    return float(correct.float().mean())


if __name__ == "__main__":
    accuracy = main()
    print(f"test accuracy of the average: {accuracy:.3f}")
    assert accuracy > 0.9
