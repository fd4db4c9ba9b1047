"""What recurrent predictors share: the loop over time, patches of pixels as channels, and scheduled sampling."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from switch_ema.tasks.video.models.base import Predictor

State = TypeVar("State")

SAMPLING_STOP = 0.4
"""Share of training after which no true future frame is shown: 50,000 of the 200 epochs of 625 steps in OpenSTL."""

_ONE = 2**24  # a share of 1; whole numbers, which averages of weights copy instead of averaging


class RecurrentPredictor(Predictor, Generic[State]):
    """Predicts the next frame at every step, and goes on from its own frames when the true ones end.

    Scheduled sampling: in training, each future frame that goes in is the true one with probability eta, drawn anew
    for each video and step from torch's global random generator, and else the predicted one, through which
    gradients flow. At progress p of training

        eta(p) = max(0, 1 - p / 0.4)

    It is kept in a buffer, so that training goes on from a checkpoint with the same share.

    Args:
        inputs: Number of past frames, at least 1.
        outputs: Number of future frames, at least 1.
        patch: Side of the square patches whose pixels are folded into channels, which divides height and width.

    References:
        Bengio, Vinyals, Jaitly, Shazeer: Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks,
        arXiv:1506.03099, 2015.
    """

    true_share: Tensor

    def __init__(self, inputs: int, outputs: int, patch: int) -> None:
        super().__init__(inputs, outputs)
        self.patch = patch
        self.register_buffer("true_share", torch.tensor(_ONE))

    @abstractmethod
    def start(self, frame: Tensor) -> State:
        """Return the state before the first frame (n, c * patch**2, h / patch, w / patch)."""

    @abstractmethod
    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the predicted next frame, folded like `frame`, and the new state."""

    def forward(self, past: Tensor, future: Tensor | None = None) -> Tensor:
        """Predict inputs + outputs - 1 frames: all but the first of past and future (see `Predictor.forward`)."""
        known = F.pixel_unshuffle(past, self.patch).unbind(1)
        shown = [None] * self.outputs if future is None or not self.training else self._draw(future)
        state = self.start(known[0])
        predictions: list[Tensor] = []
        for t in range(self.inputs + self.outputs - 1):
            if t < self.inputs:
                frame = known[t]
            else:
                drawn = shown[t - self.inputs]
                frame = predictions[-1] if drawn is None else torch.where(drawn[0], drawn[1], predictions[-1])
            prediction, state = self.step(frame, state)
            predictions.append(prediction)
        return F.pixel_shuffle(torch.stack(predictions, dim=1), self.patch)

    def schedule(self, progress: float) -> None:
        """Set the share of true future frames for the progress of training, 0 to 1."""
        self.true_share.fill_(round(_ONE * max(0.0, 1 - progress / SAMPLING_STOP)))

    def _draw(self, future: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        """Return for each future frame whether it is shown (n, 1, 1, 1), and the frame itself, folded."""
        draws = torch.randint(_ONE, (len(future), self.outputs, 1, 1, 1), device=future.device)
        shown = draws < self.true_share
        return list(zip(shown.unbind(1), F.pixel_unshuffle(future, self.patch).unbind(1), strict=True))
