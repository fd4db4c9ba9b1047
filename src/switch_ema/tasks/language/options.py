"""What the language task accepts, checked with the standard library alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from switch_ema.data.text.catalog import Source, locate
from switch_ema.errors import FieldError
from switch_ema.libraries import require
from switch_ema.tasks.models.names import check_model
from switch_ema.tasks.options import Option, flag, one_of, read_options, share, whole, words

MODELS = {
    "lstm": "LSTM with AWD-LSTM's dropouts, 1 layer of 128 units, for a CPU",
    "awd-lstm": "AWD-LSTM of the paper, 3 layers of 1,150 units, embeddings of 400",
    "gpt": "GPT-2 of 4 layers of width 128, for a CPU",
    "gpt2": "GPT-2 of 12 layers of width 768",
}
"""The networks, each with a line that describes it."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "lstm": {
        "context": 64, "layers": 1, "width": 128, "embedding": 128, "dropout": 0.1, "input_dropout": 0.0,
        "hidden_dropout": 0.1, "embedding_dropout": 0.0, "weight_dropout": 0.1,
    },
    "awd-lstm": {
        "context": 70, "layers": 3, "width": 1150, "embedding": 400, "dropout": 0.4, "input_dropout": 0.4,
        "hidden_dropout": 0.3, "embedding_dropout": 0.1, "weight_dropout": 0.5,
    },
    "gpt": {"context": 64, "layers": 4, "width": 128, "heads": 4, "dropout": 0.0, "checkpoint": None},
    "gpt2": {"context": 1024, "layers": 12, "width": 768, "heads": 12, "dropout": 0.1, "checkpoint": None},
}  # fmt: skip
"""The options that each network has a use for, and their defaults."""

OPTIONS: Mapping[str, Option] = {
    "level": Option("byte, or word, which the published sets start with", one_of("byte", "word")),
    "context": Option("tokens in an example: 64, awd-lstm 70, gpt2 1,024", whole),
    "train_size": Option("number of training examples, from the beginning of the text", whole),
    "vocabulary": Option("level word: largest number of words, <eos> and <unk> included", whole),
    "min_count": Option("level word: how often a word must occur; plain text 2, published sets 1", whole),
    "adaptive_softmax": Option("level word: spend less on rare words; the output is not tied to the embedding", flag),
    "layers": Option("number of layers", whole),
    "width": Option("units of a layer; of an LSTM's last one there are as many as of the embedding", whole),
    "embedding": Option("LSTM: length of a token's vector", whole),
    "heads": Option("GPT: attention heads", whole),
    "dropout": Option("rate at the output of the LSTM; in GPT everywhere", share),
    "input_dropout": Option("LSTM: rate at the input of the first layer", share),
    "hidden_dropout": Option("LSTM: rate between layers", share),
    "embedding_dropout": Option("LSTM: rate of whole words", share),
    "weight_dropout": Option("LSTM: rate of the weights from hidden state to hidden state", share),
    "checkpoint": Option("GPT: folder of a GPT-2 checkpoint of transformers to start from", words),
}
"""The options of `switch_ema.tasks.language.task.Language`."""

Level = Literal["word", "byte"]

_EVERY_MODEL = ("level", "train_size", "vocabulary", "min_count", "adaptive_softmax")
_OF_WORDS = ("vocabulary", "min_count", "adaptive_softmax")
_FIXED_BY_CHECKPOINT = ("layers", "width", "heads")
_NARROWEST = 16  # of two clusters of rare words, the second has a sixteenth of the features
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Chosen:
    """What was asked for, with the defaults of the network and the data.

    Attributes:
        source: Where the text lies.
        level: What a token is.
        train_size: Number of training examples; None takes all.
        vocabulary: Largest number of words; None for no limit.
        min_count: How often a word must occur.
        adaptive_softmax: Whether the output is an adaptive softmax.
        network: The network's own options (see `DEFAULTS`).
    """

    source: Source
    level: Level
    train_size: int | None
    vocabulary: int | None
    min_count: int
    adaptive_softmax: bool
    network: Mapping[str, Any]


def check(data: str, model: str, options: Mapping[str, Any]) -> Chosen:
    """Refuse what is wrong with a request for the language task, before anything heavy is imported.

    Args:
        data: A named data set, a text file or a folder (see `switch_ema.data.text.catalog`).
        model: A name from `MODELS`.
        options: Values or texts by name (see `OPTIONS`); None stands for "not given".

    Returns:
        What was asked for, in its own types.

    Raises:
        InputError: An option is unknown, out of range or of no use to the network, the text is missing, a library is
            missing, or a checkpoint does not fit.

    Example:
        >>> check("pydoc", "lstm", {"heads": 4})
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: heads is of no use to lstm; leave it out (it belongs to gpt, gpt2)
    """
    check_model(model, MODELS)
    values = read_options(OPTIONS, options)
    for name in values:
        if name not in (*_EVERY_MODEL, *DEFAULTS[model]):
            owners = ", ".join(other for other, own in DEFAULTS.items() if name in own)
            raise FieldError(name, f"is of no use to {model}; leave it out (it belongs to {owners})")
        if "dropout" in name and values[name] == 1:
            raise FieldError(name, "1: write a rate from 0 to below 1, such as 0.1")
    source = locate(data)
    level: Level = values.get("level", "word" if source.tokenized else "byte")
    if level == "byte":
        for name in _OF_WORDS:
            if values.get(name):
                raise FieldError(name, f"{str(values[name]).lower()}: there are 256 bytes; leave it out, or level word")
    network = {name: values.get(name, default) for name, default in DEFAULTS[model].items()}
    if "heads" in network:
        _check_gpt(model, values, network, level)
    if values.get("adaptive_softmax") and (features := network.get("embedding") or network["width"]) < _NARROWEST:
        raise FieldError(
            "adaptive_softmax", f"true: it needs {_NARROWEST} features or more, the network has {features}"
        )
    min_count = values.get("min_count", 1 if source.tokenized else 2)
    return Chosen(
        source, level, values.get("train_size"), values.get("vocabulary"), min_count,
        values.get("adaptive_softmax", False), network,
    )  # fmt: skip


def _check_gpt(model: str, values: Mapping[str, Any], network: Mapping[str, Any], level: str) -> None:
    require(f"model {model}", "transformers")
    if network["checkpoint"]:
        for name in _FIXED_BY_CHECKPOINT:
            if name in values:
                raise FieldError(name, f"{values[name]}: the checkpoint decides it; leave it out")
        if values.get("adaptive_softmax"):
            raise FieldError("adaptive_softmax", "true: a checkpoint has its own output; leave it out")
        _check_checkpoint(network["checkpoint"], network["context"], 256 if level == "byte" else None)
    elif network["width"] % network["heads"]:
        raise FieldError(
            "heads", f"{network['heads']}: write a divisor of the width, {network['width']}, such as 1 or 2"
        )


def _check_checkpoint(folder: str, context: int, vocabulary_size: int | None) -> None:
    path = os.path.join(folder, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        kind = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise FieldError(
            "checkpoint", f"{folder}: no config.json of transformers in it; write the folder of a GPT-2 checkpoint"
        ) from None
    if kind != "gpt2":
        raise FieldError("checkpoint", f"{folder}: model type {kind!r}; write the folder of a GPT-2 checkpoint")
    if not any(os.path.isfile(os.path.join(folder, name)) for name in _WEIGHTS):
        raise FieldError("checkpoint", f"{folder}: no weights in it ({' or '.join(_WEIGHTS)})")
    positions = config.get("n_positions", 1024)
    if context > positions:
        raise FieldError("context", f"{context}: the checkpoint {folder} has {positions} positions; write at most that")
    if vocabulary_size is not None:
        check_vocabulary(folder, config.get("vocab_size", 50257), vocabulary_size)


def check_vocabulary(folder: str, of_checkpoint: int, of_text: int) -> None:
    """Refuse a checkpoint with another number of tokens than the text.

    Raises:
        FieldError: They differ.
    """
    if of_checkpoint != of_text:
        raise FieldError(
            "checkpoint", f"{folder}: it knows {of_checkpoint:,} tokens, the text has {of_text:,}; take one that was "
            "trained on this text at this level"
        )  # fmt: skip
