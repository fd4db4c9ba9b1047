"""The problems on which a study asks its question: the one asked for, and beside embedded data what a CPU can add."""

from __future__ import annotations

from typing import Any

from switch_ema.bench.settings import Settings
from switch_ema.bench.studies.labels import SHARE
from switch_ema.bench.studies.study import vary

ASKED, WRONG_LABELS, NUMBERS, POINTS, CONVOLUTIONS = "asked", "wrong-labels", "numbers", "points", "convolutions"


def problems(base: Settings) -> dict[str, tuple[str, Settings]]:
    """Return title and settings of every problem by name.

    Args:
        base: The settings asked for.
    """
    found = {ASKED: (f"{base.model} on {base.data}", base)}
    if base.task == "classification" and not {"label_noise", "label_file"} & set(base.task_options):
        wrong = f"{100 * SHARE:.0f} % wrong labels"
        found[WRONG_LABELS] = (f"{base.model} on {base.data}, {wrong}", vary(base, {"label_noise": SHARE}))
        if (base.data, base.model) == ("digits", "mlp"):
            found |= {
                NUMBERS: ("progress of diabetes", _other(base, 1, task="regression", data="diabetes", model="auto",
                                                         lr=(0.003,), batch_size=16)),
                POINTS: ("moons, 50 labels", _other(base, 2, task="points", data="moons", model="points-mlp",
                                                    lr=(0.01,), batch_size=5)),
                CONVOLUTIONS: (
                    f"small-resnet on digits, {wrong}",
                    vary(base, {"label_noise": SHARE}, model="small-resnet", epochs=max(1, base.epochs * 2 // 5)),
                ),
            }  # fmt: skip
    return found


def _other(base: Settings, times: int, **changes: Any) -> Settings:
    """Return settings of another task, by AdamW, for so many times the epochs."""
    return vary(base, optimizer="adamw", weight_decay=0.01, epochs=times * base.epochs, **changes)
