"""Checkpoint folders of transformers are gone on from, and refused in one line where they do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, PreTrainedTokenizerFast

from switch_ema.tasks.textclass.task import TextClass
from tests.conftest import Sema

CPU = torch.device("cpu")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "type", "of", "a", "string"]
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def save(folder: Path, kind: type[Any] = BertForSequenceClassification, **config: Any) -> Path:
    """Save a tiny BERT and a tokenizer of nine words."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    sizes = {**SIZES, "vocab_size": len(WORDS), "max_position_embeddings": 20, **config}
    kind(BertConfig(**sizes)).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    torch.manual_seed(0)
    saved = save(tmp_path / "tiny-bert", num_labels=12)
    capfd.readouterr()  # the library shows that it saves
    return saved


def made(folder: Path, **options: Any) -> TextClass:
    return TextClass(checkpoint=str(folder), train_size=50, **options)


def test_training_goes_on_from_the_folder(folder: Path) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    task = made(folder)
    assert torch.get_rng_state().equal(state)
    assert task.model == "tiny-bert"
    model = task.build_model()
    assert model.training
    saved = load_file(folder / "model.safetensors")
    assert saved.keys() == dict(model.named_parameters()).keys()
    assert all(value.equal(saved[name]) for name, value in model.named_parameters())
    tokens, mask, _ = next(task.train_batches(10, 0, CPU))
    assert tokens.shape[1] == 20
    assert tokens[:, 0].tolist() == [2] * 10
    assert ((tokens == 0) == (mask == 0)).all()
    assert task.loss(model, (tokens, mask, torch.zeros(10).long())).isfinite()
    assert 0 <= task.evaluate(model.eval(), "val", CPU)["accuracy"] <= 1
    assert next(made(folder, max_length=9).train_batches(10, 0, CPU))[0].shape == (10, 9)


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForSequenceClassification])
def test_another_head_is_replaced(kind: type[Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    folder = save(tmp_path / "x", kind)
    capfd.readouterr()
    task = made(folder)
    torch.manual_seed(1)
    first, second = task.build_model(), task.build_model()
    saved = load_file(folder / "model.safetensors")
    for name, value in first.named_parameters():
        if name.startswith("bert.") and "pooler" not in name:
            assert value.equal(saved[name])
    heads = [dict(model.named_parameters())["classifier.weight"] for model in (first, second)]
    assert heads[0].shape == (12, 8)
    assert not heads[0].equal(heads[1])
    assert capfd.readouterr() == ("", "")


def test_weights_are_read_in_32_bits(folder: Path) -> None:
    weights = folder / "model.safetensors"
    save_file({name: value.bfloat16() for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    rewrite(folder, dtype="bfloat16")
    assert {value.dtype for value in made(folder).build_model().parameters()} == {torch.float32}


def rewrite(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def without(folder: Path, *names: str) -> None:
    weights = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(weights).items() if name not in names}
    save_file(kept, weights, {"format": "pt"})


def without_padding(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    config = {name: value for name, value in json.loads(file.read_text()).items() if name != "pad_token"}
    file.write_text(json.dumps(config))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "tiny-bert: no such folder; it should hold config.json, model.safetensors and a"),
    "no config": (lambda f: (f / "config.json").unlink(), "tiny-bert: no config.json in it, or an empty one"),
    "empty config": (lambda f: (f / "config.json").write_text(""), "tiny-bert: no config.json in it, or an empty one"),
    "bad config": (lambda f: shorten(f / "config.json"), "config.json: cannot be read ("),
    "config of nothing": (lambda f: (f / "config.json").write_text("{}"), "config.json: names no model_type"),
    "unknown type": (lambda f: rewrite(f, model_type="bret"), "tiny-bert: cannot be read ("),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors in it, or an empty one"),
    "pickled weights": (pickled, "its weights are pickled, and a pickle may run any code; save them as model.safet"),
    "short weights": (lambda f: shorten(f / "model.safetensors"), "tiny-bert: cannot be read ("),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer in it, such as tokenizer.json"),
    "bad tokenizer": (lambda f: shorten(f / "tokenizer.json"), "tiny-bert: cannot be read ("),
    "no padding token": (without_padding, "its tokenizer has no padding token; set one and save the tokenizer again"),
    "small vocabulary": (
        lambda f: rewrite(f, vocab_size=7),
        "the vocabularies do not fit: the tokenizer has tokens up to number 8, config.json says vocab_size 7",
    ),
    "large vocabulary": (
        lambda f: rewrite(f, vocab_size=10),
        f"1 weights are missing or not of the size that config.json says, such as {EMBEDDINGS}",
    ),
    "missing weights": (lambda f: without(f, EMBEDDINGS), "1 weights are missing or not of the size that config.j"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_a_folder_that_does_not_fit_is_refused(case: str, sema: Sema, folder: Path, tmp_path: Path) -> None:
    damage, words = DAMAGE[case]
    damage(folder)
    refused(sema, folder, tmp_path, words)


def refused(sema: Sema, folder: Path, tmp_path: Path, words: str, *more: object) -> None:
    common = ("--epochs", 1, "--seeds", 1, "--out", tmp_path / "out")
    answer = sema("compare", "textclass", "--checkpoint", folder, *common, *more)
    assert answer.code == 2, answer.err
    *before, last = answer.err.splitlines()
    assert words in last
    assert len(before) <= 1, answer.err  # where the results go


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--max-length", 21), "max_length 21: the checkpoint takes at most 20 tokens; write that"),
        (("--vocabulary", 100), "vocabulary 100: the checkpoint brings its own tokenizer; leave one out"),
        (("--dropout", 0.2), "dropout 0.2: the checkpoint brings its own dropout; leave one out"),
        (("--model", "bert-small"), "model bert-small: the checkpoint brings its own network; leave one out"),
    ],
)
def test_what_does_not_go_with_a_checkpoint(
    more: tuple[object, ...], words: str, sema: Sema, folder: Path, tmp_path: Path
) -> None:
    refused(sema, folder, tmp_path, words.split(":")[1], *more)
