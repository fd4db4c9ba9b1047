"""MAU: recurrent layers that look back over several time steps for how things move."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from switch_ema.tasks.video.models.recurrent import RecurrentPredictor

_SCALE = 4  # side of a frame by side of the maps
_SLOPE = 0.2


class MAUCell(nn.Module):
    """One layer of a MAU at one time step.

    From the appearance S of the layer below, the motion T of this layer one step before, and both over the last tau
    steps, the cell finds what moved when things looked alike (N is a convolution with layer norm, `.` an elementwise
    product, s the sigmoid, d the number of elements of S):

        a_j = softmax_j(<S_{t-j}, Ns(S)> / sqrt(d))    M = sum_j a_j T_{t-j}    j = 1..tau
        u = s(Nt(T))                                   A = u . T + (1 - u) . M

    and exchanges motion and appearance through two gates:

        T' = s(Utg(A)) . Utt(A) + (1 - s(Utg(A))) . Ust(S)
        S' = s(Usg(S)) . Uss(S) + (1 - s(Usg(S))) . Uts(A)

    where each U is again a convolution with layer norm.

    Args:
        hidden: Channels of T and S.
        height: Height of the maps.
        width: Width of the maps.
        kernel: Side of the kernels, odd.

    References:
        Chang, Zhang, Wang, Ma, Ye, Xiang, Gao: MAU: A Motion-Aware Unit for Video Prediction and Beyond,
        NeurIPS 2021 (section 3).
    """

    def __init__(self, hidden: int, height: int, width: int, kernel: int) -> None:
        super().__init__()

        def normed(times: int) -> nn.Sequential:
            conv = nn.Conv2d(hidden, times * hidden, kernel, padding=kernel // 2)
            return nn.Sequential(conv, nn.LayerNorm((times * hidden, height, width)))

        self.query = normed(1)
        self.recent = normed(1)
        self.of_motion = normed(3)
        self.of_appearance = normed(3)

    def forward(self, appearance: Tensor, motions: Tensor, appearances: Tensor) -> tuple[Tensor, Tensor]:
        """Map S (n, hidden, h, w), and T and S of the last steps (n, tau, hidden, h, w), to the new T and S."""
        motion = motions[:, -1]  # the oldest step comes first
        alike = (appearances * self.query(appearance).unsqueeze(1)).sum((2, 3, 4))
        weights = (alike / math.sqrt(appearance[0].numel())).softmax(dim=1)
        trend = (weights[:, :, None, None, None] * motions).sum(1)
        recent = self.recent(motion).sigmoid()
        augmented = recent * motion + (1 - recent) * trend
        gate_t, t_to_t, t_to_s = self.of_motion(augmented).chunk(3, dim=1)
        gate_s, s_to_t, s_to_s = self.of_appearance(appearance).chunk(3, dim=1)
        gate_t, gate_s = gate_t.sigmoid(), gate_s.sigmoid()
        return gate_t * t_to_t + (1 - gate_t) * s_to_t, gate_s * s_to_s + (1 - gate_s) * t_to_s


class MAUState(NamedTuple):
    """What a layer remembers: the last tau motions and appearances, oldest first, each (n, tau, hidden, h, w)."""

    motions: Tensor
    appearances: Tensor


class MAU(RecurrentPredictor[list[MAUState]]):
    """An encoder that quarters the sides of a frame, layers of MAU cells, and a decoder that undoes it.

    As in OpenSTL for Moving-MNIST, the encoder's maps are not added in the decoder ("information recalling"). At its
    default size, for grey frames of 64x64, it has 4,475,329 parameters (published by OpenSTL: 4.5 M).

    Args:
        channels: Channels of the frames.
        inputs: Number of past frames.
        outputs: Number of future frames.
        height: Height of the frames in pixels, a multiple of 4.
        width: Width of the frames in pixels, a multiple of 4.
        hidden: Channels of every layer.
        layers: Number of layers.
        kernel: Side of the kernels, odd.
        tau: Number of time steps that a layer looks back.

    References:
        Chang, Zhang, Wang, Ma, Ye, Xiang, Gao: MAU: A Motion-Aware Unit for Video Prediction and Beyond,
        NeurIPS 2021.
    """

    def __init__(
        self,
        channels: int,
        inputs: int,
        outputs: int,
        height: int,
        width: int,
        *,
        hidden: int = 64,
        layers: int = 4,
        kernel: int = 5,
        tau: int = 5,
    ) -> None:
        super().__init__(inputs, outputs, patch=1)
        self.hidden = hidden
        self.tau = tau
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(hidden, hidden, 3, stride=2, padding=1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(hidden, hidden, 3, stride=2, padding=1),
            nn.LeakyReLU(_SLOPE),
        )
        self.cells = nn.ModuleList(MAUCell(hidden, height // _SCALE, width // _SCALE, kernel) for _ in range(layers))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(hidden, hidden, 3, stride=2, padding=1, output_padding=1),
            nn.LeakyReLU(_SLOPE),
            nn.ConvTranspose2d(hidden, hidden, 3, stride=2, padding=1, output_padding=1),
            nn.Conv2d(hidden, channels, 1),
        )

    def start(self, frame: Tensor) -> list[MAUState]:
        """Return motions and appearances of zero for every layer."""
        height, width = (side // _SCALE for side in frame.shape[2:])
        zeros = frame.new_zeros(len(frame), self.tau, self.hidden, height, width)
        return [MAUState(zeros, zeros)] * len(self.cells)

    def step(self, frame: Tensor, state: list[MAUState]) -> tuple[Tensor, list[MAUState]]:
        """Pass the appearance of a frame up through the layers."""
        appearance, new = self.encoder(frame), []
        for cell, (motions, appearances) in zip(self.cells, state, strict=True):
            below = appearance
            motion, appearance = cell(below, motions, appearances)
            new.append(MAUState(_pushed(motions, motion), _pushed(appearances, below)))
        return self.decoder(appearance), new


def _pushed(history: Tensor, latest: Tensor) -> Tensor:
    """Drop the oldest of the maps (n, tau, c, h, w) and append the latest (n, c, h, w)."""
    return torch.cat((history[:, 1:], latest.unsqueeze(1)), dim=1)
