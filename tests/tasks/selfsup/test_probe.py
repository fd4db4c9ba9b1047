"""Nearest neighbours, linear probe and fine-tuning on features whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from switch_ema.tasks.images import ImageBatches
from switch_ema.tasks.selfsup.finetune import accuracy, finetune
from switch_ema.tasks.selfsup.probe import knn_accuracy, linear_probe
from tests.tasks.selfsup.tiny import Conv

CPU = torch.device("cpu")


def clusters(count: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return one_hot(labels, 5).float() + noise * torch.randn(count, 5, generator=generator), labels


def test_neighbours_vote_by_their_similarity() -> None:
    """Of three neighbours two are of class 0, but the third is nearer by far: it wins when the temperature is low."""
    bank = torch.tensor([[0.6, 0.8], [0.6, -0.8], [1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 0, 1, 2])
    query = torch.tensor([[7.0, 0.0]])
    shares = [knn_accuracy(bank, (query, torch.tensor([1])), 3, k=3, temperature=t) for t in (0.07, 10)]
    assert shares == [1, 0]
    assert knn_accuracy(bank, (query, torch.tensor([1])), 3, k=1, temperature=10) == 1
    assert knn_accuracy(bank, (query, torch.tensor([0])), 3, k=999, temperature=10) == 1  # at most the whole bank


def test_knn_accuracy_is_a_share_over_all_queries() -> None:
    bank, queries = clusters(60, 0.1, 0), clusters(700, 0.1, 1)
    assert knn_accuracy(bank, queries, 3, k=20) == 1
    wrong = queries[1].clone()
    wrong[:7] = (wrong[:7] + 1) % 3
    assert knn_accuracy(bank, (queries[0], wrong), 3, k=20) == pytest.approx(0.99)


def test_features_that_are_not_finite_give_a_number() -> None:
    bank, queries = clusters(60, 0.1, 0), clusters(30, 0.1, 1)
    bad = bank[0] * float("nan"), bank[1]
    assert 0 <= knn_accuracy(bad, (queries[0] * float("inf"), queries[1]), 3, k=20) <= 1
    assert 0 <= linear_probe(bad, {"val": queries, "test": queries}, 3, epochs=2)["test"] <= 1


def test_the_probe_finds_what_is_linear_whatever_its_scale() -> None:
    train, val, test = (clusters(300, 0.2, seed) for seed in range(3))
    scale, shift = torch.tensor([1e3, 1e-3, 1, 5, 0]), torch.tensor([0, 7.0, 0, 0, 3])
    moved = [(x * scale + shift, y) for x, y in (train, val, test)]
    shares = linear_probe(moved[0], {"val": moved[1], "test": moved[2]}, 3, epochs=20)
    assert shares["val"] > 0.95
    assert shares["test"] > 0.95


@pytest.mark.parametrize("seed", [0, 6, 27])  # the best rates are 1; 0.01 and 0.1; 0.1
def test_the_probe_is_that_of_the_rate_that_is_best_on_val(seed: int) -> None:
    """Trained alone by plain SGD, one of the rates gives exactly the accuracies."""
    train, val, test = (clusters(90, 1.0, seed + part) for part in range(3))
    mean, std = train[0].mean(0), train[0].std(0, correction=0)
    found = []
    for rate in (0.01, 0.1, 1.0):
        layer = torch.nn.Linear(5, 3)
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        optimizer = torch.optim.SGD(layer.parameters(), rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 8])
        for _ in range(10):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer((train[0] - mean) / std), train[1]).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            found.append([(layer((x - mean) / std).argmax(1) == y).double().mean().item() for x, y in (val, test)])
    got = linear_probe(train, {"val": val, "test": test}, 3, epochs=10)
    best = max(share for share, _ in found)
    assert got["val"] == pytest.approx(best)
    assert got["test"] in [pytest.approx(share) for val_share, share in found if val_share == best]


def test_the_probe_leaves_the_random_generator_alone_and_repeats_itself() -> None:
    train, val = clusters(600, 1.0, 0), clusters(90, 1.0, 1)
    state = torch.get_rng_state()
    first = linear_probe(train, {"val": val, "test": val}, 3, epochs=3, seed=4)
    assert torch.get_rng_state().equal(state)
    with torch.no_grad():
        assert linear_probe(train, {"val": val, "test": val}, 3, epochs=3, seed=4) == first


def test_fine_tuning_trains_a_copy() -> None:
    torch.manual_seed(0)
    labels = torch.arange(120) % 2
    images = torch.randint(0, 100, (120, 8, 8, 1), dtype=torch.uint8)
    images[labels == 1, :4] += 100
    batches = ImageBatches({"train": images, "val": images}, (100.0,), (60.0,))
    backbone = Conv()
    backbone.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        classifier = finetune(backbone, batches, labels, 2, epochs=60, seed=0)
    assert torch.get_rng_state().equal(state)
    assert not classifier.training
    assert accuracy(classifier, batches, "val", labels) > 0.95
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert not any(p.requires_grad for p in backbone.parameters())
    torch.manual_seed(7)
    again = finetune(backbone, batches, labels, 2, epochs=60, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(classifier.parameters(), again.parameters(), strict=True))
