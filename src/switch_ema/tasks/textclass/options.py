"""What the text classification task accepts, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from switch_ema.data.text.labelled import Source, locate
from switch_ema.errors import FieldError
from switch_ema.libraries import require
from switch_ema.tasks.options import Option, read_options, share, whole, words
from switch_ema.tasks.textclass.folder import check_folder

MODELS: Mapping[str, str] = {
    "auto": "bert-small, or the network of --checkpoint",
    "bert-small": "BERT's encoder with 2 layers of width 128, trained from scratch on words",
    "bert-base": "BERT's encoder with 12 layers of width 768, trained from scratch on words",
}
"""The networks by name."""

OPTIONS: Mapping[str, Option] = {
    "max_length": Option(
        "tokens that a text is cut to, with [CLS] and [SEP]; default: 64 of bert-small, else 128", whole
    ),
    "vocabulary": Option("largest number of words, the most frequent of the training texts; default: 30000", whole),
    "train_size": Option("number of training texts, a stratified subset", whole),
    "dropout": Option("share of the units dropped in training; default: 0.1", share),
    "label_noise": Option("share of the training labels to make wrong, 0 to 1", share),
    "checkpoint": Option("folder of a transformers checkpoint with its tokenizer, to start from", words),
}
"""The options of `switch_ema.tasks.textclass.task.TextClass`."""

_FROM_CHECKPOINT = {"vocabulary": "its own tokenizer", "dropout": "its own dropout"}
_SHORTEST = 3  # [CLS], one token, [SEP]


@dataclass(frozen=True)
class Chosen:
    """Values of `OPTIONS`, with their defaults; None stands for what the description says of the default."""

    max_length: int | None = None
    vocabulary: int = 30_000
    train_size: int | None = None
    dropout: float = 0.1
    label_noise: float = 0.0
    checkpoint: str | None = None


def check(data: str, model: str, options: Mapping[str, Any]) -> Source:
    """Refuse what is wrong with a request for text classification, before anything heavy is imported.

    Args:
        data: A named data set, a folder or a .csv file (see `switch_ema.data.text.labelled`).
        model: Name of the network; only whether it goes with a checkpoint is checked here.
        options: Values or texts by name (see `OPTIONS`).

    Returns:
        Where the data lie.

    Raises:
        InputError: An option is unknown or out of range, the data or the checkpoint are missing or lack files, or they
            do not go together.

    Example:
        >>> check("pydoc-topics", "auto", {"max_length": 2})
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: max_length 2: write at least 3; [CLS] and [SEP] take two
    """
    require("textclass", "transformers", "sklearn")
    values = read_options(OPTIONS, options)
    length = values.get("max_length")
    if length is not None and length < _SHORTEST:
        raise FieldError("max_length", f"{length}: write at least {_SHORTEST}; [CLS] and [SEP] take two")
    if "checkpoint" in values:
        if model != "auto":
            raise FieldError("model", f"{model}: the checkpoint brings its own network; leave one out")
        for name, own in _FROM_CHECKPOINT.items():
            if name in values:
                raise FieldError(name, f"{values[name]}: the checkpoint brings {own}; leave one out")
        check_folder(values["checkpoint"])
    return locate(data)
