"""A network and its tokenizer from a checkpoint folder of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from switch_ema.errors import FieldError

_MAX_LENGTH = 128
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


class CheckpointEncoder:
    """A network that goes on from the weights in a folder, with the tokenizer in the same folder.

    The classifier on top is the folder's, if it has one for as many classes, else a new one. Weights are read in 32
    bits from safetensors alone; nothing is downloaded, and no code in the folder is run.

    Args:
        folder: The folder (see `switch_ema.tasks.textclass.folder.check_folder`).
        num_classes: Number of classes.
        max_length: Tokens that a text is cut to, the tokenizer's special ones included; None for 128, or less where the
            network takes less.

    Raises:
        FieldError: The folder cannot be read, its parts do not fit together, or it takes no texts of that length.
    """

    def __init__(self, folder: str, num_classes: int, *, max_length: int | None) -> None:
        self._folder = folder
        self._num_classes = num_classes
        self._tokenizer = self._loaded(AutoTokenizer)
        config = self._loaded(AutoConfig)
        if self._tokenizer.pad_token_id is None:
            raise self._wrong("its tokenizer has no padding token; set one and save the tokenizer again")
        self.pad: int = self._tokenizer.pad_token_id
        largest, size = max(self._tokenizer.get_vocab().values()), config.vocab_size
        if largest >= size:
            raise self._wrong(
                f"the vocabularies do not fit: the tokenizer has tokens up to number {largest}, config.json says "
                f"vocab_size {size}; save both from the same model"
            )
        limit = min(self._tokenizer.model_max_length, getattr(config, "max_position_embeddings", _MAX_LENGTH))
        if max_length is not None and max_length > limit:
            raise FieldError("max_length", f"{max_length}: the checkpoint takes at most {limit} tokens; write that")
        self._max_length = max_length or min(_MAX_LENGTH, limit)
        with torch.random.fork_rng(devices=[]):  # what cannot be read is refused now, not after other runs
            self.build_model()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text."""
        found = self._tokenizer(list(texts), truncation=True, max_length=self._max_length)
        tokens: list[list[int]] = found["input_ids"]
        return tokens

    def build_model(self) -> nn.Module:
        """Make the network; what the folder has no weights for comes from torch's global random generator."""
        model, info = self._loaded(
            AutoModelForSequenceClassification, num_labels=self._num_classes, dtype=torch.float32, use_safetensors=True,
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
        prefix = f"{model.base_model_prefix}."
        missing = {key for key in info["missing_keys"] if "pooler" not in key}  # which language models do without
        names = sorted(missing | {key for key, *_ in info["mismatched_keys"]})
        if amiss := [name for name in names if name.startswith(prefix)]:
            raise self._wrong(
                f"{len(amiss)} weights are missing or not of the size that config.json says, such as {amiss[0]}; save "
                f"both from the same model"
            )
        made: nn.Module = model.train()
        return made

    def _loaded(self, kind: Any, **options: Any) -> Any:
        """Read a part of the folder, without the library's own remarks on it."""
        verbosity = logging.get_verbosity()
        bars = logging.is_progress_bar_enabled()
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        try:
            return kind.from_pretrained(self._folder, **_LOCAL, **options)
        except Exception as error:  # configuration, weights and tokenizer each fail in their own ways
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise self._wrong(f"cannot be read ({reason}); save it again with save_pretrained") from error
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()

    def _wrong(self, problem: str) -> FieldError:
        return FieldError("checkpoint", f"{self._folder}: {problem}")
