"""What every language model here has in common: its output, and the loss of every token."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, log_softmax

from switch_ema.errors import FieldError

State = list[tuple[Tensor, Tensor]]
"""What a recurrent network carries on: hidden and cell state of each layer, (1, n, units) each."""


class LanguageModel(nn.Module):
    """A network that says how likely each token is to come next.

    The output is a softmax whose weight is that of the embedding ("tied"), so this is one parameter, or an adaptive
    softmax with weights of its own, where words are numbered by frequency.

    Args:
        vocabulary_size: Number of different tokens.
        num_features: Length of a token's vector.
        adaptive: Whether the output is an adaptive softmax.
        bias: Whether the tied softmax has a bias.

    Attributes:
        recurrent: Whether the network carries a state on from one piece of a text to the next.

    Raises:
        FieldError: There are too few words for an adaptive softmax.

    References:
        Press, Wolf: Using the Output Embedding to Improve Language Models, arXiv:1608.05859, 2016.
        Grave, Joulin, Cissé, Grangier, Jégou: Efficient softmax approximation for GPUs, arXiv:1609.04309, 2016.
    """

    recurrent: bool

    def __init__(self, vocabulary_size: int, num_features: int, *, adaptive: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.bias = nn.Parameter(torch.zeros(vocabulary_size)) if bias and not adaptive else None
        self.adaptive = (
            nn.AdaptiveLogSoftmaxWithLoss(num_features, vocabulary_size, cutoffs(vocabulary_size), head_bias=True)
            if adaptive
            else None
        )

    @abstractmethod
    def features(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        """Return the vectors (n, time, features) from which the next tokens are told, and the state after the last."""

    @abstractmethod
    def tied_weight(self) -> Tensor:
        """Return the weight of the embedding, (vocabulary_size, features)."""

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each target, as `score` does from a fresh state."""
        return self.score(tokens, targets)[0]

    def score(self, tokens: Tensor, targets: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """Return minus the logarithm of the probability of each target.

        Args:
            tokens: int64 of shape (n, time).
            targets: The tokens that follow each of them, int64 of the same shape.
            state: What a recurrent network carried on, or None for a fresh one.

        Returns:
            Losses in nats, float32 of shape (n, time), and the state after the last token.
        """
        hidden, state = self.features(tokens, state)
        flat, wanted = hidden.flatten(0, 1), targets.flatten()
        if self.adaptive is None:
            losses = cross_entropy(self._logits(flat), wanted, reduction="none")
        else:
            with torch.autocast(flat.device.type, enabled=False):
                losses = -self.adaptive(flat.float(), wanted).output
        return losses.view(targets.shape), state

    def predict(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """Return the log-probabilities of the token that follows the last one, (n, vocabulary_size), and the state."""
        hidden, state = self.features(tokens, state)
        last = hidden[:, -1]
        if self.adaptive is None:
            return log_softmax(self._logits(last), -1), state
        with torch.autocast(last.device.type, enabled=False):
            return self.adaptive.log_prob(last.float()), state

    def _logits(self, hidden: Tensor) -> Tensor:
        return linear(hidden, self.tied_weight(), self.bias).float()


def cutoffs(vocabulary_size: int) -> list[int]:
    """Return where the two clusters of rare words of an adaptive softmax begin: at a tenth and a half of the words.

    Raises:
        FieldError: There are fewer than ten words.

    Example:
        >>> cutoffs(10_000)
        [1000, 5000]
    """
    if vocabulary_size < 10:
        raise FieldError("adaptive_softmax", f"true: {vocabulary_size} words are too few for it; leave it out")
    return [vocabulary_size // 10, vocabulary_size // 2]
