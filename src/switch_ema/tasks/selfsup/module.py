"""What every self-supervised method shares: a part that is trained, and, in some, a target network that follows it."""

from __future__ import annotations

import copy
import math

import torch
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Encoder(nn.Module):
    """A backbone and the head that projects its features: `z = g(f(x))`."""

    def __init__(self, backbone: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to projections (n, d)."""
        projections: Tensor = self.projector(self.backbone(images))
        return projections


class Online(nn.Module):
    """What the optimizer trains and an averager follows: an encoder and a head that predicts: `p = q(z)`.

    Args:
        encoder: Backbone and projector.
        predictor: Head upon the projections; none leaves them as they are.
    """

    def __init__(self, encoder: Encoder, predictor: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor or nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to predictions (n, d)."""
        predictions: Tensor = self.predictor(self.encoder(images))
        return predictions


class SelfSupervised(nn.Module):
    """A method of self-supervised learning.

    `forward` takes the views of a batch and returns the loss, a scalar. It changes nothing but running statistics of
    `online` and, where gradients are recorded, a queue; a target network moves in `after_step` alone.

    Attributes:
        online: The part to train and to average; the rest follows from it.
    """

    online: nn.Module

    @property
    def backbone(self) -> nn.Module:
        """The part of `online` that is kept: it maps images (n, c, h, w) to features (n, num_features)."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to the features (n, num_features) of the online backbone."""
        features: Tensor = self.backbone(images)
        return features

    def after_step(self, progress: float) -> None:
        """Move the target network, if the method has one.

        Args:
            progress: Completed steps as a share of all, above 0 up to 1.
        """


class JointEmbedding(SelfSupervised):
    """A method that compares embeddings of two views; the base of all but the masked ones.

    Args:
        online: Encoder and predictor.
    """

    online: Online

    def __init__(self, online: Online) -> None:
        super().__init__()
        self.online = online

    @property
    def backbone(self) -> nn.Module:
        """The online encoder's backbone."""
        return self.online.encoder.backbone


class MomentumMethod(JointEmbedding):
    """A method with a target network, a moving average of the online encoder that no gradient reaches.

    After every optimizer step `target <- m * target + (1 - m) * online`, with the target's momentum m constant or,
    where it `rises`, `m(s) = 1 - (1 - m) (1 + cos(pi s)) / 2` at progress s: from m to 1. When Switch EMA replaces
    the weights of the online network, the target goes on from where it is and follows the new ones.

    BatchNorm of the target normalises by the batch at hand, as it does in training in every one of these methods, and
    keeps no running statistics: so only `after_step` changes a target.

    Args:
        online: Encoder and predictor.
        momentum: Share m of the old target that is kept, in [0, 1].
        rises: Whether m rises to 1 over the training.

    References:
        He et al.: Momentum Contrast for Unsupervised Visual Representation Learning, arXiv:1911.05722, 2019.
        Grill et al.: Bootstrap Your Own Latent, arXiv:2006.07733, 2020 (the schedule: section 3.3).
    """

    def __init__(self, online: Online, momentum: float, *, rises: bool) -> None:
        super().__init__(online)
        self.momentum = momentum
        self.rises = rises
        self.target = copy.deepcopy(online.encoder)
        deactivate_requires_grad(self.target)
        for module in self.target.modules():
            if isinstance(module, _BatchNorm):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to the target's projections (n, d)."""
        projections: Tensor = self.target(images)
        return projections

    def momentum_at(self, progress: float) -> float:
        """Return the target's momentum.

        Args:
            progress: Completed steps as a share of all, from 0 to 1.

        Example:
            >>> method = MomentumMethod(Online(Encoder(nn.Linear(3, 4), nn.Linear(4, 2))), 0.99, rises=True)
            >>> [round(method.momentum_at(progress), 4) for progress in (0, 0.5, 1)]
            [0.99, 0.995, 1.0]
        """
        if not self.rises:
            return self.momentum
        return 1 - (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2

    def after_step(self, progress: float) -> None:
        """Move the target: `target <- m * target + (1 - m) * online`.

        Args:
            progress: Completed steps as a share of all, above 0 up to 1.
        """
        update_momentum(self.online.encoder, self.target, self.momentum_at(progress))


def num_features(backbone: nn.Module) -> int:
    """Return the width of a backbone's features."""
    return int(backbone.num_features)  # type: ignore[arg-type]  # a plain attribute
