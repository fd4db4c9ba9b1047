"""The Trainer callback with models of transformers and adapters of PEFT: what save_pretrained writes, and resume."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, set_seed

from switch_ema import EMA, SwitchEMA
from tests.integrations.test_transformers import averaged, trainer_of

# PEFT asks transformers 5 by a name that is going away
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
ROWS = [{"input_ids": torch.arange(i, i + 6) % 16, "labels": torch.arange(i, i + 6) % 16} for i in range(24)]


def gpt() -> GPT2LMHeadModel:
    set_seed(1)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 8, "vocab_size": 16}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def with_adapter() -> nn.Module:
    model: nn.Module = get_peft_model(gpt(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    return model


def trained(folder: Path, model: nn.Module, method: Any, resume: str | None = None, **options: Any) -> Any:
    trainer = trainer_of(folder, model, ROWS, ROWS, num_train_epochs=2, save_strategy="epoch", **options)
    averaging = averaged(trainer, method, copy_at_end=False)
    set_seed(2)
    trainer.train(resume_from_checkpoint=resume)
    return averaging


def test_the_averaged_model_is_saved_as_from_pretrained_reads_it(tmp_path: Path) -> None:
    averaging = trained(tmp_path, gpt(), partial(EMA, decay=0.9))
    averaging.save_pretrained(tmp_path / "averaged")
    loaded = GPT2LMHeadModel.from_pretrained(tmp_path / "averaged")
    expected = averaging.averager.averaged_state_dict()
    live = averaging.averager.model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name])
    assert not torch.equal(live["lm_head.weight"], expected["lm_head.weight"])
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


def test_only_the_adapter_is_averaged_and_saved(tmp_path: Path) -> None:
    averaging = trained(tmp_path, with_adapter(), partial(EMA, decay=0.9), learning_rate=0.1)
    averages = averaging.averager.state_dict()["averages"]
    assert len(averages) == 2
    assert all("lora" in name for name in averages)
    averaging.save_pretrained(tmp_path / "averaged")
    loaded = PeftModel.from_pretrained(gpt(), tmp_path / "averaged").state_dict()
    for name, average in averages.items():
        assert torch.equal(loaded[name], average)
        assert not torch.equal(averaging.averager.model.state_dict()[name], average)
    adapter = load_file(tmp_path / "checkpoint-6" / "adapter_model.safetensors")  # what is trained
    for name, value in averaging.averager.model.state_dict().items():
        if name in averages:
            assert torch.equal(adapter[name.replace(".default", "")], value)


def test_a_method_may_choose_parameters_itself(tmp_path: Path) -> None:
    method = partial(EMA, decay=0.9, parameters="*lora_B*")
    assert len(trained(tmp_path, with_adapter(), method).averager.state_dict()["averages"]) == 1
    plain = trained(tmp_path, with_adapter(), lambda model: EMA(model, decay=0.9, parameters="*lora_A*"))
    assert len(plain.averager.state_dict()["averages"]) == 1


def test_an_adapter_resumes(tmp_path: Path) -> None:
    method = partial(SwitchEMA, decay=0.8, switch_every="1 epoch")
    whole = trained(tmp_path / "whole", with_adapter(), method)
    resumed = trained(tmp_path / "parts", with_adapter(), method, resume=str(tmp_path / "whole" / "checkpoint-3"))
    for name, value in whole.averager.model.state_dict().items():
        assert torch.equal(resumed.averager.model.state_dict()[name], value)
    assert resumed.averager.n_switches == 2
