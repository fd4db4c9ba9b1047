"""An ordinary PyTorch training loop with Switch EMA: the averager is made and attached, and told when an epoch ends.

Run it with `python examples/plain_loop.py`; it takes a few seconds on a CPU.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from switch_ema import SwitchEMA


def main() -> float:
    torch.manual_seed(0)
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    images = images.float() / 16
    train, test = torch.arange(0, 1400), torch.arange(1400, 1797)

    model = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    averager = SwitchEMA(model, decay=0.95, switch_every="1 epoch")  # added
    averager.attach(optimizer)  # added: follows every optimizer step

    for _ in range(10):
        for batch in train[torch.randperm(len(train))].split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        averager.end_epoch()  # switches: training goes on from the average

    with averager.average_parameters():  # for methods that never switch; here model and average agree
        model.eval()
        accuracy = float((model(images[test]).argmax(1) == labels[test]).float().mean())
    print(f"test accuracy {accuracy:.3f} after {averager.n_averaged} updates and {averager.n_switches} switches")
    return accuracy


if __name__ == "__main__":
    assert main() > 0.9
