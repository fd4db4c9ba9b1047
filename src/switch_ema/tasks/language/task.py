"""Language modelling: tell the next byte or word of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from switch_ema.bench.exhibit import Exhibit
from switch_ema.bench.task import WHOLE, Metric, Shard, Split, Task
from switch_ema.data.text.corpus import load
from switch_ema.errors import FieldError, InputError
from switch_ema.tasks.batching import shuffled
from switch_ema.tasks.language.evaluation import measures, token_losses
from switch_ema.tasks.language.exhibits import passages
from switch_ema.tasks.language.lstm import LSTM
from switch_ema.tasks.language.model import LanguageModel
from switch_ema.tasks.language.options import check

Batch = tuple[Tensor, Tensor]
"""Tokens, and the tokens that follow each of them: int64, both (n, context)."""

_NAMES = {"train": "training", "val": "validation", "test": "test"}


class Language(Task):
    """Tell each token of a text from those before it.

    A training example is a window of `context` tokens and, one further on, their targets; the loss is the mean of
    minus the logarithm of the targets' probabilities, in nats. The windows of an epoch follow each other without gap
    or overlap from a random place on, which the epoch's seed draws, and come in random order. No hidden state is
    carried from one batch to the next. Over the epochs every token but the first is a target; the windows of one epoch
    leave out up to two contexts at the ends of the text.

    A held-out text of n tokens is measured over its n - 1 tokens after the first, each counted once; how much of the
    text each is told from, `switch_ema.tasks.language.evaluation.token_losses` says. `perplexity` is over the
    vocabulary: compare it only between models with the same tokens. `bits_per_byte` divides by the bytes of the file
    and can be compared between levels, where no words are unknown: in a text with ``<unk>`` it is too low.

    Args:
        data: A named data set, a text file or a folder (see `switch_ema.data.text.catalog`).
        model: ``lstm``, ``awd-lstm``, ``gpt`` or ``gpt2``.
        seed: Not used: nothing is drawn that belongs to the problem.
        options: Any of `switch_ema.tasks.language.options.OPTIONS`.

    Attributes:
        level: ``byte`` or ``word``.
        vocabulary_size: Number of different tokens.
        num_tokens: Number of tokens of each split, before `train_size`.
        num_bytes: Length of each split's text in bytes.
        num_words: Number of words between blanks of each split.
        unknown_share: Share of tokens of each split that are ``<unk>``.

    Raises:
        InputError: An argument or the text is wrong, or they do not go together.

    Example:
        >>> task = Language(train_size=100)
        >>> task.num_train, task.level, task.vocabulary_size, task.metrics[0].name
        (100, 'byte', 256, 'perplexity')
    """

    name = "language"
    metrics = tuple(Metric(name, higher_is_better=False) for name in ("perplexity", "bits_per_byte", "loss"))

    def __init__(self, *, data: str = "pydoc", model: str = "lstm", seed: int = 0, **options: Any) -> None:
        chosen = check(data, model, options)
        self.data = data
        self.model = model
        self.level = chosen.level
        corpus = load(chosen.source, level=chosen.level, limit=chosen.vocabulary, min_count=chosen.min_count)
        parts = {"train": corpus.train, "val": corpus.val, "test": corpus.test}
        self.vocabulary_size = corpus.vocabulary_size
        self.num_tokens = {split: len(part.tokens) for split, part in parts.items()}
        self.num_bytes = {split: part.num_bytes for split, part in parts.items()}
        self.num_words = {split: part.num_words for split, part in parts.items()}
        self.unknown_share = {split: corpus.unknown_share(part) for split, part in parts.items()}
        self._chosen = chosen
        self._context: int = chosen.network["context"]
        self._vocabulary = corpus.vocabulary
        self._tokens = {split: torch.tensor(part.tokens) for split, part in parts.items()}
        self.num_train = self._cut_to(chosen.train_size)

    def _cut_to(self, train_size: int | None) -> int:
        """Cut the training text to so many examples, and to what lets them begin at any place of a context."""
        there = len(self._tokens["train"]) // self._context - 1
        if there < 1:
            raise InputError(
                f"{self.data}: the training text has {self.num_tokens['train']:,} tokens, too few for a context of "
                f"{self._context}; write context {max(1, self.num_tokens['train'] // 20)}, or take more text"
            )
        if train_size is None:
            return there
        if train_size > there:
            raise FieldError("train_size", f"{train_size}: write 1 to {there}, the examples of {self._context} tokens")
        self._tokens["train"] = self._tokens["train"][: (train_size + 1) * self._context]
        return train_size

    def build_model(self) -> nn.Module:
        """Make a new network; its weights come from torch's global random generator.

        Raises:
            FieldError: A checkpoint does not fit.
        """
        network, adaptive = dict(self._chosen.network), self._chosen.adaptive_softmax
        if "heads" in network:
            from switch_ema.tasks.language.gpt import GPT

            return GPT(self.vocabulary_size, adaptive=adaptive, **network)
        del network["context"]
        return LSTM(self.vocabulary_size, adaptive=adaptive, **network)

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Yield one epoch of shuffled windows; a last, smaller batch is dropped.

        Args:
            batch_size: Windows in a batch, over all processes.
            seed: Decides where the windows begin and their order; torch's global random generator is left alone.
            device: Where the batches are made.
            shard: Which slice of every batch to take.

        Returns:
            An iterator over batches.

        Raises:
            InputError: The batch is larger than the training set, or its processes cannot share it equally.
        """
        tokens = self._on(device, "train")
        generator = torch.Generator().manual_seed(seed)
        order = shuffled(self.num_train, batch_size, generator, shard)
        spare = len(tokens) - 1 - self.num_train * self._context
        first = int(torch.randint(spare + 1, (), generator=generator))
        windows = tokens[first:].unfold(0, self._context + 1, self._context)
        return (_divided(windows[numbers.to(device, non_blocking=True)].long()) for numbers, _ in order)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, in nats per token."""
        losses: Tensor = model(*batch)
        return losses.mean()

    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure the model on every token of a split but the first.

        Args:
            model: The network, which the caller has put in evaluation mode.
            split: ``val`` or ``test``.
            device: Where the network is.

        Returns:
            The values of `metrics` (see `switch_ema.tasks.language.evaluation.measures`); not finite when training
            has diverged.
        """
        losses = token_losses(cast(LanguageModel, model), self._on(device, split), self._context)
        return measures(losses, self.num_bytes[split])

    def exhibits(self, model: nn.Module, device: torch.device) -> Sequence[Exhibit]:
        """Return the beginning of the test text, shaded where it surprises the model, and how the model goes on."""
        text = self._on(device, "test")
        return passages(cast(LanguageModel, model), text, self._context, self._vocabulary, self._counts())

    def _counts(self) -> str:
        counted = []
        for split, count in self.num_tokens.items():
            unknown = f", {100 * self.unknown_share[split]:.2g} % unknown" if self.level == "word" else ""
            counted.append(
                f"{_NAMES[split]} {count:,} tokens ({self.num_words[split]:,} words, {self.num_bytes[split]:,} bytes"
                f"{unknown})"
            )
        return f"Whole text: {', '.join(counted)}; every held-out token but the first is measured."

    def _on(self, device: torch.device, split: str) -> Tensor:
        """Return the tokens of a split on the device, where they stay."""
        self._tokens[split] = self._tokens[split].to(device)
        return self._tokens[split]


def _divided(windows: Tensor) -> Batch:
    return windows[:, :-1], windows[:, 1:]
