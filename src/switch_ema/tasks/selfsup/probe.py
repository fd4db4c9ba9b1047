"""What features are worth: the share that their nearest neighbours name right, and that a linear classifier does."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from lightly.utils.benchmarking import knn_predict
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from switch_ema.bench.task import Split

_CHUNK = 256
_RATES = (0.01, 0.1, 1.0)
_PROBE_BATCH = 256
Labelled = tuple[Tensor, Tensor]
"""Features (n, d) and labels (n,)."""


def knn_accuracy(bank: Labelled, queries: Labelled, num_classes: int, k: int, temperature: float = 0.07) -> float:
    """Return the share of queries whose class the nearest neighbours name.

    With cosine similarities s to the k nearest of the bank, the class named is the one with the largest sum of
    `exp(s / temperature)`.

    Args:
        bank: Features and labels of the known images.
        queries: Features and labels of the images to name.
        num_classes: Number of classes.
        k: Neighbours that vote, from 1; at most the whole bank does.
        temperature: Above 0.

    Returns:
        A share from 0 to 1.

    References:
        Wu, Xiong, Yu, Lin: Unsupervised Feature Learning via Non-Parametric Instance Discrimination,
        arXiv:1805.01978, 2018.
    """
    known, labels = normalize(bank[0]).T, bank[1]
    right = 0
    for features, truth in zip(queries[0].split(_CHUNK), queries[1].split(_CHUNK), strict=True):
        named = knn_predict(normalize(features), known, labels, num_classes, min(k, len(labels)), temperature)[:, 0]
        right += int((named == truth).sum())
    return right / len(queries[1])


def linear_probe(
    train: Labelled, held_out: Mapping[Split, Labelled], num_classes: int, *, epochs: int = 100, seed: int = 0
) -> dict[Split, float]:
    """Train linear classifiers on frozen features and return the accuracies of the one that is best on ``val``.

    SGD with momentum 0.9 and batches of 256, no weight decay, from zero weights on features standardised by the
    training images; the rate falls to a tenth after 60 % and 80 % of the epochs. Classifiers with the rates 0.01, 0.1
    and 1 are trained side by side.

    Args:
        train: Features and labels to train on.
        held_out: Features and labels by split; has ``val``.
        num_classes: Number of classes.
        epochs: From 1.
        seed: Decides the order of the training examples.

    Returns:
        Accuracy of each split, a share from 0 to 1.
    """
    mean, std = train[0].mean(0), train[0].std(0, correction=0)
    scale = torch.where(std > 1e-6, std, 1.0)
    features, labels = (train[0] - mean) / scale, train[1]
    weights = features.new_zeros(len(_RATES), features.shape[1], num_classes).requires_grad_()
    biases = features.new_zeros(len(_RATES), 1, num_classes).requires_grad_()
    rates = features.new_tensor(_RATES)
    optimizer = torch.optim.SGD([weights, biases], lr=1.0, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for epoch in range(epochs):
            optimizer.param_groups[0]["lr"] = 0.1 ** sum(epoch >= math.ceil(share * epochs) for share in (0.6, 0.8))
            for chosen in torch.randperm(len(labels), generator=generator).to(labels.device).split(_PROBE_BATCH):
                logits = features[chosen] @ weights + biases
                losses = cross_entropy(logits.transpose(1, 2), labels[chosen].expand(len(_RATES), -1), reduction="none")
                optimizer.zero_grad()
                (losses.mean(1) @ rates).backward()  # a rate times the loss: the rate of that classifier
                optimizer.step()
    with torch.no_grad():
        right = {
            split: ((((x - mean) / scale) @ weights + biases).argmax(2) == y).double().mean(1).tolist()
            for split, (x, y) in held_out.items()
        }
    best = max(range(len(_RATES)), key=lambda index: right["val"][index])
    return {split: shares[best] for split, shares in right.items()}
