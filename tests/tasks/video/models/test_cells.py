"""Cells and attentions equal slow twins in float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from switch_ema.tasks.video.models.convlstm import ConvLSTM, ConvLSTMCell
from switch_ema.tasks.video.models.gsta import AttentionBlock, GatedAttention
from switch_ema.tasks.video.models.incepu import InceptionBlock, InceptionUNet
from switch_ema.tasks.video.models.mau import MAU, MAUCell
from switch_ema.tasks.video.models.predrnn import PredRNN, STLSTMCell
from switch_ema.tasks.video.models.simvp import SimVP
from switch_ema.tasks.video.models.tau import TemporalAttention
from tests.tasks.video.models import twins


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def close(got: Tensor, expected: twins.Array) -> None:
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def maps(channels: int, n: int = 2) -> Tensor:
    return torch.randn(n, channels, 3, 4)


def test_convlstm_cell() -> None:
    cell = ConvLSTMCell(2, 3, kernel=3)
    x, h, c = maps(2), maps(3), maps(3)
    new = cell(x, h, c)
    for k in range(2):
        for got, expected in zip(new, twins.convlstm(cell, *map(twins.array, (x[k], h[k], c[k]))), strict=True):
            close(got[k], expected)


def test_st_lstm_cell() -> None:
    cell = STLSTMCell(2, 3, kernel=3)
    x, h, c, m = maps(2), maps(3), maps(3), maps(3)
    new = cell(x, h, c, m)
    for k in range(2):
        for got, expected in zip(new, twins.st_lstm(cell, *map(twins.array, (x[k], h[k], c[k], m[k]))), strict=True):
            close(got[k], expected)


def test_mau_cell() -> None:
    cell = MAUCell(3, 3, 4, kernel=3)
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    s, motions, appearances = maps(3), torch.randn(2, 4, 3, 3, 4), torch.randn(2, 4, 3, 3, 4)
    new = cell(s, motions, appearances)
    for k in range(2):
        expected_maps = twins.mau(cell, *map(twins.array, (s[k], motions[k], appearances[k])))
        for got, expected in zip(new, expected_maps, strict=True):
            close(got[k], expected)


def fold(frame: Tensor, patch: int) -> Tensor:
    n, c, h, w = frame.shape
    cells = frame.reshape(n, c, h // patch, patch, w // patch, patch)
    return cells.permute(0, 1, 3, 5, 2, 4).reshape(n, c * patch**2, h // patch, w // patch)


def test_convlstm_stacks_its_layers() -> None:
    model = ConvLSTM(1, 2, 2, hidden=3, layers=2, kernel=3, patch=2)
    past = torch.rand(2, 2, 1, 8, 8)
    zeros = torch.zeros(2, 3, 4, 4)
    h1, c1, h2, c2 = [zeros] * 4
    lower, upper = model.cells
    frame, folded = fold(past[:, 0], 2), []
    for t in range(3):
        h1, c1 = lower(frame, h1, c1)
        h2, c2 = upper(h1, h2, c2)
        folded.append(model.readout(h2))
        frame = fold(past[:, 1], 2) if t == 0 else folded[-1]
    predicted = model(past)
    for t in range(3):
        torch.testing.assert_close(fold(predicted[:, t], 2), folded[t])


def test_predrnn_memory_zigzags() -> None:
    model = PredRNN(1, 2, 2, hidden=3, layers=2, kernel=3, patch=2)
    past = torch.rand(2, 2, 1, 8, 8)
    zeros = torch.zeros(2, 3, 4, 4)
    h1, c1, h2, c2, m = [zeros] * 5
    lower, upper = model.cells
    frame, folded = fold(past[:, 0], 2), []
    for t in range(3):
        h1, c1, m = lower(frame, h1, c1, m)
        h2, c2, m = upper(h1, h2, c2, m)
        folded.append(model.readout(h2))
        frame = fold(past[:, 1], 2) if t == 0 else folded[-1]
    predicted = model(past)
    for t in range(3):
        torch.testing.assert_close(fold(predicted[:, t], 2), folded[t])


def test_mau_remembers_tau_steps() -> None:
    model = MAU(1, 4, 2, 8, 8, hidden=3, layers=2, kernel=3, tau=2)
    past = torch.rand(2, 4, 1, 8, 8)
    zeros = torch.zeros(2, 3, 2, 2)
    motions, appearances = [[zeros, zeros], [zeros, zeros]], [[zeros, zeros], [zeros, zeros]]
    frames: list[Tensor] = []
    for t in range(5):
        below = model.encoder(past[:, t] if t < 4 else frames[-1])
        for k, cell in enumerate(model.cells):
            history = torch.stack(motions[k][-2:], dim=1), torch.stack(appearances[k][-2:], dim=1)
            motion, above = cell(below, *history)
            motions[k].append(motion)
            appearances[k].append(below)
            below = above
        frames.append(model.decoder(below))
    torch.testing.assert_close(model(past), torch.stack(frames, dim=1))


def large(module: torch.nn.Module, x: Tensor) -> Tensor:
    w = dict(module.named_parameters())
    groups = x.shape[1]
    x = F.conv2d(x, w["0.weight"], w["0.bias"], padding=2, groups=groups)
    x = F.conv2d(x, w["1.weight"], w["1.bias"], padding=9, dilation=3, groups=groups)
    return torch.einsum("oc,nchw->nohw", w["2.weight"][:, :, 0, 0], x) + w["2.bias"][:, None, None]


def test_gated_attention() -> None:
    attention = GatedAttention(4)
    x = maps(4)
    y = large(attention.large, x)
    torch.testing.assert_close(attention(x), y[:, :4] / (1 + (-y[:, 4:]).exp()))


def test_temporal_attention() -> None:
    attention = TemporalAttention(8)
    first, second = (parameter for parameter in attention.between.parameters())
    x = maps(8)
    means = x.flatten(2).mean(2)
    between = torch.sigmoid((means @ first.T).clamp(min=0) @ second.T)
    torch.testing.assert_close(attention(x), between[:, :, None, None] * large(attention.within, x) * x)


def test_attention_block_is_nearly_the_identity_at_first() -> None:
    block = AttentionBlock(4, 2, GatedAttention(4))
    x = maps(4)
    change = block(x) - x
    assert 0 < float(change.detach().abs().max()) < 0.5
    torch.nn.init.zeros_(block.scale1)
    torch.nn.init.zeros_(block.scale2)
    torch.testing.assert_close(block(x), x)


def test_inception_block() -> None:
    block = InceptionBlock(4, 16)
    x = maps(4)
    w = dict(block.named_parameters())
    squeezed = F.conv2d(x, w["squeeze.weight"], w["squeeze.bias"])
    expected = torch.zeros(2, 16, 3, 4)
    for k, kernel in enumerate((3, 5, 7, 11)):
        y = F.conv2d(squeezed, w[f"branches.{k}.0.weight"], w[f"branches.{k}.0.bias"], padding=kernel // 2, groups=8)
        groups = y.unflatten(1, (8, 2)).flatten(2)
        deviation = groups.var(2, unbiased=False, keepdim=True).add(1e-5).sqrt()
        y = ((groups - groups.mean(2, keepdim=True)) / deviation).reshape(y.shape)
        expected += torch.where(y > 0, y, 0.2 * y)
    torch.testing.assert_close(block(x), expected)


def test_inception_u_net_mirrors_its_skips() -> None:
    net = InceptionUNet(8, 16, blocks=3)
    x = maps(8)
    first = net.down[0](x)
    second = net.down[1](first)
    y = net.up[0](net.down[2](second))
    y = net.up[1](torch.cat((y, second), dim=1))
    torch.testing.assert_close(net(x), net.up[2](torch.cat((y, first), dim=1)))


def test_simvp_adds_the_first_maps_of_each_frame() -> None:
    translator = torch.nn.Conv2d(3 * 4, 3 * 4, 1)
    model = SimVP(1, 3, 3, translator, hidden=4)
    past = torch.rand(2, 3, 1, 8, 8)
    details = [model.stem(past[:, t]) for t in range(3)]
    translated = translator(torch.cat([model.encoder(maps) for maps in details], dim=1)).chunk(3, dim=1)
    predicted = model(past)
    for t in range(3):
        torch.testing.assert_close(
            predicted[:, t], model.readout(model.head(model.decoder(translated[t]) + details[t]))
        )
