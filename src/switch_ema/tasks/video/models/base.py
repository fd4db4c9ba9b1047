"""What every video predictor offers the task."""

from __future__ import annotations

from torch import Tensor, nn


class Predictor(nn.Module):
    """Predicts the next frames of a video from the last ones: `future = f(past)`.

    A predictor answers with k frames, of which the last `outputs` are the future. Networks that see all frames at
    once have k = outputs; recurrent ones, which predict the next frame at every step, have k = inputs + outputs - 1.
    The loss of training is the mean squared error against the last k true frames of past and future together, plus
    `extra_loss` where there is one.

    Args:
        inputs: Number of past frames, at least 1.
        outputs: Number of future frames, at least 1.

    Attributes:
        inputs: Number of past frames.
        outputs: Number of future frames.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs

    def forward(self, past: Tensor, future: Tensor | None = None) -> Tensor:
        """Predict frames.

        Args:
            past: Past frames (n, inputs, c, h, w) in [0, 1].
            future: True future frames (n, outputs, c, h, w), for scheduled sampling (see `schedule`). They count in
                training alone; without them, and in evaluation, a recurrent network goes on from its own frames.

        Returns:
            Frames (n, k, c, h, w), not clamped to [0, 1].
        """
        raise NotImplementedError

    def schedule(self, progress: float) -> None:
        """Set how often training shows a recurrent network true future frames; the others have no use for it.

        Args:
            progress: Completed steps as a share of all, 0 to 1.
        """

    def extra_loss(self, predicted: Tensor, truth: Tensor) -> Tensor | None:
        """Return what is to be added to the mean squared error in training, weighted; None where there is nothing.

        Args:
            predicted: Frames (n, k, c, h, w) that `forward` returned.
            truth: The true ones, of the same shape.
        """
        return None
