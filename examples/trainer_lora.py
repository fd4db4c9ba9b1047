"""Averaging a LoRA adapter in the Hugging Face Trainer, and saving the averaged adapter as PEFT loads it.

Run it with `python examples/trainer_lora.py`; it takes a few seconds on a CPU and downloads nothing.
"""

import tempfile
import warnings
from functools import partial

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from switch_ema import EMA
from switch_ema.integrations.transformers import WeightAveragingCallback


def base() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 16, "vocab_size": 32}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def main() -> int:
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # in PEFT itself
    adapted = get_peft_model(base(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    data = [{"input_ids": torch.arange(i, i + 8) % 32, "labels": torch.arange(i, i + 8) % 32} for i in range(32)]
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"report_to": [], "disable_tqdm": True, "save_strategy": "no", "use_cpu": True}
        arguments = TrainingArguments(folder, num_train_epochs=2, learning_rate=0.1, **quiet)
        trainer = Trainer(adapted, arguments, train_dataset=data)
        averaging = WeightAveragingCallback(partial(EMA, decay=0.5)).attach(
            trainer
        )  # added: only the adapter is averaged
        trainer.train()
        averaging.save_pretrained(f"{folder}/averaged")
        loaded = PeftModel.from_pretrained(base(), f"{folder}/averaged")
    averages = averaging.averager.state_dict()["averages"]
    saved = {name.replace(".default", ""): value for name, value in loaded.state_dict().items() if "lora" in name}
    assert saved.keys() == {name.replace(".default", "") for name in averages}  # nothing of the frozen model
    assert all(torch.equal(saved[name.replace(".default", "")], average) for name, average in averages.items())
    print(f"averaged {len(averages)} tensors of the adapter, over {averaging.averager.n_averaged} steps")
    return len(averages)


if __name__ == "__main__":
    assert main() == 2
