"""The LSTM of language modelling: weight dropout, dropout masks that last for a whole example, tied weights."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from switch_ema.tasks.language.model import LanguageModel, State

_EMBEDDING_RANGE = 0.1


class WeightDropLSTM(nn.Module):
    """One LSTM layer that forgets some of its recurrent weights in each forward pass.

    In training a share `weight_dropout` of the weights from hidden state to hidden state is 0 for all steps of the
    batch and the rest is divided by ``1 - weight_dropout`` (DropConnect); otherwise all weights are used as they are.
    The parameters are ordinary ones: what is dropped is a copy.

    Args:
        inputs: Length of the input vectors.
        units: Length of the hidden state.
        weight_dropout: Rate, 0 to below 1.

    References:
        Wan, Zeiler, Zhang, LeCun, Fergus: Regularization of Neural Networks using DropConnect, ICML 2013.
    """

    def __init__(self, inputs: int, units: int, weight_dropout: float) -> None:
        super().__init__()
        self.units = units
        self.weight_dropout = weight_dropout
        self.weight_ih = nn.Parameter(torch.empty(4 * units, inputs))
        self.weight_hh = nn.Parameter(torch.empty(4 * units, units))
        self.bias_ih = nn.Parameter(torch.empty(4 * units))
        self.bias_hh = nn.Parameter(torch.empty(4 * units))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(units), 1 / math.sqrt(units))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map inputs (n, time, inputs) to hidden states (n, time, units), and return the last state."""
        if state is None:
            zeros = x.new_zeros(1, len(x), self.units)
            state = zeros, zeros
        weights = [self.weight_ih, dropout(self.weight_hh, self.weight_dropout, self.training)]
        weights += [self.bias_ih, self.bias_hh]
        if x.is_cuda:
            weights = _in_one_block(weights)
        trains = torch.is_grad_enabled()  # else cuDNN keeps nothing for the backward pass
        output, hidden, cell = torch.lstm(x, state, weights, True, 1, 0.0, trains, False, True)
        return output, (hidden, cell)


def _in_one_block(weights: list[Tensor]) -> list[Tensor]:
    """Copy weights to one block of memory, as cuDNN wants them."""
    flat = torch.cat([weight.flatten() for weight in weights])
    parts = flat.split([weight.numel() for weight in weights])
    return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]


class LSTM(LanguageModel):
    """A language model in the manner of AWD-LSTM.

    Dropout in training: whole words of the embedding, all occurrences of a word in a batch alike; inputs of the first
    layer, outputs between layers and of the last layer with one mask for all time steps of an example ("locked" or
    "variational"); recurrent weights. With a tied softmax the last layer has as many units as the embedding.

    Args:
        vocabulary_size: Number of different tokens.
        layers: Number of layers.
        width: Units of a layer other than the last.
        embedding: Length of a token's vector, and units of the last layer.
        dropout: Rate at the output of the last layer, 0 to below 1, as all rates.
        input_dropout: Rate at the input of the first layer.
        hidden_dropout: Rate between layers.
        embedding_dropout: Rate of whole words.
        weight_dropout: Rate of recurrent weights.
        adaptive: Whether the output is an adaptive softmax.

    Example:
        >>> model = LSTM(256, layers=2, width=32, embedding=16, weight_dropout=0.5)
        >>> tokens = torch.zeros(3, 8, dtype=torch.int64)
        >>> model(tokens, tokens).shape
        torch.Size([3, 8])

    References:
        Merity, Keskar, Socher: Regularizing and Optimizing LSTM Language Models, arXiv:1708.02182, 2017.
        Gal, Ghahramani: A Theoretically Grounded Application of Dropout in RNNs, arXiv:1512.05287, 2015.
    """

    recurrent = True

    def __init__(
        self,
        vocabulary_size: int,
        *,
        layers: int,
        width: int,
        embedding: int,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        adaptive: bool = False,
    ) -> None:
        super().__init__(vocabulary_size, embedding, adaptive=adaptive)
        self.embedding = nn.Embedding(vocabulary_size, embedding)
        nn.init.uniform_(self.embedding.weight, -_EMBEDDING_RANGE, _EMBEDDING_RANGE)
        sizes = [embedding, *[width] * (layers - 1), embedding]
        self.layers = nn.ModuleList(WeightDropLSTM(inputs, units, weight_dropout) for inputs, units in pairwise(sizes))
        self.embedding_dropout = embedding_dropout
        self.rates = [input_dropout, *[hidden_dropout] * (layers - 1), dropout]

    def features(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return the outputs of the last layer, (n, time, embedding), and the state after the last token."""
        x = self._locked(self._embedded(tokens), self.rates[0])
        after: State = []
        layer: Any
        for number, layer in enumerate(self.layers):
            x, carried = layer(x, None if state is None else state[number])
            after.append(carried)
            x = self._locked(x, self.rates[number + 1])
        return x, after

    def tied_weight(self) -> Tensor:
        """Return the weight of the embedding."""
        return self.embedding.weight

    def _embedded(self, tokens: Tensor) -> Tensor:
        vectors: Tensor = self.embedding(tokens)
        if not self.training or not self.embedding_dropout:
            return vectors
        kept = dropout(vectors.new_ones(len(self.embedding.weight)), self.embedding_dropout)
        return vectors * kept[tokens].unsqueeze(2)

    def _locked(self, x: Tensor, rate: float) -> Tensor:
        if not self.training or not rate:
            return x
        return x * dropout(x.new_ones(len(x), 1, x.shape[2]), rate)
