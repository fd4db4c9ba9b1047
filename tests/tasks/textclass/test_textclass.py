"""Text classification fulfils the task contract; padding does not count, and its metrics follow their definitions."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema.bench.exhibit import Counts, Passage
from switch_ema.bench.task import Metric, Shard, Task
from switch_ema.data.text.labelled import locate
from switch_ema.data.text.labelledset import load
from switch_ema.errors import InputError
from switch_ema.tasks.textclass.batches import TextBatches
from switch_ema.tasks.textclass.options import OPTIONS, Chosen, check
from switch_ema.tasks.textclass.task import Batch, TextClass

CPU = torch.device("cpu")
WHOLE = Shard()


def batches(task: TextClass, size: int, seed: int = 0, shard: Shard = WHOLE) -> list[Batch]:
    return list(task.train_batches(size, seed, CPU, shard))


def csv_file(folder: Path, test: list[tuple[int, str]] | None = None) -> Path:
    """Write reviews whose stars their words tell; some are long."""
    words = {1: "bad awful poor", 2: "good great fine"}
    rows = [
        (star, f"{'the ' * (n % 7)}{text} food {'and drink ' * (n % 5)}")
        for n in range(30)
        for star, text in words.items()
    ]
    for name, chosen in (("train", rows), ("test", test)):
        if chosen:
            (folder / f"{name}.csv").write_text("".join(f'{label},"{text}"\n' for label, text in chosen))
    return folder


def test_it_is_a_task() -> None:
    task: Task = TextClass()  # the type checker compares the signatures
    assert (task.name, task.data, task.model) == ("textclass", "pydoc-topics", "bert-small")
    assert [metric.name for metric in task.metrics] == ["accuracy", "macro_f1", "loss"]
    assert task.metrics[0] == Metric("accuracy", higher_is_better=True)
    assert [metric.higher_is_better for metric in task.metrics] == [True, True, False]
    assert task.num_train == len(load(locate("pydoc-topics")).train.texts)
    assert set(OPTIONS) == {field.name for field in fields(Chosen)}


def test_the_networks_have_their_sizes() -> None:
    with torch.device("meta"):
        base, small = (TextClass(model=name, train_size=50).build_model() for name in ("bert-base", "bert-small"))
    sizes = [sum(p.numel() for n, p in model.named_parameters() if ".layer." in n) for model in (base, small)]
    assert sizes == [12 * (12 * 768**2 + 13 * 768), 2 * (12 * 128**2 + 13 * 128)]


def test_texts_become_words_cut_and_padded(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("1,One two\n2,two ONE three three!\n" * 20)
    task = TextClass(data=str(tmp_path), max_length=5)
    tokens, mask, labels = batches(task, 20)[0]
    long, short = (tokens[labels == label][0].tolist() for label in (1, 0))
    assert long[0] == short[0]
    assert [long[1], long[2]] == [short[2], short[1]]  # small letters; cut after three words
    assert [long[4], 0] == [short[3], short[4]]
    assert len({*long, 0}) == 6
    assert mask.tolist() == [[1, 1, 1, 1, int(label)] for label in labels]
    assert tokens.dtype == mask.dtype == labels.dtype == torch.int64
    assert batches(TextClass(data=str(tmp_path)), 20)[0][0].shape == (20, 7)


def test_rare_words_are_unknown() -> None:
    for limit in (6, 60):
        task = TextClass(vocabulary=limit, train_size=50)
        seen = {int(token) for tokens, _, _ in batches(task, 10) for token in tokens.unique()}
        assert seen == set(range(limit))
        assert task.build_model().get_input_embeddings().weight.shape == (limit, 128)  # type: ignore[operator]


def test_an_epoch_goes_once_through_and_drops_the_rest() -> None:
    task = TextClass(train_size=100)
    got = batches(task, 30)
    assert [len(labels) for _, _, labels in got] == [30] * 3
    assert all(tokens.shape == mask.shape and tokens.shape[1] == mask.sum(1).max() for tokens, mask, _ in got)
    texts = {
        tuple(row[: int(many.sum())].tolist())
        for tokens, mask, _ in got
        for row, many in zip(tokens, mask, strict=True)
    }
    assert len(texts) == 90
    labels = torch.cat([labels for _, _, labels in batches(task, 100)]).bincount()
    assert (
        labels.tolist()
        == torch.from_numpy(load(locate("pydoc-topics"), train_size=100).train.labels).bincount().tolist()
    )


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return all(
        len(a) == len(b) and all(x.equal(y) for x, y in zip(a, b, strict=True))
        for a, b in zip(first, second, strict=True)
    )


def test_batches_depend_on_their_seed_alone() -> None:
    first, second = TextClass(train_size=60), TextClass(train_size=60, seed=1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    got = batches(first, 20, seed=5)
    assert torch.get_rng_state().equal(state)
    assert equal(got, batches(second, 20, seed=5))
    assert not equal(got, batches(first, 20, seed=6))


def test_the_seed_draws_wrong_labels_of_the_training_texts_alone() -> None:
    clean, noisy, other = (
        TextClass(train_size=60, seed=seed, label_noise=rate) for seed, rate in ((0, 0), (0, 0.5), (1, 0.5))
    )
    truth, wrong, others = (batches(task, 60)[0][2] for task in (clean, noisy, other))
    assert (truth != wrong).sum() == 30
    assert (wrong != others).any()
    torch.manual_seed(0)
    model = clean.build_model().eval()
    assert noisy.evaluate(model, "val", CPU) == clean.evaluate(model, "val", CPU)


@pytest.mark.parametrize("world_size", [2, 4])
def test_shards_make_up_the_whole_batch(world_size: int) -> None:
    task = TextClass(train_size=80)
    parts = [batches(task, 32, shard=Shard(rank, world_size)) for rank in range(world_size)]
    for (tokens, mask, labels), *shards in zip(batches(task, 32), *parts, strict=True):
        assert torch.cat([part[2] for part in shards]).equal(labels)
        assert torch.cat([part[1].sum(1) for part in shards]).equal(mask.sum(1))
        rows = [row for part in shards for row in part[0]]
        assert all(row.equal(whole[: len(row)]) for row, whole in zip(rows, tokens, strict=True))
        assert {len(part[2]) for part in shards} == {32 // world_size}


def test_padding_does_not_change_the_answers() -> None:
    task = TextClass(train_size=50)
    torch.manual_seed(0)
    model = task.build_model().eval()
    tokens, lengths = batches(task, 8)[0][0], torch.arange(3, 43, 5)
    mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
    padded = model(input_ids=tokens, attention_mask=mask).logits
    for row, many, logits in zip(tokens, lengths, padded, strict=True):
        alone = row[None, : int(many)]
        torch.testing.assert_close(model(input_ids=alone, attention_mask=torch.ones_like(alone)).logits[0], logits)


class Says(nn.Module):
    """Answers each text, which is known by its tokens, with what it is told."""

    def __init__(self, answers: dict[int, list[float]]) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return SimpleNamespace(logits=torch.tensor([self.answers[int(n)] for n in attention_mask.sum(1)]))


def by_length(tmp_path: Path, labels: list[int]) -> TextClass:
    """A task whose five test texts have 5, 4, ... words and so 7, 6, ... tokens, in this order, and these labels."""
    return TextClass(data=str(csv_file(tmp_path, [(label, "good " * (5 - n)) for n, label in enumerate(labels)])))


def test_metrics_follow_their_definitions(tmp_path: Path) -> None:
    task = by_length(tmp_path, [2, 1, 2, 2, 1])
    sure = [[0.0, 3.0], [3.0, 0.0]]
    answers = {7 - n: sure[said] for n, said in enumerate([0, 1, 0, 0, 0])}
    # of class 1 one is right and one missed, of class 2 three are right, and one is named wrongly
    got = task.evaluate(Says(answers), "test", CPU)
    wrong = torch.tensor(3.0).exp().log1p().item()
    assert got["accuracy"] == pytest.approx(4 / 5)
    assert got["macro_f1"] == pytest.approx((2 * 1 / (2 * 1 + 0 + 1) + 2 * 3 / (2 * 3 + 1 + 0)) / 2)
    assert got["loss"] == pytest.approx((wrong + 4 * (wrong - 3)) / 5)
    never = task.evaluate(Says({7 - n: sure[0] for n in range(5)}), "test", CPU)
    assert never["macro_f1"] == pytest.approx((6 / 8 + 0) / 2)  # a class that is never named counts with 0


def test_exhibits_show_the_answers(tmp_path: Path) -> None:
    task = by_length(tmp_path, [2, 1, 2, 2, 1])
    answers = {7 - n: [0.0, 0.0 if n == 0 else 30.0] for n in range(5)}
    confusion, doubts = task.exhibits(Says(answers), CPU)
    assert isinstance(confusion, Counts)
    assert (confusion.rows, confusion.values) == (("1", "2"), [[0, 2], [1, 2]])
    assert isinstance(doubts, Passage)
    (one, dark), _, (two, half) = doubts.pieces
    assert one == "[1: 0%, 2: 100%] good good good good"
    assert two == "[2: 50%, 1: 50%] good good good good good"
    assert (dark, half) == pytest.approx((1, 0.5))


def test_evaluation_leaves_mode_and_gradients_alone() -> None:
    task = TextClass(train_size=50)
    model = task.build_model().eval()
    assert task.evaluate(model, "val", CPU) == task.evaluate(model, "val", CPU)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_initial_weights_come_from_the_global_generator() -> None:
    task = TextClass(train_size=50)

    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(task.build_model().parameters())

    assert weights(3).equal(weights(3))
    assert not weights(3).equal(weights(4))


def test_training_learns_which_words_are_good(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = TextClass(data=str(csv_file(tmp_path)), max_length=16, dropout=0)
    model = task.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    before = task.evaluate(model.eval(), "test", CPU)["loss"]
    for epoch in range(6):
        for batch in task.train_batches(8, epoch, CPU):
            optimizer.zero_grad()
            loss = task.loss(model, batch)
            assert loss.shape == ()
            loss.backward()
            optimizer.step()
    after = task.evaluate(model.eval(), "test", CPU)
    assert after["accuracy"] == 1
    assert after["loss"] < 0.5 * before


def test_dropout_drops() -> None:
    for dropout in (0.0, 0.5):
        task = TextClass(train_size=50, dropout=dropout)
        model, batch = task.build_model().train(), batches(task, 8)[0]
        assert (task.loss(model, batch) == task.loss(model, batch)).item() is (dropout == 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "pydoc-topic"}, "did you mean 'pydoc-topics'"),
        ({"model": "bert"}, "unknown model 'bert'; did you mean 'bert-"),
        ({"max_length": 2}, "max_length 2: write at least 3"),
        ({"vocabulary": 4}, "vocabulary 4: write at least 5"),
        ({"vocabulary": 0}, "vocabulary 0: write a whole number"),
        ({"train_size": 11}, "train size 11: write 12"),
        ({"train_size": 10**6}, "train size 1000000: write 12"),
        ({"dropout": 2}, "dropout 2: write a share"),
        ({"label_noise": -1}, "label_noise -1: write a share"),
        ({"max_len": 3}, "max_len is no option here; did you mean 'max_length'"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        TextClass(**options)
    assert "\n" not in str(caught.value)


def test_the_check_needs_no_task() -> None:
    assert check("pydoc-topics", "auto", {"max_length": "64", "checkpoint": None}).format == "topics"
    with pytest.raises(InputError, match="batch size 101: write 1 to 100"):
        TextClass(train_size=100).train_batches(101, 0, CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_are_the_same_on_a_gpu() -> None:
    task = TextClass(train_size=100)
    there = list(task.train_batches(32, 0, torch.device("cuda")))
    assert all(part.is_cuda for batch in there for part in batch)
    moved = [(tokens.cpu(), mask.cpu(), labels.cpu()) for tokens, mask, labels in there]
    assert equal(moved, batches(TextClass(train_size=100), 32))
    model = task.build_model().eval()
    here = TextClass(train_size=100).evaluate(model, "test", CPU)
    assert task.evaluate(model.cuda(), "test", torch.device("cuda")) == pytest.approx(here, rel=1e-3)


def test_held_out_texts_come_shortest_first() -> None:
    made = TextBatches({"test": [[1] * n for n in (3, 1, 2, 1)]}, pad=0)
    got = [(tokens.shape[1], numbers.tolist()) for (tokens, _), numbers in made.held_out("test", 2, CPU)]
    assert got == [(1, [1, 3]), (3, [2, 0])]
