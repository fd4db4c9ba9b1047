"""SimVP: convolutions alone, over all past frames at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from switch_ema.tasks.video.models.base import Predictor

_GROUPS = 2


class SimVP(Predictor):
    """An encoder for each frame, a translator over all of them, and a decoder for each frame.

    The frames' maps are laid side by side as channels, and the translator turns those of the past into those of the
    future; the first layer's maps of each past frame go to the decoder of the future frame of the same number. One
    pass gives as many frames as went in: fewer wanted ones are the first of them, more come from further passes over
    the predicted ones.

    Args:
        channels: Channels of the frames.
        inputs: Number of past frames.
        outputs: Number of future frames.
        translator: Maps (n, inputs * hidden, h / 4, w / 4) to the same shape.
        hidden: Channels of the maps of a frame, even.

    References:
        Gao, Tan, Wu, Li: SimVP: Simpler yet Better Video Prediction, arXiv:2206.05099, 2022.
        Tan, Gao, Li, Li: SimVP: Towards Simple yet Powerful Spatiotemporal Predictive Learning (v2),
        arXiv:2211.12509, 2022.
    """

    def __init__(self, channels: int, inputs: int, outputs: int, translator: nn.Module, *, hidden: int) -> None:
        super().__init__(inputs, outputs)
        self.stem = NormedConv(channels, hidden)
        self.encoder = nn.Sequential(
            NormedConv(hidden, hidden, stride=2), NormedConv(hidden, hidden), NormedConv(hidden, hidden, stride=2)
        )
        self.translator = translator
        self.decoder = nn.Sequential(
            NormedConv(hidden, hidden, enlarge=2), NormedConv(hidden, hidden), NormedConv(hidden, hidden, enlarge=2)
        )
        self.head = NormedConv(hidden, hidden)
        self.readout = nn.Conv2d(hidden, channels, 1)

    def forward(self, past: Tensor, future: Tensor | None = None) -> Tensor:
        """Predict `outputs` frames (see `Predictor.forward`); the true ones are not used."""
        passes = [self._next(past)]
        while len(passes) * self.inputs < self.outputs:
            passes.append(self._next(passes[-1]))
        return torch.cat(passes, dim=1)[:, : self.outputs]

    def _next(self, frames: Tensor) -> Tensor:
        """Map frames (n, inputs, c, h, w) to as many next ones."""
        n = len(frames)
        details = self.stem(frames.flatten(0, 1))
        maps: Tensor = self.encoder(details)
        translated = self.translator(maps.unflatten(0, (n, -1)).flatten(1, 2)).reshape(maps.shape)
        predicted: Tensor = self.readout(self.head(self.decoder(translated) + details))
        return predicted.reshape(frames.shape)


class NormedConv(nn.Sequential):
    """A 3x3 convolution, group norm and SiLU; a stride makes the map smaller, pixel shuffling makes it larger.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result, even.
        stride: Factor by which the sides shrink.
        enlarge: Factor by which the sides grow.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, enlarge: int = 1) -> None:
        conv = nn.Conv2d(in_channels, out_channels * enlarge**2, 3, stride, padding=1)
        nn.init.trunc_normal_(conv.weight, std=0.02)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        shuffle = [nn.PixelShuffle(enlarge)] if enlarge > 1 else []
        super().__init__(conv, *shuffle, nn.GroupNorm(_GROUPS, out_channels), nn.SiLU())
