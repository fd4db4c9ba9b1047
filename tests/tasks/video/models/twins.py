"""Cells written out loop by loop from the equations of the papers, in float64."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Array: TypeAlias = NDArray[np.float64]


def array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def conv(weight: Array, x: Array, bias: Array | None = None) -> Array:
    """Correlate maps (c, h, w) with kernels (out, c, k, k), zeros around the map."""
    outs, channels, size, _ = weight.shape
    _, height, width = x.shape
    y = np.zeros((outs, height, width))
    for o in range(outs):
        for row in range(height):
            for column in range(width):
                total = 0.0 if bias is None else bias[o]
                for c in range(channels):
                    for dy in range(size):
                        for dx in range(size):
                            r, q = row + dy - size // 2, column + dx - size // 2
                            if 0 <= r < height and 0 <= q < width:
                                total += weight[o, c, dy, dx] * x[c, r, q]
                y[o, row, column] = total
    return y


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def convlstm(cell: nn.Module, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    w = {name: array(parameter) for name, parameter in cell.named_parameters()}
    n = len(h)
    i, f, g, o = (
        conv(w["of_input.weight"][k * n : (k + 1) * n], x) + conv(w["of_output.weight"][k * n : (k + 1) * n], h)
        for k in range(4)
    )
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def st_lstm(cell: nn.Module, x: Array, h: Array, c: Array, m: Array) -> tuple[Array, Array, Array]:
    w = {name.split(".")[0]: array(parameter) for name, parameter in cell.named_parameters()}
    n = len(h)

    def part(name: str, k: int, maps: Array) -> Array:
        return conv(w[name][k * n : (k + 1) * n], maps)

    i = sigmoid(part("of_input", 0, x) + part("of_output", 0, h))
    f = sigmoid(part("of_input", 1, x) + part("of_output", 1, h) + 1)
    g = np.tanh(part("of_input", 2, x) + part("of_output", 2, h))
    c_new = f * c + i * g
    i = sigmoid(part("of_input", 4, x) + part("of_memory", 0, m))
    f = sigmoid(part("of_input", 5, x) + part("of_memory", 1, m) + 1)
    g = np.tanh(part("of_input", 6, x) + part("of_memory", 2, m))
    m_new = f * m + i * g
    both = np.concatenate([c_new, m_new])
    o = sigmoid(part("of_input", 3, x) + part("of_output", 3, h) + conv(w["gate"], both))
    return o * np.tanh(conv(w["merge"], both)), c_new, m_new


def mau(cell: nn.Module, s: Array, motions: Array, appearances: Array) -> tuple[Array, Array]:
    """Take S (c, h, w), and T and S of the last steps (tau, c, h, w), the latest last."""
    w = {name: array(parameter) for name, parameter in cell.named_parameters()}
    n = len(s)

    def normed(name: str, x: Array) -> Array:
        y = conv(w[f"{name}.0.weight"], x, w[f"{name}.0.bias"])
        y = (y - y.mean()) / math.sqrt(y.var() + 1e-5)
        scaled: Array = y * w[f"{name}.1.weight"] + w[f"{name}.1.bias"]
        return scaled

    query = normed("query", s)
    scores = [float((past * query).sum()) / math.sqrt(s.size) for past in appearances]
    total = sum(math.exp(score) for score in scores)
    trend = np.zeros_like(s)
    for score, past in zip(scores, motions, strict=True):
        trend += math.exp(score) / total * past
    t = motions[-1]
    u = sigmoid(normed("recent", t))
    augmented = u * t + (1 - u) * trend
    of_motion, of_appearance = normed("of_motion", augmented), normed("of_appearance", s)
    gate_t, gate_s = sigmoid(of_motion[:n]), sigmoid(of_appearance[:n])
    t_new = gate_t * of_motion[n : 2 * n] + (1 - gate_t) * of_appearance[n : 2 * n]
    s_new = gate_s * of_appearance[2 * n :] + (1 - gate_s) * of_motion[2 * n :]
    return t_new, s_new
