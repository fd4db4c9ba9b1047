"""The loss of every token of a text but the first, each counted once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from switch_ema.tasks.language.model import LanguageModel, State

_STREAMS = 32  # pieces of a text that a recurrent network reads side by side
_SHORTEST = 8  # contexts in a piece: what is read twice is at most an eighth
_TOKENS = 8192  # tokens in one call
_LOGITS = 2**27  # numbers that they may take: half a gigabyte


@torch.no_grad()
def token_losses(model: LanguageModel, tokens: Tensor, context: int) -> Tensor:
    """Return minus the logarithm of the probability of every token but the first, given tokens before it.

    A recurrent network reads the text in its order and carries its state on. To save time the text is cut into up to
    32 equal pieces that are read side by side, none shorter than 8 contexts; before each piece but the first, the
    network reads the `context` tokens that precede it, uncounted. So each token is told from all tokens from there on.

    Any other network sees windows of `context` tokens that move on by half of it (the last by less); counted is what
    no window before has told. So each token is told from at least ``context - context // 2 + 1`` tokens before it (of
    a context of 1 from one), or from all where there are fewer.

    Args:
        model: The network, in evaluation mode.
        tokens: The text, integers of shape (n,), n at least 2, on the network's device.
        context: Tokens in a training example, at least 1.

    Returns:
        Losses in nats, float32 of shape (n - 1,), in the order of the text.
    """
    tokens = tokens.long()
    losses = _carried(model, tokens, context) if model.recurrent else _windowed(model, tokens, context)
    return losses.float()


def measures(losses: Tensor, num_bytes: int) -> dict[str, float]:
    """Sum up the losses l of N tokens of a text of B bytes.

        loss = sum(l) / N    perplexity = exp(loss)    bits_per_byte = sum(l) / (B ln 2)

    Args:
        losses: Losses in nats, shape (N,).
        num_bytes: Length of the whole text, with its first token, at least 1.

    Returns:
        The three values; perplexity is infinite where the loss is too large for it.

    Example:
        >>> {name: round(value, 3) for name, value in measures(torch.full((6,), math.log(2)), num_bytes=12).items()}
        {'perplexity': 2.0, 'bits_per_byte': 0.5, 'loss': 0.693}
    """
    total = losses.double().sum().item()
    loss = total / len(losses)
    perplexity = math.exp(loss) if not loss > 700 else math.inf
    return {"perplexity": perplexity, "bits_per_byte": total / (num_bytes * math.log(2)), "loss": loss}


def _carried(model: LanguageModel, tokens: Tensor, context: int) -> Tensor:
    count = len(tokens) - 1
    streams = min(_STREAMS, max(1, count // (_SHORTEST * context)))
    length = -(-count // streams)
    padded = pad(tokens, (0, streams * length - count))
    inputs, targets = padded[:-1].view(streams, length), padded[1:].view(streams, length)
    state: State | None = None
    if streams > 1:
        _, before = model.score(inputs[:-1, -context:], targets[:-1, -context:])
        state = [(pad(hidden, (0, 0, 1, 0)), pad(cell, (0, 0, 1, 0))) for hidden, cell in before or ()]
    losses = []
    steps = _at_once(model, streams)
    for start in range(0, length, steps):
        part = slice(start, start + steps)
        told, state = model.score(inputs[:, part], targets[:, part], state)
        losses.append(told)
    return torch.cat(losses, 1).flatten()[:count]


def _windowed(model: LanguageModel, tokens: Tensor, context: int) -> Tensor:
    count = len(tokens) - 1
    length = min(context, count)
    stride = min(length, max(1, context // 2))
    windows = tokens.unfold(0, length + 1, stride)
    losses: list[Tensor] = []
    for batch in windows.split(_at_once(model, length)):
        told, _ = model.score(batch[:, :-1], batch[:, 1:])
        if not losses:
            losses.append(told[0, : length - stride])
        losses.append(told[:, -stride:].flatten())
    left = count - length - stride * (len(windows) - 1)
    if left:
        told, _ = model.score(tokens[None, -length - 1 : -1], tokens[None, -length:])
        losses.append(told[0, -left:])
    return torch.cat(losses)


def _at_once(model: LanguageModel, share: int) -> int:
    """Return how many times `share` tokens go through the network in one call."""
    return max(1, min(_TOKENS, _LOGITS // model.vocabulary_size) // share)
