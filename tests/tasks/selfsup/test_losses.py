"""The losses of two views equal small sums done by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from switch_ema.tasks.selfsup.contrastive import MoCoV2, MoCoV3, SimCLR
from switch_ema.tasks.selfsup.module import JointEmbedding, MomentumMethod
from switch_ema.tasks.selfsup.siamese import BYOL, BarlowTwins, SimSiam
from tests.tasks.selfsup.tiny import Given, batch, make

N = 6


def bare(method: JointEmbedding) -> JointEmbedding:
    """Take the heads off: the projections and predictions are the images."""
    method.online.encoder.projector = nn.Identity()
    method.online.predictor = nn.Identity()
    if isinstance(method, MomentumMethod):
        method.target.projector = nn.Identity()
    return method


def random(seed: int, dim: int = N) -> Tensor:
    return torch.randn(N, dim, generator=torch.Generator().manual_seed(seed)).double()


def test_simclr_on_orthogonal_vectors() -> None:
    """Both views of an image are the same, of different images orthogonal: 2n - 2 negatives of similarity 0."""
    method = bare(SimCLR(Given(N), hidden=4, dim=4, temperature=0.5))
    want = math.log(math.exp(2) + 2 * N - 2) - 2
    assert method(torch.eye(N), 3 * torch.eye(N)).item() == pytest.approx(want, rel=1e-6)


def test_simclr_is_nt_xent() -> None:
    views = random(0), random(1)
    z = normalize(torch.cat(views))
    similar = (z @ z.T / 0.1).fill_diagonal_(-math.inf)
    pairs = torch.arange(2 * N).roll(N)
    want = (similar.logsumexp(1) - similar[torch.arange(2 * N), pairs]).mean()
    torch.testing.assert_close(bare(SimCLR(Given(N), hidden=4, dim=4))(*views), want)


def test_moco_v2_contrasts_with_the_queue_alone() -> None:
    method = MoCoV2(Given(N), hidden=4, dim=N, queue_size=9)
    bare(method)
    queue = method.criterion.memory_bank.bank.clone()
    assert torch.allclose(queue.norm(dim=1), torch.ones(9))
    q, k = normalize(random(0).float()), normalize(random(1).float())
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], dim=1) / 0.2
    want = (logits.logsumexp(1) - logits[:, 0]).mean()
    torch.testing.assert_close(method(random(0).float(), random(1).float()), want)


def test_moco_v3_is_symmetric_and_scaled_by_twice_the_temperature() -> None:
    method = bare(MoCoV3(Given(N), hidden=4, dim=N, temperature=0.5))
    one = math.log(math.exp(2) + N - 1) - 2
    assert method(torch.eye(N), torch.eye(N)).item() == pytest.approx(2 * (2 * 0.5 * one), rel=1e-6)
    views = random(0), random(1)
    a, b = map(normalize, views)
    logits = a @ b.T / 0.5
    rows, columns = logits.logsumexp(1) - logits.diagonal(), logits.logsumexp(0) - logits.diagonal()
    torch.testing.assert_close(method(*views), rows.mean() + columns.mean())


@pytest.mark.parametrize(("angle", "want"), [(0.0, 0.0), (90.0, 4.0), (180.0, 8.0)])
def test_byol_is_twice_two_less_two_cosines(angle: float, want: float) -> None:
    radians = math.radians(angle)
    second = torch.tensor([[math.cos(radians), math.sin(radians)]]).repeat(4, 1)
    first = torch.tensor([[3.0, 0.0]]).repeat(4, 1)
    assert bare(BYOL(Given(2), hidden=4, dim=4))(first, second).item() == pytest.approx(want, abs=1e-6)


def test_simsiam_is_the_mean_of_both_cosines() -> None:
    method = bare(SimSiam(Given(N), hidden=4, dim=4))
    assert method(torch.eye(N), torch.eye(N)).item() == pytest.approx(-1)
    torch.testing.assert_close(method(random(0), random(1)), -cosine_similarity(random(0), random(1)).mean())


def test_barlow_twins_of_equal_and_of_opposite_views() -> None:
    """Equal and uncorrelated: the identity matrix, no loss. Opposite: minus it, 4 for each of the dimensions."""
    method = bare(BarlowTwins(Given(3), hidden=2, dim=2))
    signs = torch.tensor([[a, b, c] for a in (-1.0, 1) for b in (-1.0, 1) for c in (-1.0, 1)])
    assert method(signs, 5 * signs + 2).item() == pytest.approx(0, abs=1e-4)
    assert method(signs, -signs).item() == pytest.approx(3 * 4, rel=1e-4)


def test_barlow_twins_weighs_what_is_off_the_diagonal() -> None:
    twice = torch.tensor([[-1.0, -1], [1, 1]]).repeat(4, 1)  # two equal columns: all correlations are 1
    assert bare(BarlowTwins(Given(2), hidden=2, dim=2))(twice, twice).item() == pytest.approx(0.005 * 2, rel=1e-2)


def test_simsiam_has_no_gradient_through_the_predicted_view() -> None:
    """The gradient of each view comes from its own prediction alone."""
    method = bare(SimSiam(Given(N), hidden=4, dim=4))
    first, second = random(0).requires_grad_(), random(1).requires_grad_()
    method(first, second).backward()
    for view, seed, other in ((first, 0, 1), (second, 1, 0)):
        alone = random(seed).requires_grad_()
        (-cosine_similarity(alone, random(other)).mean() / 2).backward()
        assert alone.grad is not None
        torch.testing.assert_close(view.grad, alone.grad)


def test_features_are_the_online_backbone_s() -> None:
    for name in ("byol", "a2mim-conv", "mae"):
        method = make(name).eval()
        images = batch(name)[0]
        torch.testing.assert_close(method.features(images), method.backbone(images))
        assert method.features(images).shape == (16, 32 if name == "mae" else 8)
        online = {id(parameter) for parameter in method.online.parameters()}
        assert online >= {id(parameter) for parameter in method.backbone.parameters()}
