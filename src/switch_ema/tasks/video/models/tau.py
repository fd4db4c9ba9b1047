"""TAU: SimVP with attention within and between frames, and a loss on how frames differ."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from switch_ema.tasks.video.models.gsta import LargeKernel
from switch_ema.tasks.video.models.simvp import SimVP

_WEIGHT = 0.1
_TEMPERATURE = 0.1
_SQUEEZED = 16


class TemporalAttention(nn.Module):
    """Attention within frames times attention between them, times the input.

    With the large-kernel convolution L of the input H, and its means over all places through two layers,

        H' = sigmoid(W2 relu(W1 mean(H))) . L(H) . H

    Args:
        channels: Channels of the map, at least 4: of all frames together.

    References:
        Tan, Gao, Wu, Xu, Xia, Li, Li: Temporal Attention Unit: Towards Efficient Spatiotemporal Predictive Learning,
        arXiv:2206.12126, 2022 (section 3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = min(_SQUEEZED, channels // 4)
        self.within = LargeKernel(channels, channels)
        self.between = nn.Sequential(
            nn.Linear(channels, squeezed, bias=False),
            nn.ReLU(),
            nn.Linear(squeezed, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        attended: Tensor = self.between(x.mean((2, 3)))[:, :, None, None] * self.within(x) * x
        return attended


class TAU(SimVP):
    """SimVP with a translator of temporal attention units, trained with differential divergence regularization.

    Within SimVP with 64 channels a frame, for 10 grey frames, with 512 hidden channels, 8 blocks and an MLP ratio of 8
    the network has 44,656,001 parameters (published by OpenSTL: 44.7 M). The arguments are those of `SimVP`.

    References:
        Tan, Gao, Wu, Xu, Xia, Li, Li: Temporal Attention Unit: Towards Efficient Spatiotemporal Predictive Learning,
        arXiv:2206.12126, 2022.
    """

    def extra_loss(self, predicted: Tensor, truth: Tensor) -> Tensor | None:
        """Return 0.1 times the divergence of predicted from true frame differences; None for a single frame.

        With q and p the softmax over all pixels of a predicted and a true difference of consecutive frames, each
        divided by the temperature 0.1,

            L = 0.1 * mean of KL(q || p) / pixels, over videos and differences

        It is divided by the number of pixels, all channels counted, as the squared error is, and as in OpenSTL.
        """
        if predicted.shape[1] < 2:
            return None
        log_q, log_p = (
            (frames.diff(dim=1).flatten(2) / _TEMPERATURE).log_softmax(dim=-1) for frames in (predicted, truth)
        )
        return _WEIGHT * F.kl_div(log_p, log_q, reduction="none", log_target=True).mean()
