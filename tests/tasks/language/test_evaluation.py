"""Every token of a text but the first is counted once, told from as much of the text as is promised."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from switch_ema.data.text.catalog import locate
from switch_ema.data.text.corpus import load
from switch_ema.tasks.language.evaluation import measures, token_losses
from switch_ema.tasks.language.lstm import LSTM
from switch_ema.tasks.language.model import LanguageModel, State
from switch_ema.tasks.language.task import Language

CPU = torch.device("cpu")
LENGTHS = [2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 64, 65, 100, 333, 1000]


class Stub(LanguageModel):
    """Has losses of its own, and needs no features for them."""

    def features(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        raise NotImplementedError

    def tied_weight(self) -> Tensor:
        raise NotImplementedError


class Unigram(Stub):
    """Says how likely each token is, whatever stands before it."""

    recurrent = False

    def __init__(self, probabilities: Tensor) -> None:
        super().__init__(len(probabilities), 1, bias=False)
        self.log_probs = probabilities.log()

    def score(self, tokens: Tensor, targets: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        return -self.log_probs[targets], state


class Witness(Stub):
    """Tells the targets themselves, or how many tokens before each it has seen; the text is 0, 1, 2, ..."""

    def __init__(self, recurrent: bool, tells: str) -> None:
        super().__init__(1, 1)
        self.recurrent = recurrent
        self.tells = tells

    def score(self, tokens: Tensor, targets: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        assert targets.equal(torch.where(targets > 0, tokens + 1, targets))  # 0 is what fills the last piece
        before = torch.zeros(len(tokens), 1) if state is None else state[0][0][0]
        seen = before + torch.arange(1, tokens.shape[1] + 1)
        after = seen[None, :, -1:]
        return seen if self.tells == "seen" else targets, [(after, after)] if self.recurrent else None


def seen(recurrent: bool, length: int, context: int) -> Tensor:
    return token_losses(Witness(recurrent, "seen"), torch.arange(length), context)


@pytest.mark.parametrize("context", [1, 2, 3, 8])
@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_every_token_but_the_first_is_told_once_and_in_order(length: int, recurrent: bool, context: int) -> None:
    told = token_losses(Witness(recurrent, "targets"), torch.arange(length), context)
    assert told.equal(torch.arange(1.0, length))
    least = context + 1 if recurrent else context - context // 2 + 1 if context > 1 else 1
    before = torch.arange(1.0, length)
    assert (seen(recurrent, length, context) >= before.clamp(max=least)).all()
    assert (seen(recurrent, length, context) <= (before if recurrent else before.clamp(max=context))).all()


def test_most_tokens_of_a_recurrent_network_are_told_from_far_more_than_a_context() -> None:
    assert seen(True, 10_000, 8).max() == 8 + 313
    assert seen(True, 10_000, 8).mean() > 150
    assert seen(True, 120, 8).equal(torch.arange(1.0, 120))  # one piece


def test_a_piece_starts_with_what_its_state_has_kept() -> None:
    torch.manual_seed(0)
    model = LSTM(5, layers=2, width=6, embedding=4).eval()
    tokens = torch.randint(5, (300,))
    pieces = token_losses(model, tokens, 4)  # 9 pieces of 34
    whole = model(tokens[None, :-1], tokens[None, 1:])[0]
    assert pieces[:34].allclose(whole[:34], atol=1e-5)
    cut = model(tokens[None, 34 - 4 : 68], tokens[None, 31:69])[0, 4:]
    assert pieces[34:68].allclose(cut, atol=1e-5)
    fresh = model(tokens[None, 34:68], tokens[None, 35:69])[0]
    assert not pieces[34:68].allclose(fresh, atol=1e-5)


def test_a_uniform_model_has_eight_bits_per_byte_but_for_the_first() -> None:
    task = Language(train_size=10)
    n = task.num_tokens["test"]
    got = task.evaluate(Unigram(torch.full((256,), 1 / 256)), "test", CPU)
    want = {"perplexity": 256, "bits_per_byte": 8 * (n - 1) / n, "loss": math.log(256)}
    assert got == pytest.approx(want, rel=1e-6)
    assert list(got) == [metric.name for metric in task.metrics]


def test_a_unigram_model_has_the_entropy_of_the_text() -> None:
    task = Language(train_size=10)
    text = torch.tensor(load(locate("pydoc"), level="byte").val.tokens).long()[1:]
    counts = torch.bincount(text, minlength=256).double()
    shares = counts / counts.sum()
    entropy = -(shares * shares.clamp(min=1e-30).log()).sum().item()
    got = task.evaluate(Unigram(shares), "val", CPU)
    n = len(text)
    want = {"perplexity": math.exp(entropy), "bits_per_byte": entropy / math.log(2) * n / (n + 1), "loss": entropy}
    assert got == pytest.approx(want, rel=1e-6)


def test_bits_per_byte_of_words_are_over_the_bytes_of_the_file() -> None:
    task = Language(level="word", train_size=10)
    vocabulary = task.vocabulary_size
    got = task.evaluate(Unigram(torch.full((vocabulary,), 1 / vocabulary)), "test", CPU)
    bits = math.log2(vocabulary) * (task.num_tokens["test"] - 1)
    assert got["perplexity"] == pytest.approx(vocabulary, rel=1e-5)
    assert got["bits_per_byte"] == pytest.approx(bits / task.num_bytes["test"], rel=1e-5)
    assert task.num_bytes == Language(train_size=10).num_bytes


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
def test_diverged_models_crash_nothing(value: float) -> None:
    got = measures(torch.full((3,), value), 3)
    assert not math.isfinite(got["perplexity"])
    assert math.isnan(got["loss"]) == math.isnan(value)


@pytest.mark.parametrize("context", [8, 5])
def test_adaptive_softmax_is_a_distribution(context: int) -> None:
    torch.manual_seed(0)
    model = LSTM(40, layers=1, width=16, embedding=16, adaptive=True).eval()
    assert model.bias is None
    tokens = torch.randint(40, (3, context + 1))
    losses = model(tokens[:, :-1], tokens[:, 1:])
    for step in range(context):
        log_probs, _ = model.predict(tokens[:, : step + 1])
        assert log_probs.exp().sum(1).allclose(torch.ones(3), atol=1e-5)
        assert losses[:, step].allclose(-log_probs.gather(1, tokens[:, step + 1 : step + 2])[:, 0], atol=1e-5)
        assert log_probs.allclose(log_softmax(log_probs, 1), atol=1e-5)
