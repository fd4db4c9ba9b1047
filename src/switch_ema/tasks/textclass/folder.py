"""Whether a folder looks like a checkpoint of transformers, checked with the standard library alone."""

from __future__ import annotations

import json
import os

from switch_ema.errors import FieldError

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_UNSAFE = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")


def check_folder(path: str) -> None:
    """Refuse a folder that lacks configuration, weights in safetensors or tokenizer.

    Args:
        path: The folder.

    Raises:
        FieldError: It is no folder, a file is missing, empty or damaged, or the weights are pickled.
    """
    if not os.path.isdir(path):
        raise _wrong(path, "no such folder; it should hold config.json, model.safetensors and a tokenizer")
    names = {name for name in os.listdir(path) if _has_content(os.path.join(path, name))}
    if "config.json" not in names:
        raise _wrong(path, "no config.json in it, or an empty one; save the model with save_pretrained")
    if not names.intersection(_WEIGHTS):
        if names.intersection(_UNSAFE):
            raise _wrong(path, "its weights are pickled, and a pickle may run any code; save them as model.safetensors")
        raise _wrong(path, "no model.safetensors in it, or an empty one; save the model with save_pretrained")
    if not names.intersection(_TOKENIZERS):
        raise _wrong(path, "no tokenizer in it, such as tokenizer.json; save it there with save_pretrained")
    file = os.path.join(path, "config.json")
    try:
        with open(file, encoding="utf-8") as stream:
            config = json.load(stream)
    except (OSError, ValueError) as error:
        raise _wrong(file, f"cannot be read ({error}); copy the checkpoint again") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise _wrong(file, "names no model_type; save the model with save_pretrained")


def _has_content(file: str) -> bool:
    return os.path.isfile(file) and os.path.getsize(file) > 0


def _wrong(path: str, problem: str) -> FieldError:
    return FieldError("checkpoint", f"{path}: {problem}")
