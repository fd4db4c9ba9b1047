"""Language modelling fulfils the task contract; its windows cover the text, and averages are measured."""

from __future__ import annotations

import math
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from switch_ema import EMA
from switch_ema.averaging.averager import Averager
from switch_ema.bench.exhibit import Passage
from switch_ema.bench.task import Metric, Shard, Task
from switch_ema.data.text.catalog import locate
from switch_ema.data.text.corpus import load
from switch_ema.tasks.language.exhibits import continuation, pieces
from switch_ema.tasks.language.options import DEFAULTS, MODELS, OPTIONS, Chosen, check
from switch_ema.tasks.language.task import Language

CPU = torch.device("cpu")
WHOLE = Shard()
TINY: dict[str, Any] = {"layers": 1, "width": 16, "embedding": 16}
SHAKESPEARE = Path(os.environ.get("SEMA_DATA") or "../shared/data", "text", "tinyshakespeare.txt")


def batches(task: Language, size: int, seed: int = 0, shard: Shard = WHOLE) -> list[tuple[Tensor, Tensor]]:
    return list(task.train_batches(size, seed, CPU, shard))


def alphabet(path: Path, size: int = 200) -> str:
    """Write a text whose bytes tell where they stand, in the training part."""
    (path / "text").write_bytes(bytes(range(128, 128 + 100)) + b"x" * (size - 100))
    return str(path / "text")


def test_it_is_a_task() -> None:
    task: Task = Language()  # the type checker compares the signatures
    assert (task.name, task.data, task.model) == ("language", "pydoc", "lstm")
    assert task.metrics[0] == Metric("perplexity", higher_is_better=False)
    assert [metric.name for metric in task.metrics] == ["perplexity", "bits_per_byte", "loss"]
    corpus = load(locate("pydoc"), level="byte")
    assert task.num_train == len(corpus.train.tokens) // 64 - 1
    assert isinstance(task, Language)
    assert task.num_tokens == {name: len(getattr(corpus, name).tokens) for name in ("train", "val", "test")}
    assert task.num_bytes == task.num_tokens
    assert task.num_words["test"] == corpus.test.num_words


def test_windows_follow_each_other_and_targets_are_one_further_on(tmp_path: Path) -> None:
    task = Language(data=alphabet(tmp_path), context=8, train_size=10)
    for seed in range(5):
        inputs, targets = (torch.cat(part) for part in zip(*batches(task, 5, seed), strict=True))
        assert inputs.dtype == targets.dtype == torch.int64
        assert targets.equal(inputs + 1)
        first = inputs.min().item()
        assert inputs.flatten().sort()[0].equal(torch.arange(first, first + 80))
        assert not inputs[:, 0].equal(inputs[:, 0].sort()[0])


@pytest.mark.parametrize("train_size", [3, None])
def test_over_the_epochs_every_token_but_the_first_is_a_target(tmp_path: Path, train_size: int | None) -> None:
    path = alphabet(tmp_path, 125)  # 100 of training
    task = Language(data=path, context=8, train_size=train_size)
    size = 3 if train_size else 11
    assert task.num_train == size
    seen = {
        int(target) for seed in range(150) for _, targets in batches(task, size, seed) for target in targets.flatten()
    }
    assert seen == set(range(129, 128 + (32 if train_size else 100)))


def test_batches_depend_on_their_seed_alone() -> None:
    task = Language(train_size=100)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = batches(task, 32, seed=5)
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    again, other = batches(Language(train_size=100, seed=9), 32, seed=5), batches(task, 32, seed=6)
    assert len(first) == 3
    assert all(a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(first, again, strict=True))
    assert not any(a.equal(c) for (a, _), (c, _) in zip(first, other, strict=True))


@pytest.mark.parametrize("world_size", [2, 4])
def test_shards_make_up_the_whole_batch(world_size: int) -> None:
    task = Language(train_size=100)
    parts = [batches(task, 32, shard=Shard(rank, world_size)) for rank in range(world_size)]
    for (inputs, targets), *shards in zip(batches(task, 32), *parts, strict=True):
        assert torch.cat([part[0] for part in shards]).equal(inputs)
        assert torch.cat([part[1] for part in shards]).equal(targets)


def trained(steps: int, lr: float, **options: Any) -> tuple[Language, torch.nn.Module, Averager]:
    torch.manual_seed(0)
    task = Language(**options)
    model = task.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    averager = EMA(model, decay=0.9)
    averager.attach(optimizer)
    for batch in batches(task, 8)[:steps]:
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    return task, model.eval(), averager


def unigram_perplexity(task: Language) -> float:
    """Return the perplexity of the test text for the training text's frequencies, one added to each."""
    train, test = (task._tokens[split].long() for split in ("train", "test"))
    counts = torch.bincount(train, minlength=task.vocabulary_size).double() + 1
    return math.exp(-(counts / counts.sum()).log()[test[1:]].mean().item())


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason=f"no {SHAKESPEARE}; set SEMA_DATA")
@pytest.mark.parametrize("level", ["byte", "word"])
def test_an_lstm_learns_more_of_shakespeare_than_how_frequent_tokens_are(level: str, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(SHAKESPEARE.read_bytes()[:100_000])
    steps, lr = (60, 0.02) if level == "byte" else (80, 0.01)
    task, model, _ = trained(
        steps, lr, data=str(tmp_path / "part"), level=level, context=16, layers=1, width=64, embedding=64
    )
    assert 1 < task.evaluate(model, "test", CPU)["perplexity"] < unigram_perplexity(task)


def test_averages_of_a_weight_dropped_network_are_measured() -> None:
    task, model, averager = trained(10, 0.01, train_size=80, weight_dropout=0.5, embedding_dropout=0.2, **TINY)
    plain = task.evaluate(model, "val", CPU)
    with averager.average_parameters():
        averaged = task.evaluate(model, "val", CPU)
    assert averaged["loss"] != plain["loss"]
    assert task.evaluate(model, "val", CPU) == plain
    copy = task.build_model().eval()
    copy.load_state_dict(averager.averaged_state_dict())
    assert task.evaluate(copy, "val", CPU) == averaged


def test_evaluation_leaves_mode_and_gradients_alone() -> None:
    task = Language(train_size=10, dropout=0.5, **TINY)
    model = task.build_model().eval()
    assert task.evaluate(model, "test", CPU) == task.evaluate(model, "test", CPU)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("level", ["byte", "word"])
def test_exhibits_show_surprise_and_continuation(level: str) -> None:
    task = Language(level=level, train_size=10, **TINY)
    surprise, written = task.exhibits(task.build_model().eval(), CPU)
    assert isinstance(surprise, Passage)
    assert isinstance(written, Passage)
    assert all(0 <= shade <= 1 for _, shade in surprise.pieces)
    assert surprise.pieces[0][1] == 0
    start = "".join(text for text, _ in surprise.pieces[:20])
    assert "".join(text for text, _ in written.pieces).startswith(start)
    assert f"test {task.num_tokens['test']:,} tokens ({task.num_words['test']:,} words" in surprise.text
    assert ("% unknown" in surprise.text) == (level == "word")
    other = task.exhibits(task.build_model().eval(), CPU)[1]
    assert isinstance(other, Passage)
    assert [piece for piece in other.pieces if piece[1]] == [piece for piece in written.pieces if piece[1]]
    with torch.no_grad():
        diverged = task.build_model().eval()
        next(diverged.parameters()).fill_(math.nan)
    assert all(0 <= shade <= 1 for _, shade in task.exhibits(diverged, CPU)[0].pieces)  # type: ignore[union-attr]


def test_a_continuation_follows_the_probabilities() -> None:
    torch.manual_seed(0)
    task = Language(train_size=10, **TINY)
    model: Any = task.build_model().eval()
    with torch.no_grad():
        model.embedding.weight.zero_()
        model.bias.fill_(-100)
        model.bias[[65, 66]] = torch.tensor([math.log(0.75), math.log(0.25)])
    drawn = torch.tensor(continuation(model, torch.tensor([1, 2]), 400, 8))
    assert set(drawn.tolist()) == {65, 66}
    assert (drawn == 65).double().mean().item() == pytest.approx(0.75, abs=0.06)


def test_pieces_are_whole_characters() -> None:
    assert pieces([*"aé".encode(), 0xFF], [0.0, 0.5, 0.25, 1.0], None) == [("a", 0.0), ("é", 0.5), ("\ufffd", 1.0)]


def test_defaults_and_options_belong_together() -> None:
    assert DEFAULTS.keys() == MODELS.keys()
    common = {"level", "train_size", "vocabulary", "min_count", "adaptive_softmax"}
    assert set(OPTIONS) == common.union(*DEFAULTS.values())
    assert {field.name for field in fields(Chosen)} == {"source", "network", *common}
    assert check("pydoc", "awd-lstm", {}).network["context"] == 70
    assert check("pydoc", "lstm", {"level": "word"}).min_count == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("model", ["lstm", "gpt"])
def test_it_is_the_same_on_a_gpu(model: str) -> None:
    task = Language(model=model, train_size=100, layers=1, width=32)
    cuda = torch.device("cuda")
    for (inputs, targets), (same, equal) in zip(batches(task, 32), task.train_batches(32, 0, cuda), strict=True):
        assert same.is_cuda
        assert same.cpu().equal(inputs)
        assert equal.cpu().equal(targets)
    network = task.build_model().eval()
    here = task.evaluate(network, "test", CPU)
    assert task.evaluate(network.cuda(), "test", cuda) == pytest.approx(here, rel=1e-3)
    assert len(task.exhibits(network, cuda)) == 2
