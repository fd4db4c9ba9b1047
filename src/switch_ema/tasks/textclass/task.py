"""Text classification: cross entropy, accuracy and macro F1, with batches that depend on their seed alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from switch_ema.bench.exhibit import Exhibit
from switch_ema.bench.task import WHOLE, Metric, Shard, Split, Task
from switch_ema.data.splits import noisy_labels
from switch_ema.data.text.labelledset import load
from switch_ema.tasks.models.names import check_model
from switch_ema.tasks.options import read_options
from switch_ema.tasks.textclass.batches import TextBatches
from switch_ema.tasks.textclass.encoder import Encoder, WordEncoder
from switch_ema.tasks.textclass.exhibits import confusion, doubts
from switch_ema.tasks.textclass.options import MODELS, OPTIONS, Chosen, check

Batch = tuple[Tensor, Tensor, Tensor]
"""Tokens (n, length), the mask of those that are no padding (n, length), and labels (n,), all int64."""

_EVALUATION_BATCH = 64  # texts of a batch are about equally long


class TextClass(Task):
    """Name the class of a text.

    The splits are the same for every seed and every ``train_size`` (see `switch_ema.data.text.labelledset.load`), and
    only training labels are made wrong. Each text is divided into tokens once and cut to ``max_length``. With tp, fp
    and fn the true positives, false positives and false negatives of class k,

        F1_k = 2 tp / (2 tp + fp + fn)    macro_f1 = mean of F1_k over the classes

    that the split has or that are named: one that is never named counts with 0, and so does one that is named but
    that a small held-out split lacks; one that is neither there nor named does not count.

    Args:
        data: A named data set, a folder or a .csv file (see `switch_ema.data.text.labelled`).
        model: ``auto`` (``bert-small``, or the checkpoint's), or a name from `switch_ema.tasks.textclass.options`.
        seed: Draws which training labels are wrong, and what they become.
        options: Any of `switch_ema.tasks.textclass.options.OPTIONS`.

    Raises:
        InputError: An argument, the data or the checkpoint are wrong, or they do not go together.

    Example:
        >>> task = TextClass(train_size=100)
        >>> task.data, task.model, task.num_train, [metric.name for metric in task.metrics]
        ('pydoc-topics', 'bert-small', 100, ['accuracy', 'macro_f1', 'loss'])
    """

    name = "textclass"
    metrics = (
        Metric("accuracy", higher_is_better=True),
        Metric("macro_f1", higher_is_better=True),
        Metric("loss", higher_is_better=False),
    )

    def __init__(self, *, data: str = "pydoc-topics", model: str = "auto", seed: int = 0, **options: Any) -> None:
        source = check(data, model, options)
        check_model(model, MODELS)
        chosen = Chosen(**read_options(OPTIONS, options))
        found = load(source, train_size=chosen.train_size)
        self.data = data
        self._class_names = found.class_names
        num_classes = len(found.class_names)
        self._encoder: Encoder
        if chosen.checkpoint:
            from switch_ema.tasks.textclass.checkpoint import CheckpointEncoder  # a second's import

            self.model = os.path.basename(os.path.abspath(chosen.checkpoint))
            self._encoder = CheckpointEncoder(chosen.checkpoint, num_classes, max_length=chosen.max_length)
        else:
            self.model = "bert-small" if model == "auto" else model
            self._encoder = WordEncoder(
                self.model, found.train.texts, num_classes, max_length=chosen.max_length,
                vocabulary=chosen.vocabulary, dropout=chosen.dropout,
            )  # fmt: skip
        parts = {"train": found.train, "val": found.val, "test": found.test}
        texts = {split: self._encoder.encode(part.texts) for split, part in parts.items()}
        self._batches = TextBatches(texts, self._encoder.pad)
        noisy = noisy_labels(found.train.labels, "symmetric", chosen.label_noise, num_classes, seed)
        labels = {"train": noisy, "val": found.val.labels, "test": found.test.labels}
        self._labels = {split: torch.from_numpy(values) for split, values in labels.items()}
        self._test_texts = found.test.texts
        self.num_train = len(noisy)

    def build_model(self) -> nn.Module:
        """Make a new network; its new weights come from torch's global random generator."""
        return self._encoder.build_model()

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Yield one epoch of shuffled batches; a last, smaller one is dropped.

        Each process takes its slice of every batch, padded to the longest text in that slice.

        Args:
            batch_size: Texts in a batch, over all processes.
            seed: Decides the order; torch's global random generator is left alone.
            device: Where the batches are made.
            shard: Which slice of every batch to take.

        Returns:
            An iterator over batches.

        Raises:
            InputError: The batch is larger than the training set, or its processes cannot share it equally.
        """
        batches = self._batches.epoch(batch_size, seed, device, shard)
        self._labels["train"] = self._labels["train"].to(device)
        return ((tokens, mask, self._labels["train"][numbers]) for (tokens, mask), numbers in batches)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross entropy of a batch."""
        tokens, mask, labels = batch
        return cross_entropy(model(input_ids=tokens, attention_mask=mask).logits, labels)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure accuracy, macro F1 and mean cross entropy over every text of a split.

        Args:
            model: The network, which the caller has put in evaluation mode.
            split: ``val`` or ``test``.
            device: Where the network is.

        Returns:
            ``accuracy`` and ``macro_f1`` as fractions, and ``loss``, which is not finite when training has diverged.
        """
        logits, labels = self._answers(model, split, device), self._labels[split]
        answers = logits.argmax(1)
        return {
            "accuracy": (answers == labels).double().mean().item(),
            "macro_f1": float(f1_score(labels, answers, average="macro")),
            "loss": cross_entropy(logits.double(), labels).item(),
        }

    @torch.no_grad()
    def exhibits(self, model: nn.Module, device: torch.device) -> tuple[Exhibit, ...]:
        """Return the confusion matrix of the test split, and how sure the network is of one text of each class."""
        logits, labels = self._answers(model, "test", device), self._labels["test"]
        shown = doubts(logits, labels, self._test_texts, self._class_names)
        return confusion(logits, labels, self._class_names), shown

    def _answers(self, model: nn.Module, split: Split, device: torch.device) -> Tensor:
        """Return the logits of a split in the order of its texts, float32 (n, classes) on the CPU."""
        said, places = [], []
        for (tokens, mask), numbers in self._batches.held_out(split, _EVALUATION_BATCH, device):
            said.append(model(input_ids=tokens, attention_mask=mask).logits.float())
            places.append(numbers)
        logits = torch.cat(said)
        return torch.empty_like(logits).index_copy_(0, torch.cat(places), logits).cpu()  # the only wait for the device
