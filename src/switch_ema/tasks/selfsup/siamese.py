"""Methods without negatives: BYOL, SimSiam, Barlow Twins."""

from __future__ import annotations

import torch
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity
from lightly.models.modules.heads import (
    BarlowTwinsProjectionHead,
    BYOLPredictionHead,
    BYOLProjectionHead,
    SimSiamPredictionHead,
    SimSiamProjectionHead,
)
from torch import Tensor, nn

from switch_ema.tasks.selfsup.module import Encoder, JointEmbedding, MomentumMethod, Online, num_features


class BYOL(MomentumMethod):
    """Predict the target network's projection of one view from the other view.

    With predictions p of the online network and projections z of the target network,

        L = (2 - 2 cos(p1, z2)) + (2 - 2 cos(p2, z1)), mean over the batch: 0 to 8

    Args:
        backbone: Maps images to features (n, d); has `num_features`.
        hidden: Width of the hidden layers of projector and predictor.
        dim: Width of projections and predictions.
        momentum: Share of the old target that is kept at the start, in [0, 1]; it rises to 1 on a cosine.

    References:
        Grill et al.: Bootstrap Your Own Latent, arXiv:2006.07733, 2020.
    """

    def __init__(self, backbone: nn.Module, *, hidden: int = 4096, dim: int = 256, momentum: float = 0.99) -> None:
        encoder = Encoder(backbone, BYOLProjectionHead(num_features(backbone), hidden, dim))
        super().__init__(Online(encoder, BYOLPredictionHead(dim, hidden, dim)), momentum, rises=True)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of two views (n, c, h, w)."""
        targets = self.targets(first), self.targets(second)
        similarity = self.criterion(self.online(first), targets[1]) + self.criterion(self.online(second), targets[0])
        loss: Tensor = 4 + 2 * similarity
        return loss


class SimSiam(JointEmbedding):
    """Predict one view's projection from the other view, without a gradient through the predicted one.

    With projections z, predictions p and sg for "no gradient",

        L = -cos(p1, sg(z2)) / 2 - cos(p2, sg(z1)) / 2, mean over the batch: -1 to 1

    Args:
        backbone: Maps images to features (n, d); has `num_features`.
        hidden: Width of the projector's hidden layers.
        dim: Width of projections and predictions; the predictor's hidden layer has a quarter of it.

    References:
        Chen, He: Exploring Simple Siamese Representation Learning, arXiv:2011.10566, 2020.
    """

    def __init__(self, backbone: nn.Module, *, hidden: int = 2048, dim: int = 2048) -> None:
        projector = SimSiamProjectionHead(num_features(backbone), hidden, dim)
        super().__init__(Online(Encoder(backbone, projector), SimSiamPredictionHead(dim, max(1, dim // 4), dim)))
        self.criterion = NegativeCosineSimilarity()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of two views (n, c, h, w)."""
        projections = self.online.encoder(first), self.online.encoder(second)
        predictions = [self.online.predictor(projection) for projection in projections]
        similarity = self.criterion(predictions[0], projections[1].detach())
        similarity = similarity + self.criterion(predictions[1], projections[0].detach())
        loss: Tensor = similarity / 2
        return loss


class BarlowTwins(JointEmbedding):
    """Make the cross-correlation of the two views' projections the identity matrix.

    With projections standardised over the batch and C = z1^T z2 / n,

        L = sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2

    With several processes C is of all of them.

    Args:
        backbone: Maps images to features (n, d); has `num_features`.
        hidden: Width of the projector's hidden layers.
        dim: Width of the projections.
        weight: lambda, above 0.

    References:
        Zbontar, Jing, Misra, LeCun, Deny: Barlow Twins, arXiv:2103.03230, 2021.
    """

    def __init__(self, backbone: nn.Module, *, hidden: int = 8192, dim: int = 8192, weight: float = 0.005) -> None:
        super().__init__(Online(Encoder(backbone, BarlowTwinsProjectionHead(num_features(backbone), hidden, dim))))
        self.criterion = BarlowTwinsLoss(weight, gather_distributed=torch.distributed.is_available())

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of two views (n, c, h, w)."""
        loss: Tensor = self.criterion(self.online(first), self.online(second))
        return loss
