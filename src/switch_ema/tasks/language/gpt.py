"""The GPT-2 of the transformers library, made from a configuration or from a checkpoint folder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switch_ema.errors import FieldError
from switch_ema.tasks.language.model import LanguageModel, State
from switch_ema.tasks.language.options import check_vocabulary


class GPT(LanguageModel):
    """GPT-2: a transformer that sees at most `context` tokens.

    With its tied softmax it computes what ``GPT2LMHeadModel`` does; attention is torch's own
    (``scaled_dot_product_attention``).

    Args:
        vocabulary_size: Number of different tokens.
        context: Largest number of tokens that it sees.
        layers: Number of blocks.
        width: Length of a token's vector, a multiple of `heads`.
        heads: Attention heads of a block.
        dropout: Rate of embeddings, attention and the outputs of each block, 0 to below 1.
        checkpoint: Folder of a GPT-2 checkpoint; it decides layers, width and heads.
        adaptive: Whether the output is an adaptive softmax.

    Raises:
        FieldError: The checkpoint is damaged or has other tokens.

    References:
        Radford, Wu, Child, Luan, Amodei, Sutskever: Language Models are Unsupervised Multitask Learners, 2019.
    """

    recurrent = False

    def __init__(
        self,
        vocabulary_size: int,
        *,
        context: int,
        layers: int,
        width: int,
        heads: int,
        dropout: float = 0.0,
        checkpoint: str | None = None,
        adaptive: bool = False,
    ) -> None:
        from transformers import GPT2Config, GPT2Model

        rates = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
        if checkpoint is None:
            config = GPT2Config(
                vocab_size=vocabulary_size, n_positions=context, n_layer=layers, n_embd=width, n_head=heads,
                bos_token_id=None, eos_token_id=None, attn_implementation="sdpa", **rates,
            )  # fmt: skip
            net: Any = GPT2Model(config)
        else:
            net = _loaded(checkpoint, vocabulary_size, rates)
        super().__init__(vocabulary_size, net.config.n_embd, adaptive=adaptive, bias=False)
        self.net = net

    def features(self, tokens: Tensor, state: State | None) -> tuple[Tensor, None]:
        """Return the outputs of the last block, (n, time, width); there is no state."""
        return self.net(tokens, use_cache=False).last_hidden_state, None

    def tied_weight(self) -> Tensor:
        """Return the weight of the embedding."""
        weight: Tensor = self.net.wte.weight
        return weight


def _loaded(folder: str, vocabulary_size: int, rates: dict[str, float]) -> Any:
    from transformers import GPT2Model
    from transformers.utils import logging as library

    level, bar = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()  # it would list the weights of the output, which are the embedding's
    library.disable_progress_bar()
    try:
        net, found = GPT2Model.from_pretrained(
            folder,
            local_files_only=True,
            attn_implementation="sdpa",
            dtype=torch.float32,
            output_loading_info=True,
            **rates,
        )  # fmt: skip
    except Exception as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise FieldError("checkpoint", f"{folder}: cannot be read ({first}); save it anew") from error
    finally:
        library.set_verbosity(level)
        if bar:
            library.enable_progress_bar()
    missing = sorted(found["missing_keys"])
    if missing:
        raise FieldError("checkpoint", f"{folder}: {missing[0]} and {len(missing) - 1} other weights are missing")
    check_vocabulary(folder, net.config.vocab_size, vocabulary_size)
    return net
