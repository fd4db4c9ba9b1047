"""What the report shows of a language model: where a text surprises it, and how it goes on with one."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from switch_ema.bench.exhibit import Passage
from switch_ema.data.text.corpus import END_OF_LINE
from switch_ema.data.text.vocabulary import Vocabulary
from switch_ema.tasks.language.evaluation import token_losses
from switch_ema.tasks.language.model import LanguageModel

_SHOWN = {"byte": 700, "word": 160}  # tokens of the test text
_WRITTEN = {"byte": 240, "word": 60}  # tokens of the continuation
_SEED = 20240214
_PROMPT_SHADE = 0.35


def passages(
    model: LanguageModel, text: Tensor, context: int, vocabulary: Vocabulary | None, counts: str
) -> tuple[Passage, Passage]:
    """Make the two passages.

    The first is the beginning of the text; the shade of a token is its loss as a share of that of guessing among all
    tokens alike, at most 1. The second is a beginning of `context` tokens and what the network writes after it: the
    first token whose cumulative probability exceeds a random number, which is the same for every network.

    Args:
        model: The network, in evaluation mode.
        text: Held-out text, integers of shape (n,), on the network's device.
        context: Tokens in a training example.
        vocabulary: The words; None where tokens are bytes.
        counts: A sentence that says how many tokens there are.

    Returns:
        Surprise and continuation.
    """
    level = "byte" if vocabulary is None else "word"
    size = 256 if vocabulary is None else len(vocabulary)
    shown = text[: _SHOWN[level]]
    losses = torch.nan_to_num(token_losses(model, shown, context), nan=math.inf) / math.log(size)
    shades = [0.0, *losses.clamp(0, 1).tolist()]
    prompt = text[:context]
    written = continuation(model, prompt, _WRITTEN[level], context)
    shaded = [_PROMPT_SHADE] * len(prompt) + [0.0] * len(written)
    return (
        Passage(
            "surprise",
            "Where the text surprises the model",
            f"The beginning of the test text. The darker a token, the less likely the model held it: full shade is the "
            f"loss of guessing among all {size:,} tokens. {counts}",
            pieces(shown.tolist(), shades, vocabulary),
        ),
        Passage(
            "continuation",
            "How the model goes on",
            "Shaded: the beginning of the test text. The rest is drawn from the model's probabilities, with the same "
            "random numbers for every method.",
            pieces([*prompt.tolist(), *written], shaded, vocabulary),
        ),
    )


@torch.no_grad()
def continuation(model: LanguageModel, prompt: Tensor, length: int, context: int) -> list[int]:
    """Draw tokens one after the other, from a fixed sequence of random numbers.

    Args:
        model: The network, in evaluation mode.
        prompt: The tokens to go on from, integers of shape (n,), n at least 1.
        length: How many tokens to draw.
        context: How many of the last tokens a network without a state sees.

    Returns:
        The tokens drawn.
    """
    numbers = torch.rand(length, generator=torch.Generator().manual_seed(_SEED), dtype=torch.float64)
    tokens, fresh, state = prompt.long(), prompt.long(), None
    for number in numbers.to(prompt.device):
        log_probs, state = model.predict(fresh[None], state)
        cumulative = log_probs[0].double().exp().cumsum(0)
        drawn = torch.searchsorted(cumulative, number * cumulative[-1]).clamp(max=len(cumulative) - 1)
        tokens = torch.cat([tokens, drawn[None]])
        fresh = tokens[-1:] if model.recurrent else tokens[-context:]
    written: list[int] = tokens[len(prompt) :].tolist()
    return written


def pieces(tokens: Iterable[int], shades: Sequence[float], vocabulary: Vocabulary | None) -> list[tuple[str, float]]:
    """Turn tokens into text: of bytes, whole characters with the shade of the darkest byte; of words, with a blank.

    Example:
        >>> pieces("a\u00e9".encode(), [0.1, 0.2, 0.3], None)
        [('a', 0.1), ('é', 0.3)]
    """
    if vocabulary is not None:
        texts = ("\n" if word == END_OF_LINE else f"{word} " for word in vocabulary.decode(tokens))
        return list(zip(texts, shades, strict=True))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    made: list[tuple[str, float]] = []
    waiting = 0.0
    for byte, shade in zip(tokens, shades, strict=True):
        waiting = max(waiting, shade)
        if text := decoder.decode(bytes([byte])):
            made.append((text, waiting))
            waiting = 0.0
    return made
