"""GPT is the GPT-2 of transformers, from a configuration or a checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")

from switch_ema.errors import InputError  # noqa: E402
from switch_ema.tasks.language.gpt import GPT  # noqa: E402
from switch_ema.tasks.language.options import check  # noqa: E402
from switch_ema.tasks.language.task import Language  # noqa: E402

SMALL: dict[str, Any] = {"context": 8, "layers": 1, "width": 16, "heads": 2}


def saved(path: Path, vocabulary: int = 256, positions: int = 8) -> Path:
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_positions=positions, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(1)
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    return path


def test_the_loss_is_that_of_transformers(tmp_path: Path) -> None:
    theirs = transformers.GPT2LMHeadModel.from_pretrained(saved(tmp_path, positions=9)).eval()
    task = Language(model="gpt", checkpoint=str(tmp_path), context=8)
    ours = task.build_model().eval()
    tokens = torch.randint(256, (3, 9), generator=torch.Generator().manual_seed(0))
    losses = task.loss(ours, (tokens[:, :-1], tokens[:, 1:]))
    assert losses.item() == pytest.approx(theirs(tokens, labels=tokens).loss.item(), rel=1e-5)
    said, _ = ours.predict(tokens[:, :-1])  # type: ignore[operator]
    assert said.allclose(theirs(tokens[:, :-1]).logits[:, -1].log_softmax(1), atol=1e-5)


def test_a_checkpoint_in_half_precision_is_trained_in_float32(tmp_path: Path) -> None:
    transformers.GPT2LMHeadModel.from_pretrained(saved(tmp_path)).bfloat16().save_pretrained(tmp_path)
    model = Language(model="gpt", checkpoint=str(tmp_path), context=8).build_model()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_every_parameter_is_there_once() -> None:
    torch.manual_seed(0)
    model = GPT(50, **SMALL)
    names = [name for name, _ in model.named_parameters()]
    assert names == [name for name in model.state_dict() if name in names]
    assert model.tied_weight() is model.net.wte.weight
    assert model.net.config._attn_implementation == "sdpa"
    adaptive = GPT(50, adaptive=True, **SMALL)
    tokens = torch.arange(8)[None]
    assert adaptive(tokens, tokens).shape == (1, 8)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    model = GPT(50, dropout=0.5, **SMALL)
    tokens = torch.arange(8)[None]
    assert not model.train()(tokens, tokens).equal(model(tokens, tokens))
    assert model.eval()(tokens, tokens).equal(model(tokens, tokens))


def test_sizes_are_those_of_gpt2() -> None:
    network = check("pydoc", "gpt2", {}).network
    with torch.device("meta"):
        model = GPT(50257, **network)
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808


def refused(**options: Any) -> str:
    with pytest.raises(InputError) as caught:
        Language(model="gpt", train_size=5, **options).build_model()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = str(saved(tmp_path / "c", vocabulary=300))
    assert "c: it knows 300 tokens, the text has 256" in refused(checkpoint=path, context=8)
    with pytest.raises(InputError, match="it knows 300 tokens, the text has 256"):
        check("pydoc", "gpt", {"checkpoint": path, "context": 8})  # before anything heavy is loaded
    words = Language(level="word").vocabulary_size
    assert f"c: it knows 300 tokens, the text has {words:,}" in refused(checkpoint=path, context=8, level="word")
    assert "context 64: the checkpoint" in refused(checkpoint=path)
    assert "width 32: the checkpoint decides it" in refused(checkpoint=path, context=8, width=32)
    assert "no config.json of transformers" in refused(checkpoint=str(tmp_path))
    assert "adaptive_softmax true: a checkpoint has its own" in refused(
        checkpoint=path, context=8, level="word", adaptive_softmax=True
    )


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "c")
    config = json.loads((path / "config.json").read_text())
    for change, words in (
        ({"n_embd": 32}, "cannot be read"),
        ({"n_layer": 2}, "and 11 other weights are missing"),
        ({"model_type": "bert"}, "model type 'bert'"),
    ):
        (path / "config.json").write_text(json.dumps({**config, **change}))
        assert words in refused(checkpoint=str(path), context=8)
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(b"no weights")
    assert "cannot be read" in refused(checkpoint=str(path), context=8)
    (path / "model.safetensors").unlink()
    assert "no weights in it" in refused(checkpoint=str(path), context=8)
