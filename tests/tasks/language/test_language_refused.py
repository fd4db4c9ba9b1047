"""What is wrong with a request for language modelling is said in one line, and at once."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from switch_ema.bench.task import Shard
from switch_ema.errors import InputError
from switch_ema.tasks.language.options import check
from switch_ema.tasks.language.task import Language
from tests.conftest import Sema, loaded_after


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "pydocs"}, "unknown data set, text file or folder 'pydocs'; did you mean 'pydoc'"),
        ({"model": "lstmm"}, "unknown model 'lstmm'; did you mean 'lstm'"),
        ({"level": "char"}, "level char: write one of byte, word"),
        ({"contxt": 3}, "contxt is no option here; did you mean 'context'"),
        ({"context": 0}, "context 0: write a whole number of at least 1"),
        ({"dropout": 1}, "dropout 1: write a rate from 0 to below 1"),
        ({"weight_dropout": 1.5}, "weight_dropout 1.5: write a share"),
        ({"heads": 2}, r"heads is of no use to lstm; leave it out \(it belongs to gpt, gpt2\)"),
        ({"model": "gpt", "weight_dropout": 0.1}, "weight_dropout is of no use to gpt; .*lstm, awd-lstm"),
        ({"model": "gpt", "heads": 3}, "heads 3: write a divisor of the width, 128"),
        ({"vocabulary": 100}, "vocabulary 100: there are 256 bytes; leave it out, or level word"),
        ({"min_count": 3, "level": "byte"}, "min_count 3: there are 256 bytes"),
        ({"adaptive_softmax": True}, "adaptive_softmax true: there are 256 bytes"),
        (
            {"adaptive_softmax": True, "level": "word", "embedding": 8},
            "it needs 16 features or more, the network has 8",
        ),
        ({"model": "gpt", "checkpoint": "nowhere"}, "checkpoint nowhere: no config.json"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_read(options: dict[str, Any], words: str) -> None:
    request = {"data": "pydoc", "model": "lstm", **options}
    rest = {name: value for name, value in request.items() if name not in ("data", "model")}
    with pytest.raises(InputError, match=words) as caught:
        check(request["data"], request["model"], rest)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=words):
        Language(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_size": 10**6}, r"train_size 1000000: write 1 to \d+, the examples of 64 tokens"),
        ({"context": 10**6}, "the training text has [0-9,]+ tokens, too few for a context of 1000000; write context"),
        ({"level": "word", "vocabulary": 2}, "vocabulary 2: write at least 3"),
        ({"level": "word", "vocabulary": 5, "adaptive_softmax": True}, "adaptive_softmax true: 5 words are too few"),
    ],
)
def test_what_does_not_fit_the_text_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Language(**options).build_model()


@pytest.mark.parametrize(
    ("size", "shard", "words"),
    [
        (0, Shard(), "batch size 0: write 1 to 20"),
        (21, Shard(), "batch size 21: write 1 to 20"),
        (10, Shard(0, 4), "batch size 10: write a multiple of 4"),
    ],
)
def test_bad_batch_size_is_refused_at_the_call(size: int, shard: Shard, words: str) -> None:
    import torch

    with pytest.raises(InputError, match=words):
        Language(train_size=20).train_batches(size, 0, torch.device("cpu"), shard)


def compare(sema: Sema, path: Path, *arguments: object) -> str:
    answer = sema("compare", "language", "--epochs", 1, "--seeds", 1, "--out", path / "out", *arguments)
    assert answer.code == 2
    lines = [line for line in answer.err.splitlines() if not line.startswith("results go to")]
    assert len(lines) == 1, answer.err
    return lines[0]


def test_users_see_one_line(sema: Sema, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"a word or two\n" * 200 + b"\xff\n" * 3)
    assert "text: byte 2800 is not UTF-8" in compare(sema, tmp_path, "--data", text, "--level", "word")
    text.write_bytes(b"")
    assert "text: the file is empty" in compare(sema, tmp_path, "--data", text)
    text.write_bytes(b"short text, " * 10)
    assert "too few for a context of 64; write context 5" in compare(sema, tmp_path, "--data", text)
    text = tmp_path / "longer"  # a file is read once
    text.write_bytes(b"somewhat longer text, " * 20)
    assert "batch" in compare(sema, tmp_path, "--data", text)
    assert "--weight-dropout 1: write a rate" in compare(sema, tmp_path, "--weight-dropout", 1)
    assert "no config.json" in compare(sema, tmp_path, "--model", "gpt", "--checkpoint", tmp_path)


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def find_all_but_one(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "transformers" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_one)
    with pytest.raises(InputError, match=r"model gpt needs transformers.*pip install \"switch-ema\[bench\]\""):
        check("pydoc", "gpt", {})
    check("pydoc", "lstm", {})


def test_a_check_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "from switch_ema.tasks.catalog import check; check('language', 'pydoc', 'gpt', {'level': 'word'})"
    assert not loaded_after(code, tmp_path) & {"torch", "numpy", "transformers"}
