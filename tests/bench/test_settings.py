from __future__ import annotations

import pytest

from switch_ema.bench.settings import Settings
from switch_ema.errors import InputError

TASK = {"task": "classification", "data": "digits", "model": "mlp"}


def test_defaults_are_filled_in() -> None:
    assert Settings.of(**TASK).lr == (0.05,)
    assert Settings.of(**TASK, optimizer="adamw").lr == (0.001,)
    assert Settings.of(**TASK).warmup_epochs == 1
    assert Settings.of(**TASK, epochs=1).warmup_epochs == 0.5


def test_equal_settings_share_a_folder_and_others_do_not() -> None:
    assert Settings.of(**TASK).default_out() == Settings.of(**TASK).default_out()
    assert Settings.of(**TASK).default_out() != Settings.of(**TASK, epochs=31).default_out()


def test_the_folder_of_a_task_in_a_file_is_one_folder() -> None:
    out = Settings.of(**{**TASK, "task": "path/to/task.py:Mine", "data": "../data/a set"}).default_out()
    assert out.parent.name == "runs"
    assert out.name.startswith("task.py-Mine-a-set-")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, r"epochs 0: input should be greater than or equal to 1"),
        ({"schedule": "cosin"}, r"schedule 'cosin': input should be 'cosine', 'constant', 'step', 'onecycle' or 'wsd'"),
        ({"lr": (0.1, 0.1)}, r"lr names 0.1 twice"),
        ({"lr": (-0.1,)}, r"lr -0.1: a learning rate is a number above 0"),
        ({"epochs": 2, "warmup_epochs": 3.0}, r"warmup_epochs 3 is longer than the 2 epochs"),
        ({"epoch": 2}, r"epoch is no setting; did you mean 'epochs'"),
        ({"momentum": 1.0}, r"momentum 1.0: input should be less than 1"),
    ],
)
def test_bad_values_are_refused_in_one_line(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        Settings.of(**TASK, **values)
    assert "\n" not in str(error.value)
