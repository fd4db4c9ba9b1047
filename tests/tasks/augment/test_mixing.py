"""Mixup and CutMix mix images and targets by the same shares."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from switch_ema.tasks.augment.base import cut
from switch_ema.tasks.augment.mixing import CutMix, Mixing, Mixup, MixupOrCutMix, soft_targets

from .sample import floats, generator

MIXINGS: list[Mixing] = [Mixup(0.8), CutMix(1.0), MixupOrCutMix(), MixupOrCutMix(0.2, 0.5, 0.3, probability=0.6)]


def batch(count: int, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    labels = torch.randint(classes, (count,), generator=generator(3))
    return floats(count), soft_targets(labels, classes, 0.1), labels


def test_soft_targets_are_cross_entropys_label_smoothing() -> None:
    logits = torch.randn(8, 5, generator=generator())
    labels = torch.randint(5, (8,), generator=generator())
    cross_entropy = torch.nn.functional.cross_entropy
    for smoothing in (0.0, 0.1, 1.0):
        targets = soft_targets(labels, 5, smoothing)
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
        expected = cross_entropy(logits, labels, label_smoothing=smoothing)
        torch.testing.assert_close(cross_entropy(logits, targets), expected)


def test_mixup_mixes_by_each_samples_share() -> None:
    images, targets, _ = batch(16)
    mixup = Mixup(0.8)
    draws = mixup.draw(16, generator())
    mixed, soft = mixup(images, targets, draws)
    for row, share in enumerate(draws[0].tolist()):
        torch.testing.assert_close(mixed[row], share * images[row] + (1 - share) * images[15 - row])
        torch.testing.assert_close(soft[row], share * targets[row] + (1 - share) * targets[15 - row])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 12), (8, 8)])
def test_cutmix_is_torchvisions_rectangle(height: int, width: int) -> None:
    images, targets = floats(64, height, width), torch.eye(64)
    cutmix = CutMix(1.0)
    draws = cutmix.draw(64, generator())
    mixed, soft = cutmix(images, targets, draws)
    for row, (share, (down, right)) in enumerate(zip(draws[0].tolist(), draws[1].tolist(), strict=True)):
        half = 0.5 * (1 - share) ** 0.5
        y, x, tall, wide = int(down * height), int(right * width), int(half * height), int(half * width)
        rows, columns = slice(max(y - tall, 0), y + tall), slice(max(x - wide, 0), x + wide)
        expected = images[row].clone()
        expected[:, rows, columns] = images[63 - row][:, rows, columns]
        assert mixed[row].equal(expected)
        cut_out = (min(y + tall, height) - max(y - tall, 0)) * (min(x + wide, width) - max(x - wide, 0))
        assert soft[row, row].item() == pytest.approx(1 - cut_out / (height * width), abs=1e-6)


def test_either_is_one_of_both() -> None:
    images, targets, _ = batch(64)
    either = MixupOrCutMix(0.8, 1.0)
    cuts, shares, centres = either.draw(64, generator())
    mixed, soft = either(images, targets, (cuts, shares, centres))
    by_mixup = Mixup(0.8)(images, targets, (shares,))
    by_cutmix = CutMix(1.0)(images, targets, (shares, centres))
    assert 16 < cuts.sum() < 48
    assert mixed[cuts].equal(by_cutmix[0][cuts])
    assert soft[cuts].equal(by_cutmix[1][cuts])
    assert mixed[~cuts].equal(by_mixup[0][~cuts])
    assert soft[~cuts].equal(by_mixup[1][~cuts])


def test_each_has_its_own_alpha() -> None:
    cuts, shares, _ = MixupOrCutMix(mixup_alpha=0.1, cutmix_alpha=5.0, switch_probability=0.3).draw(4000, generator())
    assert abs(cuts.float().mean() - 0.3) < 0.03
    for part, alpha in ((shares[cuts], 5.0), (shares[~cuts], 0.1)):
        assert part.std().item() == pytest.approx(stats.beta(alpha, alpha).std(), rel=0.1)


@pytest.mark.parametrize("mixing", MIXINGS, ids=str)
def test_images_and_targets_stay_what_they_are(mixing: Mixing) -> None:
    images, targets, _ = batch(32)
    kept = images.clone(), targets.clone()
    draws = mixing.draw(32, generator())
    mixed, soft = mixing(images, targets, draws)
    assert mixed.shape == images.shape
    assert soft.shape == targets.shape
    assert mixed.min() >= 0
    assert mixed.max() <= 1
    torch.testing.assert_close(soft.sum(1), torch.ones(32))
    assert images.equal(kept[0])
    assert targets.equal(kept[1])
    again = mixing(images, targets, mixing.draw(32, generator()))
    assert again[0].equal(mixed)
    assert not mixing(images, targets, mixing.draw(32, generator(1)))[0].equal(mixed)
    assert all(len(numbers) == 32 for numbers in draws)
    # a process's own half is mixed within itself, with its own draws
    half = mixing(images[16:], targets[16:], cut(draws, slice(16, 32), torch.device("cpu")))[0]
    assert half.shape == (16, 3, 32, 32)


@pytest.mark.parametrize("mixing", [Mixup(0.5, 0), CutMix(0.5, 0), MixupOrCutMix(probability=0)], ids=str)
def test_probability_zero_changes_nothing(mixing: Mixing) -> None:
    images, targets, _ = batch(16)
    mixed, soft = mixing(images, targets, mixing.draw(16, generator()))
    assert mixed.equal(images)
    assert soft.equal(targets)


@pytest.mark.parametrize("alpha", [0.1, 0.8, 1.0, 5.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    for mixing in (Mixup(alpha), CutMix(alpha)):
        (shares, *_) = mixing.draw(3000, generator())
        for limit in (0.001, 0.05, 0.3, 0.5, 0.9, 0.999):
            assert abs((shares <= limit).float().mean() - stats.beta(alpha, alpha).cdf(limit)) < 0.03
    (shares,) = Mixup(alpha, probability=0.3).draw(3000, generator())
    assert abs((shares == 1).float().mean() - 0.7) < (0.05 if alpha > 0.5 else 0.2)


def test_very_small_alphas_give_shares() -> None:
    (shares,) = Mixup(0.01).draw(5000, generator())
    assert shares.isfinite().all()
    assert ((shares < 0.01) | (shares > 0.99)).float().mean() > 0.9


def test_centres_are_even_and_mixed_precision_keeps_its_type() -> None:
    _, centres = CutMix().draw(4000, generator())
    assert (centres.mean(0) - 0.5).abs().max() < 0.02
    images, targets, _ = batch(8)
    mixed, _ = CutMix()(images.half(), targets, CutMix().draw(8, generator()))
    assert mixed.dtype == torch.float16
