"""Methods that tell the views of an image from those of other images: SimCLR, MoCo v2, MoCo v3."""

from __future__ import annotations

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import MoCoProjectionHead, SimCLRProjectionHead
from lightly.utils import dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from switch_ema.tasks.selfsup.module import Encoder, JointEmbedding, MomentumMethod, Online, num_features


class SimCLR(JointEmbedding):
    """Two views of every image, all other views of the batch as negatives.

    With normalised projections z of the 2n views, z_j the other view of z_i and temperature t,

        L = mean_i -log( exp(z_i . z_j / t) / sum_{k != i} exp(z_i . z_k / t) )

    With several processes the negatives come from all of them.

    Args:
        backbone: Maps images to features (n, d); has `num_features`.
        hidden: Width of the projector's hidden layer.
        dim: Width of the projections.
        temperature: t, above 0.

    References:
        Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning of Visual Representations,
        arXiv:2002.05709, 2020.
    """

    def __init__(self, backbone: nn.Module, *, hidden: int = 2048, dim: int = 128, temperature: float = 0.1) -> None:
        projector = SimCLRProjectionHead(num_features(backbone), hidden, dim)
        super().__init__(Online(Encoder(backbone, projector)))
        self.criterion = NTXentLoss(temperature, gather_distributed=torch.distributed.is_available())

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of two views (n, c, h, w)."""
        loss: Tensor = self.criterion(self.online(first), self.online(second))
        return loss


class MoCoV2(MomentumMethod):
    """Queries of the online network, keys of a target network, a queue of past keys as negatives.

    With normalised query q of one view, key k of the other, queue Q and temperature t,

        L = mean_i -log( exp(q_i . k_i / t) / ( exp(q_i . k_i / t) + sum_{x in Q} exp(q_i . x / t) ) )

    The queue starts with random unit vectors, takes the keys of every training step, first in first out, and is part of
    the state. The original exchanges images among devices (shuffling BN), so that the statistics of BatchNorm do not
    give the key away; on a single device that is not possible, and it is left out here.

    Args:
        backbone: Maps images to features (n, d); has `num_features`.
        hidden: Width of the projector's hidden layer.
        dim: Width of the projections.
        temperature: t, above 0.
        momentum: Share of the old target that is kept, in [0, 1]; constant.
        queue_size: Number of keys in the queue.

    References:
        Chen, Fan, Girshick, He: Improved Baselines with Momentum Contrastive Learning, arXiv:2003.04297, 2020.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden: int = 2048,
        dim: int = 128,
        temperature: float = 0.2,
        momentum: float = 0.999,
        queue_size: int = 65536,
    ) -> None:
        projector = MoCoProjectionHead(num_features(backbone), hidden, dim)
        super().__init__(Online(Encoder(backbone, projector)), momentum, rises=False)
        self.criterion = NTXentLoss(
            temperature, memory_bank_size=(queue_size, dim), gather_distributed=torch.distributed.is_available()
        )
        bank = self.criterion.memory_bank
        for name, buffer in list(bank.named_buffers(recurse=False)):
            bank.register_buffer(name, buffer, persistent=True)  # so that a resumed run has its negatives

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of two views (n, c, h, w); keys of the second join the queue if gradients are recorded."""
        loss: Tensor = self.criterion(self.online(first), self.targets(second))
        return loss


class MoCoV3(MomentumMethod):
    """Predictions of the online network, keys of a target network, the other keys of the batch as negatives.

    With normalised predictions q and keys k of the n images, temperature t,

        ctr(q, k) = 2 t mean_i -log( exp(q_i . k_i / t) / sum_j exp(q_i . k_j / t) )
        L = ctr(q1, k2) + ctr(q2, k1)

    With several processes the keys come from all of them. The frozen patch projection that the paper proposes for the
    stability of large ViTs is not part of this.

    Args:
        backbone: Maps images to features (n, d); has `num_features`.
        hidden: Width of the hidden layers of projector and predictor.
        dim: Width of projections and predictions.
        temperature: t, above 0.
        momentum: Share of the old target that is kept at the start, in [0, 1]; it rises to 1 on a cosine.
        projector_layers: Layers of the projector: 3 for a ViT, 2 for a ResNet.

    References:
        Chen, Xie, He: An Empirical Study of Training Self-Supervised Vision Transformers, arXiv:2104.02057, 2021.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden: int = 4096,
        dim: int = 256,
        temperature: float = 0.2,
        momentum: float = 0.99,
        projector_layers: int = 3,
    ) -> None:
        projector = MoCoProjectionHead(num_features(backbone), hidden, dim, projector_layers, batch_norm=True)
        predictor = MoCoProjectionHead(dim, hidden, dim, 2, batch_norm=True)
        super().__init__(Online(Encoder(backbone, projector), predictor), momentum, rises=True)
        self.temperature = temperature

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of two views (n, c, h, w)."""
        keys = self.targets(first), self.targets(second)
        return self.contrast(self.online(first), keys[1]) + self.contrast(self.online(second), keys[0])

    def contrast(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return `ctr(q, k)` of predictions and keys, both (n, d)."""
        if dist.world_size() > 1:
            keys = torch.cat(dist.gather(keys))
        logits = normalize(queries) @ normalize(keys).T / self.temperature
        own = torch.arange(len(queries), device=queries.device) + dist.rank() * len(queries)
        return 2 * self.temperature * cross_entropy(logits, own)
