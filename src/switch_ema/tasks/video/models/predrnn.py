"""PredRNN: ConvLSTM layers with a second memory that climbs through all of them and on to the next time step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from switch_ema.tasks.video.models.convlstm import same_conv
from switch_ema.tasks.video.models.recurrent import RecurrentPredictor

_FORGET_BIAS = 1.0  # keeps both memories open at the start of training


class STLSTMCell(nn.Module):
    """One layer of a PredRNN at one time step: a spatiotemporal LSTM.

    With `*` a convolution, `.` an elementwise product, s the sigmoid, input x, output H, cell state C of this layer
    and spatiotemporal memory M of the layer below,

        i = s(Wxi * x + Whi * H)        f = s(Wxf * x + Whf * H + 1)        g = tanh(Wxg * x + Whg * H)
        i' = s(W'xi * x + Wmi * M)      f' = s(W'xf * x + Wmf * M + 1)      g' = tanh(W'xg * x + Wmg * M)
        C' = f . C + i . g              M' = f' . M + i' . g'
        o = s(Wxo * x + Who * H + Wo * [C', M'])        H' = o . tanh(W1x1 * [C', M'])

    Args:
        in_channels: Channels of x.
        hidden: Channels of H, C and M.
        kernel: Side of the kernels, odd.

    References:
        Wang, Wu, Zhang, Gao, Wang, Yu, Long: PredRNN: A Recurrent Neural Network for Spatiotemporal Predictive
        Learning, arXiv:2103.09504, 2021 (equation 3; first at NIPS 2017).
    """

    def __init__(self, in_channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.of_input = same_conv(in_channels, 7 * hidden, kernel)
        self.of_output = same_conv(hidden, 4 * hidden, kernel)
        self.of_memory = same_conv(hidden, 3 * hidden, kernel)
        self.gate = same_conv(2 * hidden, hidden, kernel)
        self.merge = same_conv(2 * hidden, hidden, 1)

    def forward(self, x: Tensor, output: Tensor, cell: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map x (n, in_channels, h, w), H, C and M (n, hidden, h, w) to the new H, C and M."""
        hidden = cell.shape[1]
        for_cell, for_memory = self.of_input(x).split((4 * hidden, 3 * hidden), dim=1)
        i, f, g, o = (for_cell + self.of_output(output)).chunk(4, dim=1)
        cell = (f + _FORGET_BIAS).sigmoid() * cell + i.sigmoid() * g.tanh()
        i, f, g = (for_memory + self.of_memory(memory)).chunk(3, dim=1)
        memory = (f + _FORGET_BIAS).sigmoid() * memory + i.sigmoid() * g.tanh()
        both = torch.cat((cell, memory), dim=1)
        return (o + self.gate(both)).sigmoid() * self.merge(both).tanh(), cell, memory


class PredRNNState(NamedTuple):
    """Output and cell state of every layer, and the memory as the last layer left it, each (n, hidden, h, w)."""

    layers: list[tuple[Tensor, Tensor]]
    memory: Tensor


class PredRNN(RecurrentPredictor[PredRNNState]):
    """Layers of ST-LSTM cells, and a 1x1 convolution that reads the next frame off the last one.

    The memory zigzags: up from layer to layer, then from the last layer to the first one of the next time step. At
    its default size, for grey frames, it has 23,838,720 parameters (published by OpenSTL: 23.8 M).

    Args:
        channels: Channels of the frames.
        inputs: Number of past frames.
        outputs: Number of future frames.
        hidden: Channels of every layer.
        layers: Number of layers.
        kernel: Side of the kernels, odd.
        patch: Side of the patches whose pixels are folded into channels.

    References:
        Wang, Long, Wang, Gao, Yu: PredRNN: Recurrent Neural Networks for Predictive Learning using Spatiotemporal
        LSTMs, NIPS 2017.
        Wang, Wu, Zhang, Gao, Wang, Yu, Long: PredRNN: A Recurrent Neural Network for Spatiotemporal Predictive
        Learning, arXiv:2103.09504, 2021.
    """

    def __init__(
        self,
        channels: int,
        inputs: int,
        outputs: int,
        *,
        hidden: int = 128,
        layers: int = 4,
        kernel: int = 5,
        patch: int = 4,
    ) -> None:
        super().__init__(inputs, outputs, patch)
        folded = channels * patch**2
        self.hidden = hidden
        self.cells = nn.ModuleList(STLSTMCell(hidden if i else folded, hidden, kernel) for i in range(layers))
        self.readout = nn.Conv2d(hidden, folded, 1, bias=False)

    def start(self, frame: Tensor) -> PredRNNState:
        """Return H = C = M = 0 for every layer."""
        zeros = frame.new_zeros(len(frame), self.hidden, *frame.shape[2:])
        return PredRNNState([(zeros, zeros)] * len(self.cells), zeros)

    def step(self, frame: Tensor, state: PredRNNState) -> tuple[Tensor, PredRNNState]:
        """Pass a frame and the memory up through the layers."""
        x, memory, layers = frame, state.memory, []
        for layer, (output, cell) in zip(self.cells, state.layers, strict=True):
            x, new_cell, memory = layer(x, output, cell, memory)
            layers.append((x, new_cell))
        return self.readout(x), PredRNNState(layers, memory)
