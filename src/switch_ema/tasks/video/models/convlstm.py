"""ConvLSTM: an LSTM whose states are maps and whose products are convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from switch_ema.tasks.video.models.recurrent import RecurrentPredictor


class ConvLSTMCell(nn.Module):
    """One layer of a ConvLSTM at one time step.

    With `*` a convolution, `.` an elementwise product, s the sigmoid, input x, output H and cell state C,

        i = s(Wxi * x + Whi * H)    f = s(Wxf * x + Whf * H)    g = tanh(Wxg * x + Whg * H)
        o = s(Wxo * x + Who * H)    C' = f . C + i . g          H' = o . tanh(C')

    There are neither biases nor the paper's peephole weights, as in OpenSTL.

    Args:
        in_channels: Channels of x.
        hidden: Channels of H and C.
        kernel: Side of the kernels, odd.

    References:
        Shi, Chen, Wang, Yeung, Wong, Woo: Convolutional LSTM Network: A Machine Learning Approach for Precipitation
        Nowcasting, arXiv:1506.04214, 2015 (equation 3).
    """

    def __init__(self, in_channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.of_input = same_conv(in_channels, 4 * hidden, kernel)
        self.of_output = same_conv(hidden, 4 * hidden, kernel)

    def forward(self, x: Tensor, output: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (n, in_channels, h, w), H and C (n, hidden, h, w) to the new H and C."""
        i, f, g, o = (self.of_input(x) + self.of_output(output)).chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class ConvLSTM(RecurrentPredictor[list[tuple[Tensor, Tensor]]]):
    """Layers of ConvLSTM cells, and a 1x1 convolution that reads the next frame off the last one.

    At its default size, for grey frames, it has 11,675,648 parameters. OpenSTL's ConvLSTM-S, with the same settings
    and computations, is published with 15.0 M: each of its layers also holds 851,968 weights that are never used.

    Args:
        channels: Channels of the frames.
        inputs: Number of past frames.
        outputs: Number of future frames.
        hidden: Channels of every layer.
        layers: Number of layers.
        kernel: Side of the kernels, odd.
        patch: Side of the patches whose pixels are folded into channels.

    References:
        Shi, Chen, Wang, Yeung, Wong, Woo: Convolutional LSTM Network: A Machine Learning Approach for Precipitation
        Nowcasting, arXiv:1506.04214, 2015.
        Tan, Li, Gao, Guan, Wang, Liu, Wu, Li: OpenSTL: A Comprehensive Benchmark of Spatio-Temporal Predictive
        Learning, arXiv:2306.11249, 2023 (settings).
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
        self.cells = nn.ModuleList(ConvLSTMCell(hidden if i else folded, hidden, kernel) for i in range(layers))
        self.readout = nn.Conv2d(hidden, folded, 1, bias=False)

    def start(self, frame: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return H = C = 0 for every layer."""
        zeros = frame.new_zeros(len(frame), self.hidden, *frame.shape[2:])
        return [(zeros, zeros)] * len(self.cells)

    def step(self, frame: Tensor, state: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Pass a frame up through the layers; the state is (H, C) of each."""
        x, new = frame, []
        for layer, (output, cell) in zip(self.cells, state, strict=True):
            new.append(layer(x, output, cell))
            x = new[-1][0]
        return self.readout(x), new


def same_conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    """Make a convolution without bias that keeps the size of the map; the kernel is odd."""
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
