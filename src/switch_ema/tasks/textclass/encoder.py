"""BERT's encoder from its configuration, with a vocabulary of words counted from the training texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from switch_ema.data.text.vocabulary import UNKNOWN, build, words

_SIZES = {
    "bert-small": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
    "bert-base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
}
_LENGTHS = {"bert-small": 64, "bert-base": 128}
_PAD, _CLS, _SEP = "[PAD]", "[CLS]", "[SEP]"
_MINIMUM = 2  # words that occur once teach the network what an unknown word is


class Encoder(Protocol):
    """What turns texts into tokens, and makes the network that takes them.

    Attributes:
        pad: The token that fills up short texts.
    """

    pad: int

    def encode(self, texts: Sequence[str]) -> Iterable[Sequence[int]]:
        """Return the tokens of each text, cut to the maximal length."""

    def build_model(self) -> nn.Module:
        """Make a new network, called with ``input_ids`` and ``attention_mask``, whose answer has ``logits``."""


class WordEncoder:
    """A BERT encoder whose tokens are words in small letters: ``[CLS] words [SEP]``.

    Args:
        model: ``bert-small`` or ``bert-base``.
        texts: The training texts, whose words are counted; those that occur once are unknown.
        num_classes: Number of classes.
        max_length: Tokens that a text is cut to, at least 3; None for 64 (``bert-small``) or 128 (``bert-base``).
        vocabulary: Largest number of words, [PAD], [CLS], [SEP] and the unknown word included.
        dropout: Share of the units and attention weights dropped in training, in [0, 1].

    Raises:
        InputError: The vocabulary leaves no room for a word.

    Example:
        >>> encoder = WordEncoder("bert-small", ["to be or not to be"], 2, max_length=6, vocabulary=100, dropout=0.1)
        >>> list(encoder.encode(["To sleep, to be?"]))
        [[1, 5, 3, 3, 5, 2]]

    References:
        Devlin, Chang, Lee and Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language
        Understanding", arXiv:1810.04805, 2018.
    """

    pad = 0

    def __init__(
        self, model: str, texts: Sequence[str], num_classes: int, *, max_length: int | None, vocabulary: int,
        dropout: float,
    ) -> None:  # fmt: skip
        tokens = (word for text in texts for word in words(text, lower=True))
        self._vocabulary = build(tokens, limit=vocabulary, minimum=_MINIMUM, special=(_PAD, _CLS, _SEP, UNKNOWN))
        self._max_length = max_length or _LENGTHS[model]
        self._config = BertConfig(
            **_SIZES[model], vocab_size=len(self._vocabulary), max_position_embeddings=self._max_length,
            pad_token_id=self.pad, num_labels=num_classes, hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )  # fmt: skip

    def encode(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Return the tokens of each text."""
        first, last = self._vocabulary.encode([_CLS, _SEP]).tolist()
        room = self._max_length - 2
        for text in texts:
            yield [first, *self._vocabulary.encode(words(text, lower=True)[:room]).tolist(), last]

    def build_model(self) -> nn.Module:
        """Make a new network; its weights come from torch's global random generator."""
        model: nn.Module = BertForSequenceClassification(self._config)
        return model
